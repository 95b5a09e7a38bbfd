/**
 * What this process counts, and what it looks up when somebody asks: told as families of numbers. Text of them is
 * `exposition.ts`, who may read it is decided by `endpoint.ts` (on the control hosts) and `listener.ts` (on a port of its
 * own). The composition root makes one and says what there is to look up.
 */
import type { Clock } from '../core/clock.ts';
import { SECOND } from '../core/clock.ts';
import { expose, type Format } from './exposition.ts';
import { type Family, family } from './family.ts';

/** What takes longer is not told this time. */
const SOURCE_TIMEOUT_MS = 2 * SECOND;

/** Looks up what is true now. What it can't find out it leaves out, or rejects. */
export type Source = () => readonly Family[] | Promise<readonly Family[]>;

export interface MetricsOptions {
  readonly clock: Clock;
  readonly sources: Readonly<Record<string, Source>>;
}

export class MetricsService {
  readonly #options: MetricsOptions;
  readonly #running = new Map<Format, Promise<string>>();

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  /** In the order of the sources. */
  async families(): Promise<Family[]> {
    const { sources } = this.#options;
    const all = Object.entries(sources);
    const found = await Promise.all(all.map(([, source]) => this.#inTime(source)));
    const points = all.map(([name], place) => ({ labels: [name], value: found[place] ? 1 : 0 }));
    return [...found.flatMap((families) => families ?? []), family('ohp_metrics_source_up', points)];
  }

  /** Who asks while it is being written gets the same. */
  text(format: Format): Promise<string> {
    const running = this.#running.get(format);
    if (running) return running;
    const writing = this.#write(format).finally(() => this.#running.delete(format));
    this.#running.set(format, writing);
    return writing;
  }

  async #write(format: Format): Promise<string> {
    return expose(await this.families(), format);
  }

  /** Undefined: it could not tell, which is told, and takes the numbers of no other part with it. */
  async #inTime(source: Source): Promise<readonly Family[] | undefined> {
    const late = Promise.withResolvers<undefined>();
    const timer = this.#options.clock.after(SOURCE_TIMEOUT_MS, () => late.resolve(undefined));
    try {
      return await Promise.race([source(), late.promise]);
    } catch {
      // `ohp_metrics_source_up` says so, and what is wrong with the part is told by `health_check`.
      return undefined;
    } finally {
      timer.cancel();
    }
  }
}
