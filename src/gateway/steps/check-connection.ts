/** Whether this host is served over this connection: TLS name, scheme, redirects. */
import { schemeDecision } from '../../routes/match.ts';
import { authorityOf, isLoopbackAddress } from '../control-hosts.ts';
import type { Transit } from '../transit.ts';

export function checkConnection(transit: Transit): boolean {
  if (!isNamedByTls(transit))
    return transit.refuse({
      status: 421,
      code: 'NOT_FOUND',
      message: 'This connection was made for another hostname.',
      reason: 'Host differs from the server name of the TLS connection',
    });
  return transit.match ? checkServed(transit) : checkControl(transit);
}

/**
 * The certificate, and with it every decision that was made for its host, is chosen by SNI; a request for another
 * host on the connection would slip past them. Without SNI only a local client that named an address is served.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-7.4 | RFC 9110 §7.4}
 */
function isNamedByTls({ connection, hostname, peer }: Transit): boolean {
  if (!connection.isEncrypted || connection.servername === hostname) return true;
  return connection.servername === undefined && peer.isLoopback && isLoopbackAddress(hostname);
}

function checkServed(transit: Transit): boolean {
  const { match, scheme, kind, isLocal } = transit;
  if (!match) return false;
  const decision = schemeDecision(match.proxy, scheme);
  if (decision === 'refuse')
    return transit.refuse({
      status: 404,
      code: 'NOT_FOUND',
      message: `This hostname is not served over ${scheme === 'http' ? 'plain HTTP' : 'HTTPS'}.`,
    });
  // A credential that came in the clear has been seen by others: better that the client notices.
  const isForMcp = kind === 'mcp' || kind === 'metadata';
  if (isForMcp && scheme === 'http') return isLocal ? false : refusePlain(transit);
  return decision === 'redirect' ? redirect(transit) : false;
}

/** On loopback the control plane answers in the clear; from anywhere else it redirects reading and refuses the rest. */
function checkControl(transit: Transit): boolean {
  return transit.scheme === 'http' && !transit.isLocal ? refusePlain(transit) : false;
}

function refusePlain(transit: Transit): true {
  const { method } = transit;
  if (method === 'GET' || method === 'HEAD') return redirect(transit);
  return transit.refuse({ status: 403, code: 'FORBIDDEN', message: 'Use HTTPS for this.' });
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15.4.9 | RFC 9110 §15.4.9} */
function redirect(transit: Transit): true {
  const { hostname, path, query, response } = transit;
  const authority = authorityOf(hostname, httpsPortFor(transit), 'https');
  transit.status = 308;
  response.writeHead(308, {
    ...transit.closing(),
    location: `https://${authority}${path}${query === '' ? '' : `?${query}`}`,
    'content-length': '0',
  });
  transit.end();
  transit.discardBody();
  return true;
}

/** Who reached our own HTTP port reaches our own HTTPS port; who came through 80 of a front comes through its 443. */
function httpsPortFor({ port, core }: Transit): number | undefined {
  return port === core.ports.http && port !== 80 ? core.ports.https : undefined;
}
