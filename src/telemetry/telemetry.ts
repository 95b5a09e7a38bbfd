/**
 * Spans, log records and metrics on their way to an OpenTelemetry collector, besides being kept here. Nothing of
 * OpenTelemetry is loaded before `openTelemetry` is called, which `app.ts` does where an endpoint is set. Whoever gives
 * something is never waited for and never hears of a failure: what can't be kept or sent is counted, and told by
 * `health_check` and the log.
 */
import type { Clock } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import type { SpanSink } from '../core/spans.ts';
import type { MetricFamily } from './metric-data.ts';
import type { OtlpSettings, Signal, SignalCounts } from './settings.ts';

export interface TelemetryState {
  readonly counts: Readonly<Partial<Record<Signal, Readonly<SignalCounts>>>>;
  /** Why the last request of a signal failed; undefined when none of them did. */
  readonly problem: string | undefined;
}

export interface Telemetry extends AsyncDisposable {
  /** Undefined where spans are not sent. */
  readonly spans: SpanSink | undefined;
  /** Undefined where log records are not sent. */
  readonly takeRecord: ((record: LogRecord) => void) | undefined;
  state(): TelemetryState;
  /** What the metrics are, asked from now on until it is disposed of, which tells them once more. */
  tellMetrics(read: ReadMetrics): AsyncDisposable;
}

export type ReadMetrics = () => Promise<readonly MetricFamily[]>;

export interface TelemetryParts {
  readonly settings: OtlpSettings;
  readonly clock: Clock;
  /** Of this program. */
  readonly version: string;
  readonly fetch: typeof globalThis.fetch;
  /** Something is lost, or nothing is any more: for the log. */
  readonly report: (level: 'info' | 'warn', message: string) => void;
}

export async function openTelemetry(parts: TelemetryParts): Promise<Telemetry> {
  const { createTelemetry } = await import('./otlp.ts');
  return createTelemetry(parts);
}
