/** One tools/call, whichever era and path it came by: find the operation, dispatch it, shape the result. */
import type { CallContext, Dispatch } from '../../core/dispatch.ts';
import { AppError, toAppError } from '../../core/errors.ts';
import type { Exchange } from '../../core/exchange.ts';
import type { AnyOperation, Progress } from '../../core/operation.ts';
import type { Principal } from '../../core/principal.ts';
import type { Confirm } from './confirm.ts';
import type { Facts } from './record.ts';
import { failureOf, successOf, type ToolResult } from './results.ts';
import { parseCall } from './search.ts';
import { isCallOperation, type View } from './views.ts';

/** Who calls, from where, and what it sees. Of the request, never of the session. */
export interface Scope {
  readonly exchange: Exchange;
  readonly principal: Principal;
  readonly view: View;
  readonly facts: Facts;
}

export interface CallOptions {
  readonly signal: AbortSignal;
  readonly progress?: ((update: Progress) => void) | undefined;
  readonly confirm?: Confirm | undefined;
}

/** The operation behind a tool's name: undefined when there is no such tool here. */
export function findTool({ view }: Scope, name: string): AnyOperation | typeof CALL | undefined {
  return isCallOperation(view, name) ? CALL : view.operations.get(name);
}

export const CALL = Symbol('call_operation');

/** Whether nothing can be asked in the middle of it, so that no SDK server is needed. */
export const isPlain = (tool: AnyOperation | typeof CALL): tool is AnyOperation =>
  tool !== CALL && tool.confirm === undefined;

export async function callTool(
  dispatch: Dispatch,
  scope: Scope,
  call: { tool: AnyOperation | typeof CALL; raw: unknown },
  options: CallOptions,
): Promise<ToolResult> {
  const { exchange, facts } = scope;
  try {
    const { operation, raw } =
      call.tool === CALL ? innerCall(scope, call.raw) : { ...call, operation: call.tool };
    facts.tool = operation.name;
    const output = await dispatch(operation, raw, contextOf(scope, options));
    const result = successOf(operation, output, exchange.traceId);
    facts.outcome = result.error?.code ?? 'OK';
    return result;
  } catch (cause) {
    const error = toAppError(cause);
    facts.outcome = error.code;
    return failureOf(error, exchange.traceId);
  }
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

function contextOf({ principal, exchange, facts }: Scope, options: CallOptions): CallContext {
  return {
    principal,
    signal: options.signal,
    traceId: exchange.traceId,
    surface: 'mcp',
    clientAddress: exchange.clientAddress,
    client: facts.client,
    progress: options.progress,
    confirm: options.confirm,
  };
}
