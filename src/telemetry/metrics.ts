/** Metrics on their way to the collector: read from whoever keeps them, so that there is one truth of them. */
import {
  type CollectionResult,
  MeterProvider,
  PeriodicExportingMetricReader,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import type { Clock } from '../core/clock.ts';
import type { Exporter } from './exporter.ts';
import { metricData } from './metric-data.ts';
import type { SignalCounts } from './settings.ts';
import { hrTime, type Origin } from './span-data.ts';
import type { ReadMetrics } from './telemetry.ts';

export interface MetricsParts {
  readonly read: ReadMetrics;
  readonly exporter: Exporter<ResourceMetrics>;
  readonly counts: SignalCounts;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly origin: Origin;
}

export const pointsIn = ({ scopeMetrics }: ResourceMetrics): number =>
  scopeMetrics.reduce(
    (sum, { metrics }) => metrics.reduce((part, { dataPoints }) => part + dataPoints.length, sum),
    0,
  );

/** `shutdown` tells them once more. */
export function startMetrics(parts: MetricsParts): { shutdown(): Promise<void> } {
  const { exporter, intervalMs, origin } = parts;
  const startTime = hrTime(parts.clock.now());
  const reader = new PeriodicExportingMetricReader({
    exporter: oneAtATime(exporter, parts.counts),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: intervalMs,
    metricProducers: [{ collect: () => collect(parts, startTime) }],
  });
  return new MeterProvider({ resource: origin.resource, readers: [reader] });
}

async function collect(
  { read, clock, origin }: MetricsParts,
  startTime: ReturnType<typeof hrTime>,
): Promise<CollectionResult> {
  const times = { startTime, endTime: hrTime(clock.now()) };
  const metrics = (await read()).flatMap((family) => metricData(family, times) ?? []);
  const scopeMetrics = [{ scope: origin.scope, metrics }];
  return { resourceMetrics: { resource: origin.resource, scopeMetrics }, errors: [] };
}

/** What grows is told whole every time: while one is repeated, the next can be left out. */
function oneAtATime(exporter: Exporter<ResourceMetrics>, counts: SignalCounts) {
  return {
    export(batch: ResourceMetrics, done: (result: { code: 0 }) => void) {
      const size = pointsIn(batch);
      if (counts.queued > 0 || size === 0) {
        counts.lost += size;
        done({ code: 0 });
        return;
      }
      counts.queued += size;
      exporter.export(batch, done);
    },
    forceFlush: () => exporter.forceFlush(),
    shutdown: () => exporter.shutdown(),
  };
}
