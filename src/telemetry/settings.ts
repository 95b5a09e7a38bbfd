/** What is sent where, in the units of code. `app.settings.ts` makes it from the configuration. */
export interface OtlpSettings {
  /** Above `v1/traces`, `v1/logs` and `v1/metrics`. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** PEM of authorities, in the place of those of the system. */
  readonly ca: string | undefined;
  readonly traces: boolean;
  readonly logs: boolean;
  readonly metrics: boolean;
  /** 0 to 1, of the traces that begin here. */
  readonly samplingShare: number;
  /** Of the resource, `service.name` among them. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly metricsIntervalMs: number;
  /** Spans that may wait, and as many log records. */
  readonly queueItems: number;
}

export const signals = ['traces', 'logs', 'metrics'] as const;
export type Signal = (typeof signals)[number];

/** Since the start: of spans, of log records, of data points. */
export interface SignalCounts {
  /** Taken by the collector. */
  sent: number;
  /** Given up, or not taken by the collector. */
  lost: number;
  /** Waiting, or on their way. */
  queued: number;
}
