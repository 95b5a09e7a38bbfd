/** Bytes that are not a request: what the client is told, in raw HTTP, since there is no response to write to. */
import type { ErrorCode } from '../core/errors.ts';
import { titleOf } from './error-page.ts';

export interface ClientFault {
  readonly status: number;
  readonly code: ErrorCode;
  /** For the access record. */
  readonly reason: string;
}

/** Undefined: the connection broke, and there is nobody to tell. */
export function faultOf(error: Error): ClientFault | undefined {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const reason = `${code}: ${error.message}`;
  if (code === 'HPE_HEADER_OVERFLOW') return { status: 431, code: 'TOO_LARGE', reason };
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return { status: 413, code: 'TOO_LARGE', reason };
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return { status: 408, code: 'TIMEOUT', reason };
  // The end of the connection in the middle of a message: the client is gone.
  if (code === 'HPE_INVALID_EOF_STATE') return undefined;
  return code.startsWith('HPE_') ? { status: 400, code: 'INVALID_INPUT', reason } : undefined;
}

export function rawReply({ status }: ClientFault, traceId: string): string {
  const title = titleOf(status);
  const body = `${status} ${title}\n\nTrace id: ${traceId}\n`;
  return (
    `HTTP/1.1 ${status} ${title}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n` +
    `Cache-Control: no-store\r\nX-Trace-Id: ${traceId}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}
