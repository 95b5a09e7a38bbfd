/**
 * Hosts that ask for client certificates: who showed none, a bad one, or one that was checked by other CAs than count
 * now, goes no further. Every kind of request but challenges of CAs comes through here.
 */
import type { Proxy } from '../../proxies/schema.ts';
import { endConnection } from '../client.ts';
import { type ClientTrust, trustKey, type VerifiedCertificate } from '../client-auth.ts';
import type { Transit } from '../transit.ts';

export function checkClientCertificate(transit: Transit): boolean {
  const auth = transit.match?.proxy.client_auth;
  if (!auth || auth.mode === 'off') return false;
  const { shown } = transit.connection;
  if (!shown || shown.trust !== trustKey(auth)) return misdirected(transit);
  if (shown.fault !== undefined) return refuse(transit, `The client certificate is refused: ${shown.fault}.`);
  const { certificate } = shown;
  if (!certificate)
    return (
      auth.mode === 'require' &&
      refuse(transit, 'This hostname needs a client certificate, and none was shown.')
    );
  const now = transit.core.clock.now();
  if (certificate.notAfter <= now) return refuse(transit, 'The client certificate has expired meanwhile.');
  identify(transit, auth, certificate);
  return false;
}

/**
 * Whether an open exchange may go on under what counts now: `proxy` is the one that serves its host. What ends by
 * itself may do so where its client was checked, if by an older list: a new one comes every day.
 */
export function keepsClientCertificate(transit: Transit, { client_auth: auth }: Proxy): boolean {
  if (auth.mode === 'off') return true;
  const { shown } = transit.connection;
  if (!shown || (shown.certificate === undefined && auth.mode === 'require')) return false;
  return shown.trust === trustKey(auth) || !transit.isEndless;
}

function identify(transit: Transit, auth: ClientTrust, certificate: VerifiedCertificate): void {
  const { subject, fingerprint, names, raw } = certificate;
  transit.notes = { ...transit.notes, client_certificate: { subject, fingerprint_sha256: fingerprint } };
  if (!auth.pass_identity) return;
  transit.identity = [
    ...transit.identity,
    // RFC 9440 §2.1: a byte sequence of RFC 8941.
    'client-cert',
    `:${raw.toString('base64')}:`,
    'x-client-cert-subject',
    asciiOf(subject),
    'x-client-cert-san',
    asciiOf(names),
    'x-client-cert-fingerprint',
    fingerprint,
  ];
}

/** A name may hold any letter and a field only these; the certificate itself is beside it. */
const asciiOf = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?');

/**
 * The connection was made for another host, before certificates were asked for, or under another list: on a new one the
 * client is asked (RFC 9110 §15.5.20).
 */
function misdirected(transit: Transit): true {
  endConnection(transit);
  return transit.refuse({
    status: 421,
    code: 'FORBIDDEN',
    message:
      'This hostname needs a client certificate, and this connection has none that counts. Connect again.',
    reason: 'no client certificate was asked for on this connection, or it was checked by other CAs or lists',
  });
}

function refuse(transit: Transit, message: string): true {
  endConnection(transit);
  return transit.refuse({ status: 403, code: 'FORBIDDEN', message, reason: message });
}
