/**
 * TLS of the HTTPS port: which certificate a client gets. Certificates themselves are made and kept elsewhere; here
 * is only the question.
 */
import { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { type Clock, MINUTE, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { parseHostname } from '../core/hostname.ts';
import type { Log, LogLevel } from '../core/record.ts';
import type { ClientTrust } from './client-auth.ts';
import type { TlsChallenges } from './tls-challenge.ts';

/**
 * `servername` is canonical; undefined when the client sent none. `clients`: whose certificates clients have to show.
 * Undefined: there is no certificate for it. Rejects where it, or the CAs of `clients`, can't be used.
 */
export type SelectCertificate = (
  servername: string | undefined,
  clients?: ClientTrust,
) => Promise<SecureContext | undefined>;

export interface TlsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly selectCertificate: SelectCertificate;
  /** Of CAs, on the HTTPS port; absent: none. */
  readonly tlsChallenges?: TlsChallenges | undefined;
  readonly tickets?: SessionTickets | undefined;
}

/** Keys of session tickets; they change, and are the same in every process on one store. */
export interface SessionTickets {
  /** What new tickets are sealed with. */
  current(): TicketKey;
  /** By the name in a ticket; undefined: not, or no longer, known, and the handshake is a full one. */
  find(name: Buffer): TicketKey | undefined;
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc5077#section-4 | RFC 5077 §4} */
export interface TicketKey {
  /** 16 bytes. */
  readonly name: Buffer;
  /** For HMAC with SHA-256. */
  readonly mac: Buffer;
  /** 16 bytes, for AES-128-CBC. */
  readonly cipher: Buffer;
}

export type SniCallback = (
  this: unknown,
  servername: string,
  done: (error: Error | null, context?: SecureContext) => void,
) => void;

/** `isClosed`: the host asks for client certificates, and this is not the server that does. */
export function sniCallback(parts: TlsParts, isClosed: (hostname: string) => boolean): SniCallback {
  return function (servername, done) {
    void answer(contextFor(parts, servername, isClosed), this, done);
  };
}

export async function answer(
  finding: Promise<SecureContext | Refused>,
  tlsSocket: unknown,
  done: Parameters<SniCallback>[1],
): Promise<void> {
  const found = await finding;
  if ('alert' in found) {
    rawSocketOf(tlsSocket)?.end(found.alert);
    done(new Error(found.reason));
  } else done(null, found);
}

export interface Refused {
  readonly alert: Uint8Array;
  readonly reason: string;
}

/** Never rejects. */
async function contextFor(
  parts: TlsParts,
  servername: string,
  isClosed: (hostname: string) => boolean,
): Promise<SecureContext | Refused> {
  const hostname = parseHostname(servername);
  try {
    // Its hello could not be read before the handshake, or it came in the moment of the change.
    if (hostname !== undefined && isClosed(hostname))
      return { alert: HANDSHAKE_FAILURE, reason: 'this server name asks for client certificates' };
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
const HANDSHAKE_FAILURE = fatalAlert(40);
export const INTERNAL_ERROR = fatalAlert(80);
/** @see {@link https://www.rfc-editor.org/rfc/rfc6066#section-3 | RFC 6066 §3} */
export const UNRECOGNIZED_NAME = fatalAlert(112);

/**
 * The connection under a TLS socket, for what has to be said without TLS. Not in Node's types; tests of what a client
 * without a handshake gets to read tell when a Node changes this, and then the connection is only closed.
 */
export function rawSocketOf(tlsSocket: unknown): Socket | undefined {
  const socket = parentOf(tlsSocket);
  return socket?.writable ? socket : undefined;
}

/** Also where nothing can be written on it any more. */
export function parentOf(tlsSocket: unknown): Socket | undefined {
  const { _parent: socket } = tlsSocket as { _parent?: unknown };
  return socket instanceof Socket ? socket : undefined;
}

/** What of a TLS server is not in Node's types: the context of clients that send no server name. */
interface WithDefaultContext {
  _sharedCreds: SecureContext;
}

/** What of a context is not in Node's types: OpenSSL's question for the keys of tickets, as Node hands it on. */
interface TicketContext {
  enableTicketKeyCallback(): void;
  onticketkeycallback: (name: Buffer, iv: Buffer, isNew: boolean) => TicketAnswer;
}
/** 1: this is the key; 0: there is none. */
type TicketAnswer = readonly [found: 0 | 1, mac: Buffer, cipher: Buffer, name: Buffer, iv: Buffer];

/** As often as `selectCertificate` looks again: one that is renewed, revoked or over is not given out for longer. */
const DEFAULT_EVERY_MS = MINUTE;

/**
 * Node takes a default certificate as key and PEM only; `selectCertificate` gives contexts. A test makes a connection
 * without a server name, and so tells when a Node changes this.
 */
export async function keepDefaultContext(server: object, parts: TlsParts): Promise<Timer> {
  const renew = async () => {
    const context = await parts.selectCertificate(undefined);
    if (!context || context === (server as WithDefaultContext)._sharedCreds) return;
    if (parts.tickets) keepTickets(context, parts.tickets);
    (server as WithDefaultContext)._sharedCreds = context;
  };
  await renew();
  return parts.clock.every(DEFAULT_EVERY_MS, () => {
    renew().catch((cause: unknown) => tlsRecord(parts, 'error', `default certificate: ${messageOf(cause)}`));
  });
}

/**
 * Tickets are always of the default context, whose hostname ever a handshake is for. A ticket is known again by its
 * name. A test resumes sessions over a restart, and so tells when a Node changes this.
 */
function keepTickets({ context }: SecureContext, tickets: SessionTickets): void {
  const asked = context as TicketContext;
  asked.onticketkeycallback = (sought, iv, isNew) => {
    const found = isNew ? tickets.current() : tickets.find(sought);
    // Also where there is none Node (24.21) reads the parts of a key, and ends the process when they are missing.
    const { mac, cipher, name } = found ?? tickets.current();
    return [found ? 1 : 0, mac, cipher, name, iv];
  };
  asked.enableTicketKeyCallback();
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
