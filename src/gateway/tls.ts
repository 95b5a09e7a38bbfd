/**
 * TLS of the HTTPS port: which certificate a client gets. Certificates themselves are made and kept elsewhere; here
 * is only the question.
 */
import type { SecureContext } from 'node:tls';
import { type Clock, HOUR, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { parseHostname } from '../core/hostname.ts';
import type { Log, LogLevel } from '../core/record.ts';

/** `servername` is canonical; undefined when the client sent none. Undefined: there is no certificate for it. */
export type SelectCertificate = (servername: string | undefined) => Promise<SecureContext | undefined>;

export interface TlsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly selectCertificate: SelectCertificate;
}

export type SniCallback = (
  servername: string,
  done: (error: Error | null, context?: SecureContext) => void,
) => void;

export function sniCallback(parts: TlsParts): SniCallback {
  return (servername, done) => {
    void contextFor(parts, servername, done);
  };
}

async function contextFor(
  parts: TlsParts,
  servername: string,
  done: Parameters<SniCallback>[1],
): Promise<void> {
  const hostname = parseHostname(servername);
  try {
    const context = hostname === undefined ? undefined : await parts.selectCertificate(hostname);
    if (context) done(null, context);
    else done(new Error('no certificate for this server name'));
  } catch (cause) {
    tlsRecord(parts, 'error', `no certificate for ${hostname}: ${messageOf(cause)}`, hostname);
    done(new Error('no certificate for this server name', { cause }));
  }
}

/** What of a TLS server is not in Node's types: the context of clients that send no server name. */
interface WithDefaultContext {
  _sharedCreds: SecureContext;
}

/**
 * Node takes a default certificate as key and PEM only; `selectCertificate` gives contexts. A test makes a connection
 * without a server name, and so tells when a Node changes this.
 */
export async function keepDefaultContext(server: object, parts: TlsParts): Promise<Timer> {
  const renew = async () => {
    const context = await parts.selectCertificate(undefined);
    if (context) (server as WithDefaultContext)._sharedCreds = context;
  };
  await renew();
  return parts.clock.every(HOUR, () => {
    renew().catch((cause: unknown) => tlsRecord(parts, 'error', `default certificate: ${messageOf(cause)}`));
  });
}

export function tlsRecord(
  { log, clock }: TlsParts,
  level: LogLevel,
  message: string,
  hostname?: string,
): void {
  if (!log.enabled('tls', level)) return;
  log.write({ time: clock.now(), kind: 'tls', level, component: 'tls', message, hostname });
}
