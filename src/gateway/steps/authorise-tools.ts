/**
 * The rules for the tools of an MCP server behind a proxy (`mcp` of a policy), for each request to its path. What is
 * decided on is the body as it was parsed, and what is forwarded is the very bytes that were parsed; the header only
 * has to agree. What can't be read is refused. Where there are no rules this costs one look.
 */
import { canonicalName } from '../../core/identity-headers.ts';
import { messageOf } from '../../core/errors.ts';
import { readTraceContext } from '../../core/trace-context.ts';
import { toolRulesOf } from '../../routes/decide.ts';
import { bodyTap } from '../captured.ts';
import { ClientBody } from '../client-body.ts';
import { recordFault } from '../fault-record.ts';
import { forward } from '../forward.ts';
import { methodOverrides } from '../headers.ts';
import { SESSION_FIELD } from '../sessions.ts';
import { Gathered } from '../tools/gathered.ts';
import { toolLimits } from '../tools/limits.ts';
import { isRecord, type Messages, readMessages, RPC } from '../tools/messages.ts';
import { refuse, refuseCalls, refuseDisagreement, refuseSession } from '../tools/refuse-calls.ts';
import { type RefusedMessages, withoutId } from '../tools/rpc-refusal.ts';
import { ToolGate } from '../tools/tool-gate.ts';
import { joinMessage } from '../trace.ts';
import type { Transit } from '../transit.ts';
import { refusalOf } from '../upstream-failure.ts';

const METHODS: ReadonlySet<string> = new Set(['POST', 'GET', 'HEAD', 'DELETE', 'OPTIONS']);
const JSON_TYPE = /^application\/json\s*(?:;\s*charset\s*=\s*(?:utf-8|"utf-8")\s*)?$/i;
/** Some readers keep the first of several, some the last, and some take `content_type` for one of them. */
const ONCE: ReadonlySet<string> = new Set([
  'content-type',
  'content-encoding',
  'mcp-method',
  'mcp-name',
  'mcp-protocol-version',
  SESSION_FIELD,
]);

/** Over a socket calls would pass that nobody looks at. */
export function refuseToolSocket(transit: Transit): boolean {
  const { match, path } = transit;
  if (!match || !toolRulesOf(match, path)) return false;
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'This path has rules for tools, which can not be kept on a socket. Send requests instead.',
  });
}

export function authoriseTools(transit: Transit): boolean {
  const { match, path, method } = transit;
  if (match?.auth.kind !== 'oauth') return false;
  const rules = toolRulesOf(match, path);
  if (!rules) return false;
  const gate = new ToolGate(transit, match.auth, rules);
  transit.tools = gate;
  const fault = headFault(transit);
  if (fault) {
    const { message, ...refusal } = fault;
    return refuse(transit, { ...refusal, ...withoutId({ code: RPC.invalidRequest, message }) });
  }
  if (!gate.takeSession()) return refuseSession(transit, 'the session is of another principal, or of none');
  if (method !== 'POST') return false;
  readBody(transit, (bytes) => authorise(transit, gate, bytes));
  return true;
}

type HeadFault = Pick<RefusedMessages, 'status' | 'code' | 'headers'> & { readonly message: string };

function headFault(transit: Transit): HeadFault | undefined {
  const { method, headers, rawHeaders, hasBody } = transit;
  const invalid = (status: number, message: string) => ({ status, code: 'INVALID_INPUT', message }) as const;
  if (!METHODS.has(method))
    return { ...invalid(405, 'Method not allowed.'), headers: { allow: [...METHODS].join(', ') } };
  const unclear = unclearField(rawHeaders);
  if (unclear !== undefined)
    return invalid(400, `The field ${unclear} has to be there once, and written so.`);
  if (methodOverrides.some((name) => headers[name] !== undefined))
    return invalid(400, 'Send the method itself, not in a field of its own.');
  if (method !== 'POST')
    return hasBody ? invalid(400, `A body does not belong to ${method} here.`) : undefined;
  if ((headers['content-encoding'] ?? 'identity').toLowerCase() !== 'identity')
    return invalid(415, 'The body must not be compressed.');
  return JSON_TYPE.test(headers['content-type'] ?? '')
    ? undefined
    : invalid(415, 'Content-Type must be application/json.');
}

/** One that could be taken for another; undefined: none. */
function unclearField(rawHeaders: readonly string[]): string | undefined {
  const seen = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase();
    const canonical = canonicalName(name);
    if (!ONCE.has(canonical)) continue;
    if (name !== canonical || seen.has(canonical)) return canonical;
    seen.add(canonical);
  }
  return undefined;
}

function readBody(transit: Transit, whole: (bytes: Buffer) => void): void {
  const { request, response, expectsContinue, match, hasBody } = transit;
  if (!hasBody) {
    whole(Buffer.alloc(0));
    return;
  }
  const maxBytes = Math.min(match?.proxy.max_body_bytes ?? 0, toolLimits.bodyBytes);
  const body = new ClientBody({
    request,
    maxBytes,
    continueOn: expectsContinue ? response : undefined,
    heard: bodyTap(transit),
  });
  const gathered = new Gathered();
  transit.body = body;
  body.on('data', (chunk: Buffer) => gathered.append(chunk));
  body.once('error', (error) => {
    const { message, ...refusal } = refusalOf(error);
    refuse(transit, { ...refusal, ...withoutId({ code: RPC.invalidRequest, message }) });
  });
  body.once('end', () => {
    try {
      whole(gathered.bytes);
    } catch (cause) {
      failed(transit, cause);
    }
  });
}

/** A fault of ours, where no step is there to catch it: nothing was decided, so nothing is let through. */
function failed(transit: Transit, cause: unknown): void {
  recordFault(transit.core, 'a call could not be decided on', cause, transit.traceId);
  transit.refuse({
    status: 500,
    code: 'INTERNAL',
    message: 'Internal error. The trace id finds it in the log.',
    reason: messageOf(cause),
  });
}

function authorise(transit: Transit, gate: ToolGate, bytes: Buffer): void {
  if (transit.isDone || transit.isRefused || !transit.match) return;
  const read = readMessages(bytes);
  if (!read.ok) {
    const { code, message } = read;
    refuse(transit, { status: 400, code: 'INVALID_INPUT', reason: message, ...withoutId({ code, message }) });
    return;
  }
  joinMessages(transit, read);
  if (refuseDisagreement(transit, read) || refuseCalls(transit, gate, read)) return;
  gate.pass(read);
  forward(transit, transit.core.snapshots.planOf(transit.match), bytes);
}

/**
 * Where a message stands in its caller's trace. The target gets `_meta` as it came: the caller's span is the parent of the
 * server's, whatever carries the message. Of a batch (2025-03-26, which is older) nothing is looked at.
 * @see MCP 2026-07-28, `_meta`: traceparent, tracestate (SEP-414)
 */
function joinMessages(transit: Transit, { isBatch, messages }: Messages): void {
  const meta = isBatch ? undefined : messages[0]?.params?._meta;
  const caller = isRecord(meta) ? readTraceContext(meta.traceparent, meta.tracestate) : undefined;
  if (caller) joinMessage(transit, caller);
}
