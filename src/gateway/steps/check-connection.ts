/** Whether this host is served over this connection: TLS name, scheme, redirects. */
import { httpsUrl, type Passage, passageOf } from '../../routes/decide.ts';
import { isLoopbackAddress } from '../../routes/own.ts';
import type { Transit } from '../transit.ts';
import { TRACE_FIELD } from '../trace.ts';

export function checkConnection(transit: Transit): boolean {
  if (!isNamedByTls(transit))
    return transit.refuse({
      status: 421,
      code: 'NOT_FOUND',
      message: 'This connection was made for another hostname.',
      reason: 'Host differs from the server name of the TLS connection',
    });
  const isOwn = transit.kind !== 'proxied' && transit.kind !== 'upgrade';
  return conclude(transit, passageOf(transit, isOwn));
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

function conclude(transit: Transit, passage: Passage): boolean {
  switch (passage) {
    case 'serve':
      return false;
    case 'redirect':
      return redirect(transit);
    case 'unserved':
      return transit.refuse({
        status: 404,
        code: 'NOT_FOUND',
        message: `This hostname is not served over ${transit.scheme === 'http' ? 'plain HTTP' : 'HTTPS'}.`,
      });
    case 'unsafe':
      return transit.refuse({ status: 403, code: 'FORBIDDEN', message: 'Use HTTPS for this.' });
  }
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15.4.9 | RFC 9110 §15.4.9} */
function redirect(transit: Transit): true {
  const { response, core } = transit;
  transit.status = 308;
  response.writeHead(308, {
    ...transit.closing(),
    [TRACE_FIELD]: transit.traceId,
    location: httpsUrl(transit, core.ports),
    'content-length': '0',
  });
  transit.end();
  transit.discardBody();
  return true;
}
