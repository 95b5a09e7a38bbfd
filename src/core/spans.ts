/**
 * What is recorded of a request for whoever follows its trace: spans, each begun where the work begins and written when
 * it is over. Nothing is made where nobody takes spans. Made by the gateway and `dispatch`; taken by `telemetry`.
 * @see {@link https://opentelemetry.io/docs/specs/otel/trace/api/ | OpenTelemetry, Tracing API}
 */
import { newSpanId } from './ids.ts';
import type { TraceContext } from './trace-context.ts';

export type SpanKind = 'server' | 'client' | 'internal';
export type SpanAttributes = Record<string, string | number | boolean | undefined>;

export interface SpanLink {
  readonly traceId: string;
  readonly spanId: string;
}

/** One that is over. Plain data. Never in it: header fields, queries, bodies, credentials. */
export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** Undefined: the trace begins here. */
  readonly parentId: string | undefined;
  /** The parent is a span of somebody else. */
  readonly isParentRemote: boolean;
  /** `tracestate` of the caller. */
  readonly state: string | undefined;
  readonly links: readonly SpanLink[];
  /** Milliseconds since 1970, with fractions. */
  readonly startedAt: number;
  readonly endedAt: number;
  readonly name: string;
  readonly kind: SpanKind;
  readonly attributes: SpanAttributes;
  readonly isError: boolean;
}

export type SpanFacts = Pick<Span, 'name' | 'kind' | 'attributes' | 'isError'>;

/** Who takes spans. Returns at once, never throws; drops and counts what it can't keep. */
export interface SpanSink {
  /** Whether the spans of a trace are taken: as its caller does, else by the share that is set. */
  samples(traceId: string, caller: TraceContext | undefined): boolean;
  take(span: Span): void;
}

/** Where in a trace something is: what it does becomes its children. */
export interface SpanParent {
  child(): OpenSpan;
}

interface Place extends SpanLink {
  readonly isRemote: boolean;
  readonly state: string | undefined;
}

/** Milliseconds: a clock that was set, or a machine that slept, rather than one that rounds. */
const MAX_DRIFT = 2;
const HALF = 0.5;

/** From the clock of the process, which counts fractions and never goes back, to the time of day. */
let offset = performance.timeOrigin;

/** @param now milliseconds since 1970, rounded down, as clocks tell them. */
function preciseTime(now: number): number {
  const precise = performance.now() + offset;
  const drift = now + HALF - precise;
  if (Math.abs(drift) <= MAX_DRIFT) return precise;
  offset += drift;
  return precise + drift;
}

interface Beginning {
  readonly traceId: string;
  readonly parent: Place | undefined;
  readonly links: readonly SpanLink[];
  /**
   * From the clock of the process to the time of day: the same for all spans of a request, so that their order is right
   * whatever is done to the clock meanwhile.
   */
  readonly offset: number;
  readonly startedAt: number;
}

export class OpenSpan implements SpanLink, SpanParent {
  readonly spanId = newSpanId();
  readonly #sink: SpanSink;
  readonly #beginning: Beginning;

  private constructor(sink: SpanSink, beginning: Beginning) {
    this.#sink = sink;
    this.#beginning = beginning;
  }

  /** The first span of a request. `now`: as the clock tells it. */
  static begin(
    sink: SpanSink,
    { traceId, caller, now }: { traceId: string; caller: TraceContext | undefined; now: number },
  ): OpenSpan {
    const startedAt = preciseTime(now);
    return new OpenSpan(sink, { traceId, parent: caller && placeOf(caller), links: [], offset, startedAt });
  }

  get traceId(): string {
    return this.#beginning.traceId;
  }

  /** The same beginning, in the caller's trace. */
  movedTo(caller: TraceContext): OpenSpan {
    const { traceId } = caller;
    return new OpenSpan(this.#sink, { ...this.#beginning, traceId, parent: placeOf(caller) });
  }

  child(): OpenSpan {
    const { traceId, spanId } = this;
    const parent = { traceId, spanId, isRemote: false, state: this.#beginning.parent?.state };
    return this.#begin({ traceId, parent, links: [] });
  }

  /** A span whose parent is the caller's, and that is linked to this one. */
  childOf(caller: TraceContext): OpenSpan {
    return this.#begin({ traceId: caller.traceId, parent: placeOf(caller), links: [this] });
  }

  #begin(where: Pick<Beginning, 'traceId' | 'parent' | 'links'>): OpenSpan {
    const from = this.#beginning.offset;
    return new OpenSpan(this.#sink, { ...where, offset: from, startedAt: performance.now() + from });
  }

  end(facts: SpanFacts): void {
    const { traceId, parent, links, startedAt, offset: from } = this.#beginning;
    this.#sink.take({
      traceId,
      spanId: this.spanId,
      parentId: parent?.spanId,
      isParentRemote: parent?.isRemote ?? false,
      state: parent?.state,
      links: links.map(({ traceId: of, spanId }) => ({ traceId: of, spanId })),
      startedAt,
      endedAt: performance.now() + from,
      ...facts,
    });
  }
}

const placeOf = ({ traceId, parentId, state }: TraceContext): Place => ({
  traceId,
  spanId: parentId,
  isRemote: true,
  state,
});
