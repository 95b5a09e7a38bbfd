/**
 * Where a request stands in somebody's trace, as it is sent along with it. Pure; what can't be read counts as absent.
 * @see {@link https://www.w3.org/TR/trace-context/ | W3C Trace Context}
 */

export interface TraceContext {
  /** 32 hex digits, not all 0. */
  readonly traceId: string;
  /** Id of the caller's span: 16 hex digits, not all 0. */
  readonly parentId: string;
  /** Whether the caller records the trace. */
  readonly isSampled: boolean;
  /** The caller's flags, two hex digits. */
  readonly flags: string;
  /** `tracestate`, where it is valid. */
  readonly state: string | undefined;
}

/** Version 00 ends with the flags; a later one may have more behind them (§3.2.4). */
const TRACEPARENT =
  /^(?:00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})|(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?)$/;
const ZERO = /^0+$/;
const SAMPLED = 1;

/** Undefined when `traceparent` is absent or not valid; `tracestate` is for nothing then. */
export function readTraceContext(traceparent: unknown, tracestate: unknown): TraceContext | undefined {
  const match = typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null;
  if (!match) return undefined;
  const [, id0, parent0, flags0, traceId = id0, parentId = parent0, flags = flags0] = match;
  if (traceId === undefined || parentId === undefined || flags === undefined) return undefined;
  if (ZERO.test(traceId) || ZERO.test(parentId)) return undefined;
  const isSampled = (Number.parseInt(flags, 16) & SAMPLED) !== 0;
  return { traceId, parentId, isSampled, flags, state: validState(tracestate) };
}

export const traceparentOf = (traceId: string, spanId: string, flags: string): string =>
  `00-${traceId}-${spanId}-${flags}`;

/** @see {@link https://www.w3.org/TR/trace-context/#tracestate-header | W3C Trace Context §3.3} */
const MAX_MEMBERS = 32;
const MEMBER =
  /^((?:[a-z][\w*/-]{0,255}|[a-z0-9][\w*/-]{0,240}@[a-z][\w*/-]{0,13}))=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;
const UPPER = /[A-Z]/;

/** One member that is not valid spoils all of them: nobody could say whose it is. */
function validState(tracestate: unknown): string | undefined {
  if (typeof tracestate !== 'string') return undefined;
  const members = tracestate.split(',').map((member) => member.replace(/^[ \t]+|[ \t]+$/g, ''));
  if (members.length > MAX_MEMBERS) return undefined;
  const keys = new Set<string>();
  for (const member of members) {
    if (member === '') continue;
    const key = MEMBER.exec(member)?.[1];
    if (key === undefined || UPPER.test(key) || keys.has(key)) return undefined;
    keys.add(key);
  }
  return keys.size === 0 ? undefined : tracestate;
}
