/**
 * Tells who follows the log as a resource (`ohp://logs`, or with a filter) that there is something new for them: what
 * `tail_logs` looks for within one call, looked for as long as somebody follows. Each is looked for as its own
 * principal, so that nobody hears of records which they may not read. Made by `app.ts`.
 */
import { type Clock, SECOND } from '../core/clock.ts';
import type { Principal } from '../core/principal.ts';
import type { LogService } from './service.ts';
import type { LogSink } from './sink.ts';
import { LATE_MS } from './tail.ts';

/** Of many records at once whoever follows hears once. */
export const NEWS_EVERY_MS = 2 * SECOND;

interface Follower {
  readonly uri: string;
  readonly principal: Principal;
  readonly raw: Readonly<Record<string, string>>;
  readonly tell: () => void;
}

export interface LogNewsParts {
  readonly clock: Clock;
  readonly sink: Pick<LogSink, 'stats'>;
  readonly logs: Pick<LogService, 'lookFrom'>;
  /** Who follows now, and may. */
  readonly followers: () => readonly Follower[];
}

export class LogNews implements Disposable {
  readonly #parts: LogNewsParts;
  readonly #ended = new AbortController();
  /** Records that each has been told of, of those that a look still finds. */
  #seen = new Map<string, ReadonlySet<string>>();
  #lookedAt: number;
  #accepted = -1;
  #isLooking = false;
  readonly #timer;

  constructor(parts: LogNewsParts) {
    this.#parts = parts;
    this.#lookedAt = parts.clock.now();
    this.#timer = parts.clock.every(NEWS_EVERY_MS, () => void this.look());
  }

  /** One look at a time: when many follow much, each hears less often. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    const { clock, sink, followers } = this.#parts;
    const { written, queued, dropped } = sink.stats();
    const accepted = written + queued + dropped;
    const [from, now] = [this.#lookedAt - LATE_MS, clock.now()];
    const isSame = accepted === this.#accepted;
    this.#accepted = accepted;
    this.#lookedAt = now;
    if (isSame) return;
    this.#isLooking = true;
    try {
      const seen = new Map<string, ReadonlySet<string>>();
      for (const [key, group] of grouped(followers())) seen.set(key, await this.#tell(key, group, from));
      this.#seen = seen;
    } finally {
      this.#isLooking = false;
    }
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
    this.#ended.abort();
  }

  async #tell(key: string, group: readonly Follower[], from: number): Promise<ReadonlySet<string>> {
    const before = this.#seen.get(key) ?? new Set<string>();
    const [first] = group;
    if (!first) return before;
    const asking = { principal: first.principal, signal: this.#ended.signal };
    // A filter that is none, or a log that can't be read now: the next read says so.
    const found = await this.#parts.logs.lookFrom(first.raw['filter'], from, asking).catch(() => undefined);
    if (!found) return before;
    const ids = found.map(({ id }) => id);
    if (ids.some((id) => !before.has(id))) for (const { tell } of group) tell();
    return new Set(ids);
  }
}

/** Who follows the same in several connections is looked for once. */
function grouped(followers: readonly Follower[]): Map<string, Follower[]> {
  const groups = new Map<string, Follower[]>();
  for (const follower of followers) {
    const key = JSON.stringify([follower.principal.id, follower.principal.hostnames, follower.uri]);
    groups.set(key, [...(groups.get(key) ?? []), follower]);
  }
  return groups;
}
