/** The calls of a request held against the rules, and what is answered where they may not pass. */
import { SECOND } from '../../core/clock.ts';
import { limits } from '../../core/limits.ts';
import { cleanText } from '../../core/untrusted.ts';
import { challengeOf, visitOf } from '../protect.ts';
import type { Transit } from '../transit.ts';
import { disagreement } from './agreement.ts';
import { type CallOutcome, recordCall } from './call-record.ts';
import { type Messages, RPC, type RpcMessage } from './messages.ts';
import { type RefusedMessages, rpcRefusal, type RpcError, withoutId } from './rpc-refusal.ts';
import type { ToolGate } from './tool-gate.ts';
import { chargeCalls } from './tool-rates.ts';

/** Whether header and body disagree, which was answered then. */
export function refuseDisagreement(transit: Transit, messages: Messages): boolean {
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

/** As a server answers that has ended it: the client has to begin another. */
export const refuseSession = (transit: Transit, reason: string): true =>
  refuse(transit, {
    status: 404,
    code: 'NOT_FOUND',
    reason,
    ...withoutId({
      code: RPC.sessionNotFound,
      message: 'Session not found: start a new one with an initialize request without a session id',
    }),
  });

/** Whether the rules are against it, which was answered then. A batch passes whole or not at all. What can't be had at all is told first, then what more scopes would open. */
export function refuseCalls(transit: Transit, gate: ToolGate, messages: Messages): boolean {
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
      ? {
          ...answer,
          error: { code: RPC.invalidParams, message: `Unknown tool: ${cleanText(name, limits.shortText)}` },
        }
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

export const refuse = (transit: Transit, refused: RefusedMessages): true =>
  transit.refuse(rpcRefusal(refused, transit.traceId));
