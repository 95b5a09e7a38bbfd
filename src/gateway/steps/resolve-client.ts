import { tellsOfHops } from '../headers.ts';
import type { Transit } from '../transit.ts';

/** The nearest: what stands before it was written further out, where a stranger may have begun the list. */
const PROTO = /(?:^|,)\s*(https?)\s*$/i;

/** Address and scheme as a trusted proxy in front tells them; of anyone else, the connection's own. */
export function resolveClient(transit: Transit): boolean {
  const { peer, headers, rawHeaders, core } = transit;
  // Whoever says so of themselves loses by it, so that it needs no trust.
  transit.isHandedOn = tellsOfHops(rawHeaders);
  if (!peer.isTrusted) return false;
  transit.clientAddress = core.trusted.clientAddress(
    peer,
    textOf(headers['x-forwarded-for']),
    textOf(headers.forwarded),
  );
  const scheme = PROTO.exec(textOf(headers['x-forwarded-proto']) ?? '')?.[1]?.toLowerCase();
  if (scheme === 'http' || scheme === 'https') transit.scheme = scheme;
  return false;
}

const textOf = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(',') : value;
