/** What a client of MCP is told where its message is not passed on: a JSON-RPC error with the id of what it asked. */
import type { Page, Refusal } from '../error-page.ts';
import type { RpcId } from './messages.ts';

export interface RpcError {
  readonly code: number;
  readonly message: string;
}

export interface Answered {
  readonly id: RpcId | null;
  readonly error: RpcError;
}

export interface RefusedMessages extends Omit<Refusal, 'message' | 'page'> {
  readonly isBatch: boolean;
  readonly answers: readonly Answered[];
}

/** For a message that could not be read as far as its id, or that has none. */
export const withoutId = (error: RpcError): Pick<RefusedMessages, 'isBatch' | 'answers'> => ({
  isBatch: false,
  answers: [{ id: null, error }],
});

export function rpcRefusal({ isBatch, answers, ...refusal }: RefusedMessages, traceId: string): Refusal {
  const { code, status } = refusal;
  const bodies = answers.map(({ id, error }) => ({
    jsonrpc: '2.0',
    id,
    error: { ...error, data: { code, status, trace_id: traceId } },
  }));
  return { ...refusal, message: answers[0]?.error.message ?? '', page: pageOf(isBatch ? bodies : bodies[0]) };
}

const pageOf = (body: unknown): Page => ({ contentType: 'application/json', body: JSON.stringify(body) });
