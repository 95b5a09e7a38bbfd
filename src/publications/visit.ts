/** One HTTPS request to our own listener, with the name and the host of a visitor, so that the whole gateway answers it. */
import https from 'node:https';
import { checkServerIdentity, type TLSSocket } from 'node:tls';
import type { Visited } from './ports.ts';

/** Addresses that stand for all of a family are reached by one of it. */
const REACHED_BY: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
/** On every answer of the gateway's own. */
const OWN_FIELD = 'x-trace-id';
const TRACE_ID = /^[0-9a-f]{32}$/;

export interface Listening {
  readonly address: string;
  readonly port: number;
}

/** @throws Error when the certificate is not for the hostname, or over; whoever trusts its CA is not asked */
export async function visit(
  at: Listening,
  { hostname, path }: { hostname: string; path: string },
  signal: AbortSignal,
): Promise<Visited> {
  const { promise, resolve, reject } = Promise.withResolvers<Visited>();
  const request = https.request({
    host: REACHED_BY[at.address] ?? at.address,
    port: at.port,
    servername: hostname,
    path,
    agent: false,
    // It is this process that answers; which CAs clients trust is not known here, and name and dates are looked at below.
    rejectUnauthorized: false,
    headers: { host: hostname, 'user-agent': 'ohp-publish-check' },
    signal,
  });
  request.on('error', reject);
  request.on('response', (response) => {
    const fault = faultOf(response.socket as TLSSocket, hostname);
    const traceId = response.headers[OWN_FIELD];
    const isOwn = typeof traceId === 'string' && TRACE_ID.test(traceId);
    response.destroy();
    if (fault === undefined) resolve({ status: response.statusCode ?? 0, isOwn });
    else reject(new Error(`its certificate: ${fault}`));
  });
  request.end();
  try {
    return await promise;
  } finally {
    request.destroy();
  }
}

function faultOf(socket: TLSSocket, hostname: string): string | undefined {
  const certificate = socket.getPeerCertificate();
  const now = Date.now();
  if (Date.parse(certificate.valid_to) < now || Date.parse(certificate.valid_from) > now)
    return `is valid from ${certificate.valid_from} to ${certificate.valid_to}`;
  return checkServerIdentity(hostname, certificate)?.message;
}
