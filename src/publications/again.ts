/**
 * Tries again to undo what could not be undone: by a timer, less and less often, until it is gone or somebody has to be
 * told. What is left stands in the rows of publications, so that a start begins anew.
 */
import type { Alert } from '../alerts/schema.ts';
import { type Clock, HOUR, MINUTE, type Timer } from '../core/clock.ts';

/** Between attempts; with the last one over it is given up until the next call or start. */
export const UNDO_WAITS_MS = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR] as const;
const SOURCE = 'publications';

export interface Left {
  readonly hostname: string;
  /** With why. */
  readonly left: readonly string[];
}

export interface AgainParts {
  readonly clock: Clock;
  readonly alerts: { reconcile(source: string, current: readonly Alert[]): Promise<void> };
  /** Another attempt, which says by `later` or `done` how it went. Never rejects. */
  readonly attempt: (id: string) => Promise<void>;
  readonly report: (message: string, cause: unknown) => void;
}

export class Again implements AsyncDisposable {
  readonly #parts: AgainParts;
  readonly #waiting = new Map<string, { timer: Timer | undefined; attempts: number }>();
  readonly #givenUp = new Map<string, Left>();
  #running: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(parts: AgainParts) {
    this.#parts = parts;
  }

  /** By the timer; a call that failed in between changes nothing of when. */
  later(id: string, left: Left): void {
    if (this.#isClosed) return;
    const known = this.#waiting.get(id);
    if (known?.timer) return;
    const attempts = known?.attempts ?? 0;
    const waitMs = UNDO_WAITS_MS[attempts];
    if (waitMs === undefined) return this.#giveUp(id, left);
    const timer = this.#parts.clock.after(waitMs, () => {
      this.#waiting.set(id, { timer: undefined, attempts: attempts + 1 });
      this.#running = this.#running.then(() => (this.#isClosed ? undefined : this.#parts.attempt(id)));
    });
    this.#waiting.set(id, { timer, attempts });
  }

  /** Nothing of it is left, whoever did it. */
  done(id: string): void {
    this.#waiting.get(id)?.timer?.cancel();
    const wasKnown = this.#waiting.delete(id);
    if (this.#givenUp.delete(id) || wasKnown) this.#tell();
  }

  /** The start looked at all that is unfinished: what an earlier process had to tell is over where nothing is. */
  settledAll(): void {
    if (this.#waiting.size === 0) this.#tell();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    for (const { timer } of this.#waiting.values()) timer?.cancel();
    await this.#running;
  }

  #giveUp(id: string, left: Left): void {
    this.#waiting.delete(id);
    this.#givenUp.set(id, left);
    this.#tell();
  }

  #tell(): void {
    const { alerts, report } = this.#parts;
    const current = [...this.#givenUp].map(([id, left]) => alertOf(id, left));
    this.#running = this.#running
      .then(() => alerts.reconcile(SOURCE, current))
      .catch((cause: unknown) => report('an alert about publications is not told', cause));
  }
}

const alertOf = (id: string, { hostname, left }: Left): Alert => ({
  key: `publication.left/${id}`,
  stage: 1,
  code: 'publication.left',
  level: 'error',
  summary: `the publication of ${hostname} could not be undone and is not tried again: ${left.join('; ')}; call unpublish_service for it when that is mended`,
  hostname,
  facts: { publication: id, left },
});
