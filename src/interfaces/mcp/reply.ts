/** Whole replies: JSON, JSON-RPC errors, nothing. Streams are in `event-stream.ts`. */
import { type AppError, errorSurface, toAppError } from '../../core/errors.ts';
import type { Exchange } from '../../core/exchange.ts';
import type { RpcId } from './message.ts';

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

type Headers = Record<string, string | number>;

export const RPC = {
  parseError: -32_700,
  invalidRequest: -32_600,
  methodNotFound: -32_601,
  invalidParams: -32_602,
  internal: -32_603,
  /** Both of the transport of the legacy era, where the SDK uses them too. */
  transport: -32_000,
  sessionNotFound: -32_001,
} as const;

export function sendJson({ reply, signal }: Exchange, status: number, body: string, headers?: Headers): void {
  if (signal.aborted || reply.headersSent) return;
  reply.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...headers,
  });
  reply.end(body);
}

/** Sends a prepared result: the bytes as they are, then the id. */
export function sendPrepared({ reply, signal }: Exchange, result: Buffer, id: RpcId): void {
  if (signal.aborted || reply.headersSent) return;
  const tail = tailOf(id);
  reply.writeHead(200, {
    'content-type': 'application/json',
    'content-length': result.length + Buffer.byteLength(tail),
  });
  reply.write(result);
  reply.end(tail);
}

const tailOf = (id: RpcId): string => `,"jsonrpc":"2.0","id":${JSON.stringify(id)}}`;

/** A response around a result that is JSON already. */
export const resultMessage = (result: string, id: RpcId): string => `{"result":${result}${tailOf(id)}`;

/** For `sendPrepared`. */
export const prepare = (result: string): Buffer => Buffer.from(`{"result":${result}`);

export const errorMessage = (error: RpcError, id: RpcId | null): string =>
  JSON.stringify({ jsonrpc: '2.0', error, id });

export function sendError(
  exchange: Exchange,
  status: number,
  error: RpcError,
  extra: { id?: RpcId | null; headers?: Headers } = {},
): void {
  sendJson(exchange, status, errorMessage(error, extra.id ?? null), extra.headers);
}

export const rpcErrorOf = ({ code, message, details }: AppError): RpcError => ({
  code: errorSurface[code].jsonrpc,
  message,
  data: { code, ...details },
});

export function sendAppError(exchange: Exchange, cause: unknown, id: RpcId | null): AppError {
  const error = toAppError(cause);
  sendError(exchange, errorSurface[error.code].status, rpcErrorOf(error), { id });
  return error;
}

export function sendNothing({ reply, signal }: Exchange, status: number, headers: Headers = {}): void {
  if (signal.aborted || reply.headersSent) return;
  // A 204 has no length to tell (RFC 9110 §8.6).
  reply.writeHead(status, status === 204 ? headers : { 'content-length': 0, ...headers });
  reply.end();
}
