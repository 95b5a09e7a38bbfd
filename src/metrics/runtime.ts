/**
 * The process under it all: names as other programs on Node have them, so that dashboards for those show this one too.
 * Watches collections from the moment it is made; the event loop is watched by another (`LoopDelay`).
 */
import { readdir, readFile } from 'node:fs/promises';
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { catalog } from './catalog.ts';
import { type Family, family, one } from './family.ts';
import { Timings } from './tally.ts';

const MICROSECONDS = 1e6;
const MS_PER_SECOND = 1000;

const collections = new Map<number, string>([
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
]);

/** How long turns of the event loop waited. Whoever reads it takes nothing from who reads it next: there may be several scrapers. */
export interface LoopDelay {
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export class RuntimeWatch implements Disposable {
  readonly #loop: () => LoopDelay;
  readonly #pauses = new Timings(catalog.nodejs_gc_duration_seconds.bounds);
  readonly #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) this.#pauses.add(entry.duration, kindOf(entry));
  });

  constructor(loop: () => LoopDelay) {
    this.#loop = loop;
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

  #loopFamilies(): Family[] {
    const { meanMs, p50Ms, p90Ms, p99Ms, maxMs } = this.#loop();
    return [
      one('nodejs_eventloop_lag_mean_seconds', meanMs / MS_PER_SECOND),
      one('nodejs_eventloop_lag_p50_seconds', p50Ms / MS_PER_SECOND),
      one('nodejs_eventloop_lag_p90_seconds', p90Ms / MS_PER_SECOND),
      one('nodejs_eventloop_lag_p99_seconds', p99Ms / MS_PER_SECOND),
      one('nodejs_eventloop_lag_max_seconds', maxMs / MS_PER_SECOND),
    ];
  }

  [Symbol.dispose](): void {
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
