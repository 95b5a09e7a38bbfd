/** One tools/call, whichever era and path it came by: find the operation, dispatch it, shape the result. */
import { type CallContext, type Dispatch, mayRun } from '../../core/dispatch.ts';
import { AppError, toAppError } from '../../core/errors.ts';
import type { Exchange } from '../../core/exchange.ts';
import type { AnyOperation, Progress } from '../../core/operation.ts';
import { isPermission, ordered } from '../../core/permissions.ts';
import { isConfined, type Principal } from '../../core/principal.ts';
import type { Asking } from './confirm.ts';
import { isRecord, type RpcId } from './message.ts';
import type { PostReply } from './post-reply.ts';
import type { Facts } from './record.ts';
import { Refusal } from './refusal.ts';
import { failureOf, successOf, type ToolResult } from './results.ts';
import { parseCall } from './search.ts';
import type { McpOptions } from './settings.ts';
import { isCallOperation, type View } from './views.ts';

/** Who calls, from where, and what it sees. Of the request, never of the session. */
export interface Scope {
  readonly exchange: Exchange;
  readonly principal: Principal;
  readonly view: View;
  readonly facts: Facts;
  /** Whether a person can be asked through the client while this request is served. */
  readonly canAsk: boolean;
  /** Whether a call may be answered with a task. */
  readonly takesTasks?: boolean;
  /** Whether the client's version of the protocol has icons. */
  readonly knowsIcons: boolean;
  /** Keeps what the client wants to hear of: its session, in the legacy era. */
  readonly follower?:
    | { follow(uri: string): Promise<void>; unfollow(uri: string): Promise<void> }
    | undefined;
  /** Set by a call for which the credential lacks a permission: how to say so where the reply has not begun. */
  denied?: Refusal | undefined;
}

export interface CallOptions extends Asking {
  readonly signal: AbortSignal;
  readonly progress?: ((update: Progress) => void) | undefined;
}

/** The operation behind a tool's name: undefined when there is no such tool here. */
export function findTool({ view }: Scope, name: string): AnyOperation | typeof CALL | undefined {
  return isCallOperation(view, name) ? CALL : view.operations.get(name);
}

export const CALL = Symbol('call_operation');

/** Whether nobody will be asked in the middle of it, so that no SDK server is needed. */
export const isPlain = (
  tool: AnyOperation | typeof CALL,
  scope: Scope,
  { taint }: Pick<McpOptions, 'taint'>,
): tool is AnyOperation =>
  tool !== CALL &&
  !(scope.canAsk && (tool.confirm !== undefined || taint?.holding(tool, callerOf(scope)) !== undefined));

/** As `dispatch` is told of it. */
export const callerOf = ({ principal }: Scope) => ({ principal, surface: 'mcp' as const });

export async function callTool(
  dispatch: Dispatch,
  scope: Scope,
  call: { tool: AnyOperation | typeof CALL; raw: unknown },
  options: CallOptions,
): Promise<ToolResult> {
  const { exchange, facts } = scope;
  let operation: AnyOperation | undefined;
  try {
    const called = call.tool === CALL ? innerCall(scope, call.raw) : { ...call, operation: call.tool };
    operation = called.operation;
    facts.tool = operation.name;
    const output = await dispatch(operation, called.raw, contextOf(scope, options));
    const result = successOf(operation, output, exchange.traceId);
    facts.outcome = result.error?.code ?? 'OK';
    return result;
  } catch (cause) {
    const error = toAppError(cause);
    facts.outcome = error.code;
    scope.denied = operation && denialOf(error, operation, scope);
    return failureOf(error, operation, exchange.traceId);
  }
}

/** By HTTP where the caller may not make the call, else with its result. */
export function answerCall(reply: PostReply, { denied }: Scope, id: RpcId, message: string): void {
  if (denied) reply.refuse(denied, id, message);
  else reply.answer(message);
}

/** The operation that the call would run; undefined when it would run none, which the call itself tells. */
export function targetOf(
  scope: Scope,
  { tool, raw }: { tool: AnyOperation | typeof CALL; raw: unknown },
): AnyOperation | undefined {
  if (tool !== CALL) return tool;
  const name = isRecord(raw) ? raw.name : undefined;
  return typeof name === 'string' ? scope.view.operations.get(name) : undefined;
}

function innerCall({ view }: Scope, raw: unknown): { operation: AnyOperation; raw: unknown } {
  const { name, arguments: inner } = parseCall(raw);
  const operation = view.operations.get(name);
  if (operation) return { operation, raw: inner };
  throw new AppError(
    'NOT_FOUND',
    'there is no operation of this name on this connection; find_operations lists what there is',
  );
}

/**
 * A client can ask its person for a permission that its credential lacks, if it is told so by HTTP. It is told those
 * that it has as well, because clients of the legacy era replace what they had by what they are told. What the handler
 * refused, or what no further permission would change, stays an error of the tool.
 * @see MCP 2025-11-25 and 2026-07-28, Authorization, Scope Challenge Handling
 */
function denialOf(
  error: AppError,
  operation: AnyOperation,
  { principal, exchange }: Scope,
): Refusal | undefined {
  const { permission, confinement } = operation;
  const isBarred = principal.kind !== 'anonymous' && confinement === 'refused' && isConfined(principal);
  if (isBarred || mayRun(operation, principal)) return undefined;
  const wanted = isPermission(permission) ? [permission] : [];
  const scopes = ordered(new Set([...wanted, ...principal.permissions]));
  return Refusal.of(error, { 'www-authenticate': exchange.gate.challenge(scopes) });
}

function contextOf(scope: Scope, options: CallOptions): CallContext {
  const { exchange, facts, view } = scope;
  return {
    ...callerOf(scope),
    signal: options.signal,
    traceId: exchange.traceId,
    span: exchange.span,
    clientAddress: exchange.clientAddress,
    client: facts.client,
    progress: options.progress,
    confirm: options.confirm,
    insist: options.insist,
    reaches: (name) => view.operations.has(name),
  };
}
