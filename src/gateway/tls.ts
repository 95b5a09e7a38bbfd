/**
 * TLS of the HTTPS port: which certificate a client gets. Certificates themselves are made and kept elsewhere; here
 * is only the question.
 */
import { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { type Clock, HOUR, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { parseHostname } from '../core/hostname.ts';
import type { Log, LogLevel } from '../core/record.ts';
import type { TlsChallenges } from './tls-challenge.ts';

/** `servername` is canonical; undefined when the client sent none. Undefined: there is no certificate for it. */
export type SelectCertificate = (servername: string | undefined) => Promise<SecureContext | undefined>;

export interface TlsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly selectCertificate: SelectCertificate;
  /** Of CAs, on the HTTPS port; absent: none. */
  readonly tlsChallenges?: TlsChallenges | undefined;
}

export type SniCallback = (
  this: unknown,
  servername: string,
  done: (error: Error | null, context?: SecureContext) => void,
) => void;

export function sniCallback(parts: TlsParts): SniCallback {
  return function (servername, done) {
    void answer(parts, { servername, done, tlsSocket: this });
  };
}

interface Asked {
  readonly servername: string;
  readonly done: Parameters<SniCallback>[1];
  readonly tlsSocket: unknown;
}

async function answer(parts: TlsParts, { servername, done, tlsSocket }: Asked): Promise<void> {
  const found = await contextFor(parts, servername);
  if ('alert' in found) {
    rawSocketOf(tlsSocket)?.end(found.alert);
    done(new Error(found.reason));
  } else done(null, found);
}

interface Refused {
  readonly alert: Uint8Array;
  readonly reason: string;
}

async function contextFor(parts: TlsParts, servername: string): Promise<SecureContext | Refused> {
  const hostname = parseHostname(servername);
  try {
    const context = hostname === undefined ? undefined : await parts.selectCertificate(hostname);
    return context ?? { alert: UNRECOGNIZED_NAME, reason: 'no certificate for this server name' };
  } catch (cause) {
    tlsRecord(parts, 'error', `no certificate for ${hostname}: ${messageOf(cause)}`, hostname);
    return { alert: INTERNAL_ERROR, reason: 'the certificate for this server name can not be used' };
  }
}

/**
 * A fatal alert as a record in the clear, which is what every alert before the ServerHello is. Node has no way to send
 * one and only drops the connection, which browsers take for a broken network.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8446#section-6 | RFC 8446 §5.1, §6}
 */
const fatalAlert = (description: number): Uint8Array => Uint8Array.of(21, 3, 3, 0, 2, 2, description);
const INTERNAL_ERROR = fatalAlert(80);
/** @see {@link https://www.rfc-editor.org/rfc/rfc6066#section-3 | RFC 6066 §3} */
const UNRECOGNIZED_NAME = fatalAlert(112);

/**
 * The connection under a TLS socket, for what has to be said without TLS. Not in Node's types; tests of what a client
 * without a handshake gets to read tell when a Node changes this, and then the connection is only closed.
 */
export function rawSocketOf(tlsSocket: unknown): Socket | undefined {
  const { _parent: socket } = tlsSocket as { _parent?: unknown };
  return socket instanceof Socket && socket.writable ? socket : undefined;
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
