/** Our spans as the SDK takes them: paths and names that strangers chose are redacted as the log redacts them. */
import type { Attributes, HrTime, SpanContext, SpanStatus } from '@opentelemetry/api';
import { SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import { isSuspicious, redactText } from '../core/redact.ts';
import type { Span, SpanAttributes } from '../core/spans.ts';

const kinds = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL } as const;
const MS_PER_SECOND = 1000;
const NS_PER_MS = 1_000_000;
const OK: SpanStatus = { code: SpanStatusCode.UNSET };
const FAILED: SpanStatus = { code: SpanStatusCode.ERROR };

export interface Origin {
  readonly resource: Resource;
  readonly scope: { readonly name: string; readonly version: string };
}

/** @param ms milliseconds since 1970, with fractions */
export function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / MS_PER_SECOND);
  return [seconds, Math.floor((ms - seconds * MS_PER_SECOND) * NS_PER_MS)];
}

export class SpanData implements ReadableSpan {
  readonly #span: Span;
  readonly #origin: Origin;
  readonly parentSpanContext?: SpanContext;
  readonly events = [];
  readonly ended = true;
  readonly droppedAttributesCount = 0;
  readonly droppedEventsCount = 0;
  readonly droppedLinksCount = 0;

  constructor(span: Span, origin: Origin) {
    this.#span = redacted(span);
    this.#origin = origin;
    const { traceId, parentId: spanId, isParentRemote: isRemote } = span;
    if (spanId !== undefined)
      this.parentSpanContext = { traceId, spanId, isRemote, traceFlags: TraceFlags.SAMPLED };
  }

  get name(): string {
    return this.#span.name;
  }

  get kind(): SpanKind {
    return kinds[this.#span.kind];
  }

  readonly spanContext = (): SpanContext => {
    const { traceId, spanId, state } = this.#span;
    return {
      traceId,
      spanId,
      traceFlags: TraceFlags.SAMPLED,
      ...(state !== undefined && { traceState: stateOf(state) }),
    };
  };

  get startTime(): HrTime {
    return hrTime(this.#span.startedAt);
  }

  get endTime(): HrTime {
    return hrTime(this.#span.endedAt);
  }

  get duration(): HrTime {
    return hrTime(this.#span.endedAt - this.#span.startedAt);
  }

  get status(): SpanStatus {
    return this.#span.isError ? FAILED : OK;
  }

  get attributes(): Attributes {
    return present(this.#span.attributes);
  }

  get links() {
    return this.#span.links.map((context) => ({ context: { ...context, traceFlags: TraceFlags.SAMPLED } }));
  }

  get resource(): Resource {
    return this.#origin.resource;
  }

  get instrumentationScope() {
    return this.#origin.scope;
  }
}

/** One look at all of it: nearly always there is nothing to redact. */
function redacted(span: Span): Span {
  const entries = Object.entries(span.attributes);
  const texts = entries.map(([, value]) => (typeof value === 'string' ? value : ''));
  if (!isSuspicious(`${span.name}\n${texts.join('\n')}`)) return span;
  const safe = entries.map(([name, value]) => [name, typeof value === 'string' ? redactText(value) : value]);
  return { ...span, name: redactText(span.name), attributes: Object.fromEntries(safe) };
}

export const present = (attributes: SpanAttributes): Attributes =>
  Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));

/** Written as it came: it was found valid, and only who wrote a member knows what it means. */
const stateOf = (text: string): NonNullable<SpanContext['traceState']> => {
  const state = { get: () => undefined, set: () => state, unset: () => state, serialize: () => text };
  return state;
};
