/** One HTTPS request to our own listener, with the name and the host of a visitor, so that the whole gateway answers it. */
import { once } from 'node:events';
import https from 'node:https';
import { checkServerIdentity, connect, type TLSSocket } from 'node:tls';
import { reachedBy } from '../core/reached-by.ts';
import type { Visited } from './ports.ts';

export interface Listening {
  readonly address: string;
  readonly port: number;
}

/** The gateway, which knows who answers what comes from this end of a connection: no reply could prove it. */
type Watching = (end: Listening) => Disposable & { answeredBy(): Visited['by'] };

/** @throws Error when the certificate is not for the hostname, or over; whoever trusts its CA is not asked */
export async function visit(
  at: Listening,
  { hostname, path, watch }: { hostname: string; path: string; watch: Watching },
  signal: AbortSignal,
): Promise<Visited> {
  // It is this process that answers; which CAs clients trust is not known here, and name and dates are looked at below.
  const to = { host: reachedBy(at.address), port: at.port, servername: hostname, rejectUnauthorized: false };
  const socket = connect(to);
  try {
    await once(socket, 'secureConnect', { signal });
    const fault = faultOf(socket, hostname);
    if (fault !== undefined) throw new Error(`its certificate: ${fault}`);
    const { localAddress = '', localPort = 0 } = socket;
    using watched = watch({ address: localAddress, port: localPort });
    const status = await ask(socket, { hostname, path }, signal);
    return { status, by: watched.answeredBy() };
  } finally {
    socket.destroy();
  }
}

async function ask(
  socket: TLSSocket,
  { hostname, path }: { hostname: string; path: string },
  signal: AbortSignal,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const request = https.request({
    createConnection: () => socket,
    path,
    headers: { host: hostname, 'user-agent': 'ohp-publish-check' },
    signal,
  });
  request.on('error', reject);
  request.on('response', (response) => resolve(response.statusCode ?? 0));
  request.end();
  return promise;
}

function faultOf(socket: TLSSocket, hostname: string): string | undefined {
  const certificate = socket.getPeerCertificate();
  const now = Date.now();
  if (Date.parse(certificate.valid_to) < now || Date.parse(certificate.valid_from) > now)
    return `is valid from ${certificate.valid_from} to ${certificate.valid_to}`;
  return checkServerIdentity(hostname, certificate)?.message;
}
