/**
 * The process under it all: names as other programs on Node have them, so that dashboards for those show this one too.
 * Watches collections and the event loop from the moment it is made.
 */
import { readdir, readFile } from 'node:fs/promises';
import { constants, monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { catalog } from './catalog.ts';
import { type Family, family, one } from './family.ts';
import { Timings } from './tally.ts';

const RESOLUTION_MS = 20;
const NANOSECONDS = 1e9;
const MICROSECONDS = 1e6;
const MS_PER_SECOND = 1000;

const collections = new Map<number, string>([
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
]);

export class RuntimeWatch implements Disposable {
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #pauses = new Timings(catalog.nodejs_gc_duration_seconds.bounds);
  readonly #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) this.#pauses.add(entry.duration, kindOf(entry));
  });

  constructor() {
    this.#delay.enable();
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  async families(): Promise<Family[]> {
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
    return [
      one('process_start_time_seconds', performance.timeOrigin / MS_PER_SECOND),
      one('process_cpu_seconds_total', (user + system) / MICROSECONDS),
      one('process_cpu_user_seconds_total', user / MICROSECONDS),
      one('process_cpu_system_seconds_total', system / MICROSECONDS),
      one('process_resident_memory_bytes', rss),
      one('nodejs_heap_size_used_bytes', heapUsed),
      one('nodejs_heap_size_total_bytes', heapTotal),
      one('nodejs_external_memory_bytes', external),
      ...(await fileFamilies()),
      ...this.#loopFamilies(),
      family('nodejs_gc_duration_seconds', this.#pauses.points()),
    ];
  }

  /** Of garbage, since it was made. */
  collections(): { kind: string; count: number; totalMs: number }[] {
    return this.#pauses
      .points()
      .map(({ labels: [kind = 'other'], count, sum }) => ({ kind, count, totalMs: sum * MS_PER_SECOND }));
  }

  /** Since it was last told. The histogram holds the time between samples; what is above the resolution is delay. */
  #loopFamilies(): Family[] {
    const delay = (nanoseconds: number) =>
      Math.max(0, nanoseconds / NANOSECONDS - RESOLUTION_MS / MS_PER_SECOND) || 0;
    const { mean, max } = this.#delay;
    const families = [
      one('nodejs_eventloop_lag_mean_seconds', delay(mean)),
      one('nodejs_eventloop_lag_p50_seconds', delay(this.#delay.percentile(50))),
      one('nodejs_eventloop_lag_p90_seconds', delay(this.#delay.percentile(90))),
      one('nodejs_eventloop_lag_p99_seconds', delay(this.#delay.percentile(99))),
      one('nodejs_eventloop_lag_max_seconds', delay(max)),
    ];
    this.#delay.reset();
    return families;
  }

  [Symbol.dispose](): void {
    this.#delay.disable();
    this.#observer.disconnect();
  }
}

/** Node's types of an entry leave `detail` out. */
function kindOf(entry: object): string {
  const detail = 'detail' in entry ? entry.detail : undefined;
  const kind = typeof detail === 'object' && detail !== null && 'kind' in detail ? detail.kind : undefined;
  return (typeof kind === 'number' ? collections.get(kind) : undefined) ?? 'other';
}

const OPEN_FILES = '/proc/self/fd';
const LIMITS = '/proc/self/limits';

/** Of Linux; elsewhere nothing is told of them. */
async function fileFamilies(): Promise<Family[]> {
  try {
    const [open, limits] = await Promise.all([readdir(OPEN_FILES), readFile(LIMITS, 'utf8')]);
    const [, soft] = /^Max open files\s+(\d+)/m.exec(limits) ?? [];
    return [
      one('process_open_fds', open.length),
      ...(soft === undefined ? [] : [one('process_max_fds', Number(soft))]),
    ];
  } catch {
    // There is no such folder, or it is not for us.
    return [];
  }
}
