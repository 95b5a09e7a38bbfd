/** A request that is refused as HTTP, with a JSON-RPC error as its body. */
import { AppError, type ErrorCode, errorSurface } from '../../core/errors.ts';
import { SECOND } from '../../core/clock.ts';
import { LEGACY_VERSIONS } from './settings.ts';
import { RPC, type RpcError, rpcErrorOf } from './reply.ts';

export class Refusal extends Error {
  readonly status: number;
  readonly error: RpcError;
  readonly headers: Record<string, string> | undefined;
  /** For the log. */
  readonly outcome: ErrorCode;

  constructor(status: number, error: RpcError, headers?: Record<string, string>, outcome?: ErrorCode) {
    super(error.message);
    this.status = status;
    this.error = error;
    this.headers = headers;
    this.outcome = outcome ?? (status === 404 ? 'NOT_FOUND' : 'INVALID_INPUT');
  }

  static of(error: AppError, headers: Record<string, string>): Refusal {
    return new Refusal(errorSurface[error.code].status, rpcErrorOf(error), headers, error.code);
  }
}

export const ALLOW = 'GET, HEAD, POST, DELETE, OPTIONS';

export const refusals = {
  method: () => new Refusal(405, { code: RPC.transport, message: 'Method not allowed.' }, { allow: ALLOW }),
  parse: (message: string) => new Refusal(400, { code: RPC.parseError, message }),
  tooLarge: (bytes: number) =>
    new Refusal(
      413,
      { code: RPC.transport, message: `Payload Too Large: Request body must not exceed ${bytes} bytes` },
      // The rest of the body is not read, so the connection can't be used again.
      { connection: 'close' },
    ),
  mediaType: () =>
    new Refusal(415, {
      code: RPC.transport,
      message: 'Unsupported Media Type: Content-Type must be application/json',
    }),
  accept: (wanted: string) =>
    new Refusal(406, { code: RPC.transport, message: `Not Acceptable: send the header Accept: ${wanted}` }),
  noSession: () =>
    new Refusal(400, { code: RPC.transport, message: 'Bad Request: Mcp-Session-Id header is required' }),
  session: () =>
    new Refusal(404, {
      code: RPC.sessionNotFound,
      message: 'Session not found: start a new one with an initialize request without a session id',
    }),
  version: (version: string) =>
    new Refusal(400, {
      code: RPC.transport,
      message: `Bad Request: Unsupported protocol version: ${version} (supported versions: ${LEGACY_VERSIONS.join(', ')})`,
    }),
  invalid: (message: string) => new Refusal(400, { code: RPC.invalidRequest, message }),
  tooMany: (calls: number, waitMs: number) => {
    const seconds = Math.ceil(waitMs / SECOND);
    const message = `Too many requests: a batch of ${calls} counts as ${calls}. Send fewer, or try again in ${seconds} s`;
    return Refusal.of(new AppError('RATE_LIMITED', message), { 'retry-after': String(seconds) });
  },
  params: (message: string) => new Refusal(400, { code: RPC.invalidParams, message }),
};
