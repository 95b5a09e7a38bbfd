/** What the log is told of telemetry: that it fails, and that it works again; of each signal at most once a minute. */
import { MINUTE } from '../core/clock.ts';
import type { Signal } from './settings.ts';
import type { TelemetryParts } from './telemetry.ts';

interface Told {
  problem: string | undefined;
  /** That it failed was told, and when. */
  at: number | undefined;
  isTold: boolean;
}

export class Reports {
  readonly #parts: Pick<TelemetryParts, 'clock' | 'report'>;
  readonly #told = new Map<Signal, Told>();

  constructor(parts: Pick<TelemetryParts, 'clock' | 'report'>) {
    this.#parts = parts;
  }

  /** Of one of those that fail now. */
  get problem(): string | undefined {
    return [...this.#told]
      .flatMap(([signal, { problem }]) => (problem === undefined ? [] : [`${signal}: ${problem}`]))
      .at(-1);
  }

  /** @param lost of the signal, since the start */
  hear(signal: Signal, problem: string | undefined, lost: number): void {
    const told = this.#told.get(signal) ?? { problem: undefined, at: undefined, isTold: false };
    this.#told.set(signal, told);
    told.problem = problem;
    const now = this.#parts.clock.now();
    if (problem === undefined) {
      if (told.isTold)
        this.#parts.report('info', `${signal} reach the collector again; ${lost} were lost since the start`);
      told.isTold = false;
    } else if (!told.isTold && (told.at === undefined || now - told.at >= MINUTE)) {
      told.at = now;
      told.isTold = true;
      this.#parts.report('warn', `${signal} do not reach the collector: ${problem}`);
    }
  }
}
