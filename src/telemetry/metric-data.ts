/** Families of numbers, as `src/metrics` tells them, as the SDK takes them: the same names, labels and buckets. */
import { type HrTime, ValueType } from '@opentelemetry/api';
import { AggregationTemporality, DataPointType, type MetricData } from '@opentelemetry/sdk-metrics';

interface NumberPoint {
  readonly labels: readonly string[];
  readonly value: number;
}

interface HistogramPoint {
  readonly labels: readonly string[];
  /** Not added up; the last one is above all bounds. */
  readonly buckets: readonly number[];
  readonly count: number;
  readonly sum: number;
}

/** By shape: telemetry knows no other noun. */
export interface MetricFamily {
  readonly name: string;
  readonly definition: { readonly help: string; readonly labels: readonly string[] } & (
    | { readonly type: 'counter' | 'gauge' }
    | { readonly type: 'histogram'; readonly bounds: readonly number[] }
  );
  readonly points: readonly (NumberPoint | HistogramPoint)[];
}

export interface Times {
  readonly startTime: HrTime;
  readonly endTime: HrTime;
}

/** Undefined: there is nothing to tell. */
export function metricData({ name, definition, points }: MetricFamily, times: Times): MetricData | undefined {
  if (points.length === 0) return undefined;
  const attributesOf = (labels: readonly string[]) =>
    Object.fromEntries(definition.labels.map((label, place) => [label, labels[place] ?? '']));
  const base = {
    descriptor: { name, description: definition.help, unit: '', valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  if (definition.type === 'histogram') {
    const { bounds } = definition;
    const dataPoints = points.filter(isHistogram).map(({ labels, buckets, count, sum }) => ({
      ...times,
      attributes: attributesOf(labels),
      value: { count, sum, buckets: { boundaries: [...bounds], counts: [...buckets] } },
    }));
    return { ...base, dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = points
    .filter(isNumber)
    .map(({ labels, value }) => ({ ...times, attributes: attributesOf(labels), value }));
  return definition.type === 'counter'
    ? { ...base, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
    : { ...base, dataPointType: DataPointType.GAUGE, dataPoints };
}

const isHistogram = (point: NumberPoint | HistogramPoint): point is HistogramPoint => 'buckets' in point;
const isNumber = (point: NumberPoint | HistogramPoint): point is NumberPoint => 'value' in point;
