/** How long work waits for the event loop, and how busy that is, over the last one to two minutes. For `health_check`, `get_diagnostics` and the metrics: one measurement, of which no reading takes anything from another. Measures from when it is made until it is disposed of. */
import { type EventLoopUtilization, monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { type Clock, MINUTE } from '../core/clock.ts';

const RESOLUTION_MS = 20;
/** The delay is told for the last one to two of these. */
const WINDOW_MS = MINUTE;
const NANOSECONDS_PER_MS = 1e6;

export interface LoopState {
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Share of the time in which it did something, 0 to 1. */
  readonly utilisation: number;
}

type Delay = ReturnType<typeof monitorEventLoopDelay>;

interface Window {
  readonly delay: Delay;
  readonly busyBefore: EventLoopUtilization;
}

export class EventLoopWatch implements Disposable {
  #current = startWindow();
  #earlier = this.#current;
  readonly #rotation;

  constructor(clock: Clock) {
    this.#rotation = clock.every(WINDOW_MS, () => {
      this.#earlier = this.#current;
      this.#earlier.delay.disable();
      this.#current = startWindow();
    });
  }

  /** The worse of two windows. */
  state(): LoopState {
    const worse = (of: (delay: Delay) => number) =>
      Math.max(0, ...[this.#earlier, this.#current].map(({ delay }) => delayOf(of(delay)) || 0));
    return {
      // NaN before the first sample.
      meanMs: worse(({ mean }) => mean),
      p50Ms: worse((delay) => delay.percentile(50)),
      p90Ms: worse((delay) => delay.percentile(90)),
      p99Ms: worse((delay) => delay.percentile(99)),
      maxMs: worse(({ max }) => max),
      utilisation: performance.eventLoopUtilization(this.#earlier.busyBefore).utilization,
    };
  }

  [Symbol.dispose](): void {
    this.#rotation.cancel();
    this.#current.delay.disable();
  }
}

function startWindow(): Window {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  return { delay, busyBefore: performance.eventLoopUtilization() };
}

/** The histogram holds the time between samples; what is above the resolution is delay. */
const delayOf = (nanoseconds: number): number => nanoseconds / NANOSECONDS_PER_MS - RESOLUTION_MS;
