/** Bytes that are not a request: what the client is told, in raw HTTP, since there is no response to write to. */
import type { ErrorCode } from '../core/errors.ts';
import { errorPage, pageHeaders, titleOf } from './error-page.ts';

export interface ClientFault {
  readonly status: number;
  readonly code: ErrorCode;
  readonly message: string;
  /** For the access record. */
  readonly reason: string;
}

type Told = Omit<ClientFault, 'reason'>;

const faults: Readonly<Record<string, Told>> = {
  HPE_HEADER_OVERFLOW: {
    status: 431,
    code: 'TOO_LARGE',
    message: 'The header of the request is too large.',
  },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: {
    status: 413,
    code: 'TOO_LARGE',
    message: 'The extensions of its chunks are too large.',
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: 408,
    code: 'TIMEOUT',
    message: 'The request did not come in time.',
  },
  ERR_SSL_HTTP_REQUEST: {
    status: 400,
    code: 'INVALID_INPUT',
    message: 'This port speaks HTTPS: begin the address with https://',
  },
};
const NOT_HTTP: Told = { status: 400, code: 'INVALID_INPUT', message: 'This is not a request of HTTP.' };

/** Undefined: the connection broke, and there is nobody to tell. */
export function faultOf(error: Error): ClientFault | undefined {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // The end of the connection in the middle of a message: the client is gone.
  if (code === 'HPE_INVALID_EOF_STATE') return undefined;
  const told = faults[code] ?? (code.startsWith('HPE_') ? NOT_HTTP : undefined);
  return told && { ...told, reason: `${code}: ${error.message}` };
}

/** Text, as there was no Accept to read. */
export function rawReply(fault: ClientFault, traceId: string): string {
  const { contentType, body } = errorPage(fault, undefined, traceId);
  const fields = {
    ...pageHeaders,
    connection: 'close',
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'x-trace-id': traceId,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${fault.status} ${titleOf(fault.status)}\r\n${lines.join('')}\r\n${body}`;
}
