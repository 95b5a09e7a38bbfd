/**
 * TLS-ALPN-01 on the HTTPS port: while a challenge is pending, a connection whose hello asks for `acme-tls/1` and
 * nothing else, under a name that is challenged, gets the certificate of the challenge, and the connection ends after
 * the handshake.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8737#section-3 | RFC 8737 §3}
 */
import { createServer, type SecureContext } from 'node:tls';
import { ACME_TLS_PROTOCOL, tlsPolicy } from '../core/tls-policy.ts';
import type { Place } from './tls-door.ts';

export interface TlsChallenges {
  /** Whether any is pending. */
  readonly isAskedByTls: boolean;
  readonly tls: (servername: string) => SecureContext | undefined;
}

export function challengePlace(challenges: TlsChallenges, handshakeTimeout: number): Place {
  const server = createServer(
    {
      ...tlsPolicy,
      ALPNProtocols: [ACME_TLS_PROTOCOL],
      handshakeTimeout,
      SNICallback: (servername, done) => done(null, challenges.tls(servername)),
    },
    // Nothing is ever said on it, the certificate was the answer; nor is it waited for what the client may say, or not.
    (socket) => socket.destroySoon(),
  );
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return {
    server,
    isAsked: () => challenges.isAskedByTls,
    isMeant({ servername, protocols: [only, ...more] }) {
      if (servername === undefined || only !== ACME_TLS_PROTOCOL || more.length > 0) return false;
      return challenges.tls(servername) !== undefined;
    },
  };
}
