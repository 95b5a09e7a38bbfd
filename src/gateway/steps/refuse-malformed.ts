import { countOf } from '../bearer.ts';
import { isHttp2Request } from '../client.ts';
import type { Transit } from '../transit.ts';

const METHOD = /^[A-Z][A-Z-]{0,31}$/;

/**
 * What the engine lets pass and another reader of the same bytes could take differently.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9112#section-6.3 | RFC 9112 §6.3}
 */
export function refuseMalformed(transit: Transit): boolean {
  const { rawHeaders, core, request, headers } = transit;
  // Node stops collecting beyond the limit it was given: one more than is allowed shows that there were too many.
  if (rawHeaders.length / 2 > core.settings.maxHeaders + pseudoFields(transit))
    return transit.refuse({ status: 431, code: 'TOO_LARGE', message: 'There are too many header fields.' });
  const { 'transfer-encoding': encoding, 'content-length': length } = headers;
  if (encoding !== undefined) {
    if (encoding.toLowerCase() !== 'chunked' || countOf(rawHeaders, 'transfer-encoding') > 1)
      return malformed(transit, 501, 'Only the transfer coding "chunked" is supported.');
    if (length !== undefined || request.httpVersion === '1.0')
      return malformed(transit, 400, 'The length of the body is ambiguous.');
  }
  if (length !== undefined && (!/^\d{1,15}$/.test(length) || countOf(rawHeaders, 'content-length') > 1))
    return malformed(transit, 400, 'The length of the body is ambiguous.');
  if (transit.method === 'CONNECT' && !transit.isExtendedConnect)
    return transit.refuse({ status: 405, code: 'INVALID_INPUT', message: 'CONNECT is not served here.' });
  if (!METHOD.test(transit.method) || transit.method === 'TRACE')
    return transit.refuse({ status: 405, code: 'INVALID_INPUT', message: 'The method is not served here.' });
  return false;
}

const pseudoFields = ({ request, rawHeaders }: Transit): number => {
  if (!isHttp2Request(request)) return 0;
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.startsWith(':')) count++;
  return count;
};

/** Whatever follows on this connection can't be trusted to be a request. */
function malformed(transit: Transit, status: number, message: string): true {
  const closing = isHttp2Request(transit.request) ? {} : { connection: 'close' };
  return transit.refuse({ status, code: 'INVALID_INPUT', message, headers: closing });
}
