/** Numbers under a name, as plain data: whoever tells them to the world (text for Prometheus, OTLP) reads these. */
import { catalog, type Definition, type MetricName } from './catalog.ts';

/** `labels`: their values, in the order in which the definition names them. */
export interface Point {
  readonly labels: readonly string[];
  readonly value: number;
}

export interface HistogramPoint {
  readonly labels: readonly string[];
  /** How many fell below each bound and above the one before it, and at the end how many above all. Not added up. */
  readonly buckets: readonly number[];
  readonly count: number;
  readonly sum: number;
  /** One for each bucket that has one. */
  readonly exemplars: readonly (Exemplar | undefined)[];
}

/** One that was counted, to look at. */
export interface Exemplar {
  readonly traceId: string;
  readonly value: number;
  /** Milliseconds since 1970. */
  readonly at: number;
}

export type Family =
  | {
      readonly name: MetricName;
      readonly definition: Definition & { readonly type: 'counter' | 'gauge' };
      readonly points: readonly Point[];
    }
  | {
      readonly name: MetricName;
      readonly definition: Definition & { readonly type: 'histogram' };
      readonly points: readonly HistogramPoint[];
    };

type PointOf<Name extends MetricName> = (typeof catalog)[Name]['type'] extends 'histogram'
  ? HistogramPoint
  : Point;

/** What the catalogue says of it, with these points. */
export function family<Name extends MetricName>(name: Name, points: readonly PointOf<Name>[]): Family {
  // The type of the points follows from the name, which the compiler does not see behind a generic one.
  return { name, definition: catalog[name], points } as Family;
}

type Numbers = {
  [Name in MetricName]: (typeof catalog)[Name]['type'] extends 'histogram' ? never : Name;
}[MetricName];

/** A number that stands alone. */
export const one = (name: Numbers, value: number): Family => ({
  name,
  definition: catalog[name],
  points: [{ labels: [], value }],
});
