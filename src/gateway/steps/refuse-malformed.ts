import { isMethodServed } from '../../routes/decide.ts';
import { isHttp2Request } from '../client.ts';
import type { Transit } from '../transit.ts';

const VERSIONS: ReadonlySet<string> = new Set(['1.0', '1.1']);
const LENGTH = /^\d{1,15}$/;

/**
 * What the engine lets pass and another reader of the same bytes could take differently.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9112#section-6.3 | RFC 9112 §6.3}
 */
export function refuseMalformed(transit: Transit): boolean {
  const { rawHeaders, core, request } = transit;
  // The engine reads some more of what a client may write in the request line (RFC 9110 §2.5, §15.6.6).
  if (!isHttp2Request(request) && !VERSIONS.has(request.httpVersion))
    return malformed(transit, 505, 'Only HTTP/1.1 and HTTP/1.0 are spoken like this.');
  // Over HTTP/1.1 Node drops what is beyond the limit it was given, which is one more than is allowed.
  if (
    isHttp2Request(request)
      ? bytesOf(rawHeaders) > core.settings.maxHeaderBytes
      : rawHeaders.length / 2 > core.settings.maxHeaders
  )
    return transit.refuse({
      status: 431,
      code: 'TOO_LARGE',
      message: 'The header of the request is too large.',
    });
  return refuseFraming(transit) || refuseMethod(transit) || refuseExpectation(transit);
}

function refuseFraming(transit: Transit): boolean {
  const { request, headers } = transit;
  const { 'transfer-encoding': encoding, 'content-length': length } = headers;
  // Where the request would end and the other protocol begin is for nobody to say.
  const hasLength = encoding !== undefined || (length !== undefined && length !== '0');
  if (transit.upgrade && hasLength) return ambiguous(transit);
  if (encoding !== undefined) {
    if (encoding.toLowerCase() !== 'chunked')
      return malformed(transit, 501, 'Only the transfer coding "chunked" is supported.');
    if (length !== undefined || request.httpVersion === '1.0') return ambiguous(transit);
  }
  if (length === undefined) return false;
  return LENGTH.test(length) ? false : ambiguous(transit);
}

const ambiguous = (transit: Transit): true => malformed(transit, 400, 'The length of the body is ambiguous.');

function refuseMethod(transit: Transit): boolean {
  const { method, isExtendedConnect } = transit;
  if (isExtendedConnect) return refuseProtocol(transit);
  if (isMethodServed(method)) return false;
  return transit.refuse({
    status: 405,
    code: 'INVALID_INPUT',
    message: 'The method is not served here.',
  });
}

/** Only a WebSocket has a form in HTTP/1.1 that it can be turned into. @see RFC 8441 §5 */
function refuseProtocol(transit: Transit): boolean {
  if (transit.upgrade?.protocol === 'websocket') return false;
  return transit.refuse({
    status: 501,
    code: 'INVALID_INPUT',
    message: 'Over HTTP/2 only WebSocket is tunnelled.',
  });
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1 | RFC 9110 §10.1.1} */
function refuseExpectation(transit: Transit): boolean {
  const { expect } = transit.headers;
  if (expect === undefined || expect.toLowerCase() === '100-continue') return false;
  return transit.refuse({
    status: 417,
    code: 'INVALID_INPUT',
    message: 'Only the expectation "100-continue" is known here.',
  });
}

/** The parser of HTTP/1.1 measures for itself; that of HTTP/2 only tells clients the limit. */
function bytesOf(rawHeaders: readonly string[]): number {
  let bytes = 0;
  for (const part of rawHeaders) bytes += part.length;
  return bytes;
}

/** Whatever follows on this connection can't be trusted to be a request. */
function malformed(transit: Transit, status: number, message: string): true {
  transit.connection.isLast = true;
  return transit.refuse({ status, code: 'INVALID_INPUT', message });
}
