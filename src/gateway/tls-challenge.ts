/**
 * TLS-ALPN-01 on the HTTPS port: while a challenge is pending, a connection whose hello asks for `acme-tls/1` and
 * nothing else, under a name that is challenged, gets the certificate of the challenge, and the connection ends after
 * the handshake. Node chooses certificates before protocols, so the hello is read before the handshake begins; without
 * a pending challenge no connection is looked at.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8737#section-3 | RFC 8737 §3}
 */
import type { Server, Socket } from 'node:net';
import { createServer, type SecureContext } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { MAX_HELLO_BYTES, readClientHello } from './client-hello.ts';

export interface TlsChallenges {
  /** Whether any is pending. */
  readonly isAskedByTls: boolean;
  readonly tls: (servername: string) => SecureContext | undefined;
}

const PROTOCOL = 'acme-tls/1';

export interface ChallengeParts {
  readonly challenges: TlsChallenges;
  readonly clock: Clock;
  readonly handshakeTimeoutMs: number;
}

/** Stands in front of how `server` begins its connections; call it before others listen for them. */
export function answerTlsChallenges(server: Server, parts: ChallengeParts): void {
  const { challenges, clock, handshakeTimeoutMs } = parts;
  const beginners = server.listeners('connection');
  const begin = (socket: Socket) => {
    for (const beginner of beginners) Reflect.apply(beginner, server, [socket]);
  };
  const answering = createServer(
    {
      ALPNProtocols: [PROTOCOL],
      minVersion: 'TLSv1.2',
      handshakeTimeout: handshakeTimeoutMs,
      SNICallback: (servername, done) => done(null, challenges.tls(servername)),
    },
    // Nothing is ever said on it: the certificate was the answer.
    (socket) => socket.end(),
  );
  answering.on('tlsClientError', (_error, socket) => socket.destroy());
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    if (!challenges.isAskedByTls) return begin(socket);
    look(socket, { clock, handshakeTimeoutMs }, (isChallenge) => {
      if (isChallenge(challenges)) answering.emit('connection', socket);
      else begin(socket);
    });
  });
}

type Decide = (isChallenge: (challenges: TlsChallenges) => boolean) => void;

/** Reads the hello and puts it back. */
function look(
  socket: Socket,
  { clock, handshakeTimeoutMs }: Omit<ChallengeParts, 'challenges'>,
  decide: Decide,
): void {
  let bytes = Buffer.alloc(0);
  const timer = clock.after(handshakeTimeoutMs, () => socket.destroy());
  const fail = () => socket.destroy();
  const end = () => {
    timer.cancel();
    socket.off('readable', read);
    socket.off('error', fail);
    socket.off('close', end);
    socket.off('end', fail);
  };
  const read = () => {
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return;
    bytes = Buffer.concat([bytes, chunk]);
    const hello = readClientHello(bytes);
    if (hello === 'incomplete' && bytes.length <= MAX_HELLO_BYTES) return;
    end();
    socket.unshift(bytes);
    decide((challenges) => {
      if (typeof hello !== 'object' || hello.servername === undefined) return false;
      const [only, ...more] = hello.protocols;
      return only === PROTOCOL && more.length === 0 && challenges.tls(hello.servername) !== undefined;
    });
  };
  socket.on('readable', read);
  socket.on('error', fail);
  socket.on('close', end);
  socket.on('end', fail);
}
