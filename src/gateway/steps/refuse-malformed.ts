import { countOf } from '../bearer.ts';
import { isHttp2Request } from '../client.ts';
import type { Transit } from '../transit.ts';

const METHOD = /^[A-Z][A-Z-]{0,31}$/;
/** A reverse proxy makes no tunnels, and TRACE would show what was added for the upstream. */
const notServed: ReadonlySet<string> = new Set(['CONNECT', 'TRACE']);
const LENGTH = /^\d{1,15}$/;

/**
 * What the engine lets pass and another reader of the same bytes could take differently.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9112#section-6.3 | RFC 9112 §6.3}
 */
export function refuseMalformed(transit: Transit): boolean {
  const { rawHeaders, core, request } = transit;
  // Over HTTP/1.1 Node drops what is beyond the limit it was given, which is one more than is allowed.
  if (!isHttp2Request(request) && rawHeaders.length / 2 > core.settings.maxHeaders)
    return transit.refuse({
      status: 431,
      code: 'TOO_LARGE',
      message: 'The header of the request is too large.',
    });
  return refuseFraming(transit) || refuseMethod(transit) || refuseExpectation(transit);
}

function refuseFraming(transit: Transit): boolean {
  const { rawHeaders, request, headers } = transit;
  const { 'transfer-encoding': encoding, 'content-length': length } = headers;
  if (encoding !== undefined) {
    if (encoding.toLowerCase() !== 'chunked' || countOf(rawHeaders, 'transfer-encoding') > 1)
      return malformed(transit, 501, 'Only the transfer coding "chunked" is supported.');
    if (length !== undefined || request.httpVersion === '1.0') return ambiguous(transit);
  }
  if (length === undefined) return false;
  return !LENGTH.test(length) || countOf(rawHeaders, 'content-length') > 1 ? ambiguous(transit) : false;
}

const ambiguous = (transit: Transit): true => malformed(transit, 400, 'The length of the body is ambiguous.');

function refuseMethod(transit: Transit): boolean {
  const { method, isExtendedConnect } = transit;
  if (isExtendedConnect || (METHOD.test(method) && !notServed.has(method))) return false;
  return transit.refuse({
    status: 405,
    code: 'INVALID_INPUT',
    message: 'The method is not served here.',
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

/** Whatever follows on this connection can't be trusted to be a request. */
function malformed(transit: Transit, status: number, message: string): true {
  const closing = isHttp2Request(transit.request) ? {} : { connection: 'close' };
  return transit.refuse({ status, code: 'INVALID_INPUT', message, headers: closing });
}
