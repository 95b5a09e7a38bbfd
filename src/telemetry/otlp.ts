/**
 * The SDK of OpenTelemetry with our exporter behind it. Loaded by `telemetry.ts` where something is to be sent, and by
 * nobody else. A bound of ours stands before the queues of the SDK, which drop in silence.
 */
import { createContextKey, ROOT_CONTEXT, type SpanContext, TraceFlags } from '@opentelemetry/api';
import {
  ProtobufLogsSerializer,
  ProtobufMetricsSerializer,
  ProtobufTraceSerializer,
} from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchLogRecordProcessor,
  LoggerProvider,
  type LogRecordProcessor,
  type ReadableLogRecord,
} from '@opentelemetry/sdk-logs';
import type { ResourceMetrics } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace';
import { MINUTE, SECOND } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import type { SpanSink } from '../core/spans.ts';
import { Exporter, type ExporterParts } from './exporter.ts';
import { logData } from './log-data.ts';
import { pointsIn, startMetrics } from './metrics.ts';
import { Reports } from './reports.ts';
import { Sender } from './sender.ts';
import type { OtlpSettings, Signal, SignalCounts } from './settings.ts';
import { type Origin, SpanData } from './span-data.ts';
import type { ReadMetrics, Telemetry, TelemetryParts } from './telemetry.ts';

const SCOPE = 'oauth-https-proxy';
const BATCH_ITEMS = 512;
/** The exporter has shorter times of its own, and always answers. */
const EXPORT_MS = 30 * MINUTE;
/** At shutdown. */
const CLOSE_MS = 5 * SECOND;

type Flushed = { shutdown(): Promise<void> };

export function createTelemetry(parts: TelemetryParts): Telemetry {
  const { settings, version } = parts;
  const resource = resourceFromAttributes({ 'service.version': version, ...settings.attributes });
  const origin: Origin = { resource, scope: { name: SCOPE, version } };
  const outlet = new Outlet(parts);
  const spans = settings.traces ? openSpans(outlet, settings, origin) : undefined;
  const takeRecord = settings.logs ? openLogs(outlet, settings, origin) : undefined;
  return {
    spans,
    takeRecord,
    state: () => outlet.state(),
    tellMetrics: (read) => outlet.tellMetrics(read, origin),
    [Symbol.asyncDispose]: () => outlet.close(),
  };
}

/** What the signals share: who sends, who counts, and how it ends. */
class Outlet {
  readonly #parts: TelemetryParts;
  readonly #sender: Sender;
  readonly #reports: Reports;
  readonly #counts: Partial<Record<Signal, SignalCounts>> = {};
  readonly #flushed: Flushed[] = [];
  #isClosed = false;

  constructor(parts: TelemetryParts) {
    this.#parts = parts;
    this.#reports = new Reports(parts);
    const troubled = (signal: Signal, problem: string) =>
      this.#reports.hear(signal, problem, this.#counts[signal]?.lost ?? 0);
    this.#sender = new Sender({ ...parts, random: Math.random, troubled });
  }

  /** Ends before what it reads from does. */
  tellMetrics(read: ReadMetrics, origin: Origin): AsyncDisposable {
    const { settings, clock } = this.#parts;
    if (!settings.metrics) return { [Symbol.asyncDispose]: () => Promise.resolve() };
    const exporter = this.exporter<ResourceMetrics>('metrics', {
      serializer: ProtobufMetricsSerializer,
      sizeOf: pointsIn,
    });
    const counts = this.#countsOf('metrics');
    const intervalMs = settings.metricsIntervalMs;
    const metrics = startMetrics({ read, exporter, counts, intervalMs, clock, origin });
    return {
      [Symbol.asyncDispose]: async () => {
        this.#sender.hurry();
        await this.#inTime(metrics.shutdown());
      },
    };
  }

  #countsOf(signal: Signal): SignalCounts {
    return (this.#counts[signal] ??= { sent: 0, lost: 0, queued: 0 });
  }

  exporter<Batch>(
    signal: Signal,
    { serializer, sizeOf }: Pick<ExporterParts<Batch>, 'serializer' | 'sizeOf'>,
  ): Exporter<Batch> {
    const counts = this.#countsOf(signal);
    const heard = (problem: string | undefined) => this.#reports.hear(signal, problem, counts.lost);
    return new Exporter({ signal, serializer, sizeOf, counts, heard, sender: this.#sender });
  }

  /** Whether there is room for one more, which is counted either way. */
  admits(signal: Signal): boolean {
    const counts = this.#counts[signal];
    if (!counts || this.#isClosed) return false;
    const hasRoom = counts.queued < this.#parts.settings.queueItems;
    if (hasRoom) counts.queued++;
    else {
      counts.lost++;
      this.#reports.hear(signal, 'the queue is full', counts.lost);
    }
    return hasRoom;
  }

  flushes(flushed: Flushed): void {
    this.#flushed.push(flushed);
  }

  state() {
    return { counts: this.#counts, problem: this.#reports.problem };
  }

  /** Sends what is left, once, and waits for it within a bound. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#sender.hurry();
    const all = Promise.all(this.#flushed.map((each) => each.shutdown()));
    await this.#inTime(all);
    this.#sender.stop();
    await all;
  }

  async #inTime(work: Promise<unknown>): Promise<void> {
    const { clock, settings } = this.#parts;
    const late = Promise.withResolvers<void>();
    const timer = clock.after(Math.min(settings.timeoutMs, CLOSE_MS), late.resolve);
    await Promise.race([work, late.promise]);
    timer.cancel();
  }
}

const batching = ({ queueItems, intervalMs }: OtlpSettings) => ({
  maxQueueSize: queueItems,
  maxExportBatchSize: Math.min(BATCH_ITEMS, queueItems),
  scheduledDelayMillis: intervalMs,
  exportTimeoutMillis: EXPORT_MS,
});

function openSpans(outlet: Outlet, settings: OtlpSettings, origin: Origin): SpanSink {
  const exporter = outlet.exporter<ReadableSpan[]>('traces', {
    serializer: ProtobufTraceSerializer,
    sizeOf: ({ length }) => length,
  });
  const processor = new BatchSpanProcessor({ exporter, ...batching(settings) });
  outlet.flushes(processor);
  const isTaken = sampler(settings.samplingShare);
  return {
    samples: (traceId, caller) => caller?.isSampled ?? isTaken(traceId),
    take(span) {
      if (outlet.admits('traces')) processor.onEnd(new SpanData(span, origin));
    },
  };
}

/** Of the end of a trace id, which is random: whoever else decides by the same share decides the same. */
const RANDOM_AT = 19;
const RANDOM_VALUES = 2 ** 52;

function sampler(share: number): (traceId: string) => boolean {
  const least = (1 - share) * RANDOM_VALUES;
  return (traceId) => Number.parseInt(traceId.slice(RANDOM_AT), 16) >= least;
}

const PLACE = createContextKey('place in a trace');

function openLogs(outlet: Outlet, settings: OtlpSettings, origin: Origin): (record: LogRecord) => void {
  const exporter = outlet.exporter<ReadableLogRecord[]>('logs', {
    serializer: ProtobufLogsSerializer,
    sizeOf: ({ length }) => length,
  });
  const batch = new BatchLogRecordProcessor({ exporter, ...batching(settings) });
  const { scope, resource } = origin;
  const provider = new LoggerProvider({ resource, processors: [placing(batch)] });
  outlet.flushes(provider);
  const logger = provider.getLogger(scope.name, scope.version);
  return (record) => {
    if (!outlet.admits('logs')) return;
    const { time, trace_id: traceId, span_id: spanId = '' } = record;
    const place = { traceId, spanId, traceFlags: spanId === '' ? TraceFlags.NONE : TraceFlags.SAMPLED };
    const context = traceId === undefined ? ROOT_CONTEXT : ROOT_CONTEXT.setValue(PLACE, place);
    logger.emit({ timestamp: new Date(time), context, ...logData(record) });
  };
}

/** A record may know its trace and no span of it, which the protocol allows and a context of the SDK does not. */
const placing = (next: LogRecordProcessor): LogRecordProcessor => ({
  onEmit(record, context) {
    const place = context?.getValue(PLACE) as SpanContext | undefined;
    if (place) record.spanContext = place;
    next.onEmit(record, context);
  },
  forceFlush: () => next.forceFlush(),
  shutdown: () => next.shutdown(),
});
