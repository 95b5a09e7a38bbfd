/**
 * The rules for the tools of an MCP server behind a proxy (`mcp` of a policy), for each request to its path. What is
 * decided on is the body as it was parsed, and what is forwarded is the very bytes that were parsed; the header only
 * has to agree. What can't be read is refused. Where there are no rules this costs one look.
 */
import { canonicalName } from '../../core/identity-headers.ts';
import { SECOND } from '../../core/clock.ts';
import { messageOf } from '../../core/errors.ts';
import { toolRulesAt } from '../../routes/decide.ts';
import { ClientBody } from '../client-body.ts';
import { recordFault } from '../fault-record.ts';
import { forward } from '../forward.ts';
import { methodOverrides } from '../headers.ts';
import { challengeOf, visitOf } from '../protect.ts';
import { disagreement } from '../tools/agreement.ts';
import { recordCall, type CallOutcome } from '../tools/call-record.ts';
import { Gathered } from '../tools/gathered.ts';
import { toolLimits } from '../tools/limits.ts';
import { type Messages, readMessages, RPC, type RpcMessage } from '../tools/messages.ts';
import { type RefusedMessages, rpcRefusal, type RpcError, withoutId } from '../tools/rpc-refusal.ts';
import { SESSION_FIELD, ToolGate } from '../tools/tool-gate.ts';
import { chargeCalls } from '../tools/tool-rates.ts';
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
  if (!match || !toolRulesAt(match.auth, path)) return false;
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'This path has rules for tools, which can not be kept on a socket. Send requests instead.',
  });
}

export function authoriseTools(transit: Transit): boolean {
  const { match, path, method } = transit;
  if (match?.auth.kind !== 'oauth') return false;
  const rules = toolRulesAt(match.auth, path);
  if (!rules) return false;
  const gate = new ToolGate(transit, match.auth, rules);
  transit.tools = gate;
  const fault = headFault(transit);
  if (fault) {
    const { message, ...refusal } = fault;
    return refuse(transit, { ...refusal, ...withoutId({ code: RPC.invalidRequest, message }) });
  }
  if (!gate.takeSession())
    return refuse(transit, {
      status: 404,
      code: 'NOT_FOUND',
      reason: 'the session is of another principal, or of none',
      ...withoutId({
        code: RPC.sessionNotFound,
        message: 'Session not found: start a new one with an initialize request without a session id',
      }),
    });
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
  const body = new ClientBody({ request, maxBytes, continueOn: expectsContinue ? response : undefined });
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
  if (refuseDisagreement(transit, read) || refuseCalls(transit, gate, read)) return;
  gate.pass(read);
  forward(transit, transit.core.snapshots.planOf(transit.match), bytes);
}

function refuseDisagreement(transit: Transit, messages: Messages): boolean {
  const fault = disagreement(transit.headers, messages);
  if (fault === undefined) return false;
  recordCalls(transit, messages, { outcome: 'INVALID_INPUT', result: 'header and body differ' });
  return refuse(transit, {
    status: 400,
    code: 'INVALID_INPUT',
    reason: fault,
    ...answersTo(messages, { code: RPC.headerMismatch, message: `Header mismatch: ${fault}` }),
  });
}

/** A batch passes whole or not at all. What can't be had at all is told first, then what more scopes would open. */
function refuseCalls(transit: Transit, gate: ToolGate, messages: Messages): boolean {
  const decided = messages.calls.map((call) => ({ name: call.name, decision: gate.decide(call.name) }));
  const hidden = new Set(decided.flatMap(({ name, decision }) => (decision.kind === 'hidden' ? [name] : [])));
  if (hidden.size > 0) return refuseHidden(transit, messages, hidden);
  const lacking = decided.flatMap(({ decision }) =>
    decision.kind === 'lacks-scopes' ? decision.scopes : [],
  );
  if (lacking.length > 0) return refuseScopes(transit, gate, { messages, lacking });
  const rated = decided.map(({ name, decision }) => ({
    name,
    callsPerMinute: decision.kind === 'allowed' ? decision.callsPerMinute : undefined,
  }));
  const wait = chargeCalls(transit, rated);
  return wait > 0 && refuseRate(transit, messages, wait);
}

/**
 * As a target answers that has no such tool: whoever may not use it need not know that it is there.
 * @see MCP 2026-07-28, Tools, Error Handling
 */
function refuseHidden(transit: Transit, messages: Messages, hidden: ReadonlySet<string>): true {
  recordCalls(transit, messages, { outcome: 'FORBIDDEN', result: 'not allowed' });
  const { isBatch, answers } = answersTo(messages, {
    code: RPC.invalidRequest,
    message: 'Not done: the batch has a call of a tool that is not known',
  });
  const names = new Map(messages.calls.map(({ id, name }) => [id, name]));
  const told = answers.map((answer) => {
    const name = names.get(answer.id ?? undefined);
    return name !== undefined && hidden.has(name)
      ? { ...answer, error: { code: RPC.invalidParams, message: `Unknown tool: ${name}` } }
      : answer;
  });
  // What has no id gets no answer but a status.
  const status = messages.messages.some(({ id }) => id !== undefined) ? 200 : 403;
  return refuse(transit, { status, code: 'FORBIDDEN', reason: 'rules for tools', isBatch, answers: told });
}

/** All scopes at once. @see MCP 2026-07-28, Authorization, Scope Challenge Handling */
function refuseScopes(
  transit: Transit,
  { auth }: ToolGate,
  { messages, lacking }: { messages: Messages; lacking: readonly string[] },
): true {
  recordCalls(transit, messages, { outcome: 'FORBIDDEN', result: 'lacks scopes' });
  const scopes = [...new Set([...auth.scopes, ...lacking])];
  return refuse(transit, {
    status: 403,
    code: 'FORBIDDEN',
    reason: 'insufficient scope for a tool',
    headers: { 'www-authenticate': challengeOf(visitOf(transit, auth), 'insufficient_scope', scopes) },
    ...answersTo(messages, {
      code: 403,
      message: `This token lacks scopes: ${scopes.join(' ')} are needed.`,
    }),
  });
}

function refuseRate(transit: Transit, messages: Messages, waitMs: number): true {
  recordCalls(transit, messages, { outcome: 'RATE_LIMITED', result: 'too many calls' });
  const seconds = String(Math.max(1, Math.ceil(waitMs / SECOND)));
  return refuse(transit, {
    status: 429,
    code: 'RATE_LIMITED',
    headers: { 'retry-after': seconds },
    ...answersTo(messages, { code: 429, message: `Too many calls of this tool. Try again in ${seconds} s.` }),
  });
}

function recordCalls(transit: Transit, { calls }: Messages, outcome: CallOutcome): void {
  for (const call of calls) recordCall(transit, call, outcome);
}

/** To each request that has an id; one answer without, where none has. */
function answersTo(
  { isBatch, messages }: Messages,
  error: RpcError,
): Pick<RefusedMessages, 'isBatch' | 'answers'> {
  const answers = messages.filter(isRequest).map(({ id = null }) => ({ id, error }));
  return answers.length > 0 ? { isBatch, answers } : withoutId(error);
}

const isRequest = ({ id, method }: RpcMessage): boolean => id !== undefined && method !== undefined;

const refuse = (transit: Transit, refused: RefusedMessages): true =>
  transit.refuse(rpcRefusal(refused, transit.traceId));
