import { limits } from '../../core/limits.ts';
import type { Transit } from '../transit.ts';

/** By what the client announces, before it sends it; what it does not announce is counted while it is read. */
export function limitBody(transit: Transit): boolean {
  const { match, kind, headers } = transit;
  const length = headers['content-length'];
  if (length === undefined) return false;
  const max = kind === 'proxied' && match ? match.proxy.max_body_bytes : limits.controlBodyBytes;
  if (Number(length) <= max) return false;
  return transit.refuse({
    status: 413,
    code: 'TOO_LARGE',
    message: `The request body is larger than ${max} bytes.`,
  });
}
