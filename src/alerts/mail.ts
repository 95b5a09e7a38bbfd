/**
 * One plain text to the operator's own mail server (SMTP submission). The server and whom it writes to are settings;
 * what an alert quotes is never in a header but, cleaned and cut, in the subject. The library is loaded with the first
 * message. Made by `app.alerts.ts`.
 * @see {@link https://www.rfc-editor.org/rfc/rfc6409 | RFC 6409}, {@link https://www.rfc-editor.org/rfc/rfc8314 | RFC 8314}
 */
import { connect, isIP } from 'node:net';
import { getCACertificates } from 'node:tls';
import type { SMTPTransportGetSocketCallback, SMTPTransportOptions } from 'nodemailer/lib/smtp-transport';
import { forbiddenAddress } from '../core/addresses.ts';
import { SECOND } from '../core/clock.ts';
import { AddressRefused, lookupDialable } from '../core/dial.ts';
import { messageOf } from '../core/errors.ts';
import { MIN_TLS_VERSION } from '../core/tls-policy.ts';
import { cleanText, ownWordsOf } from '../core/untrusted.ts';
import type { Channel, ChannelMessage, Fault } from './channel.ts';
import { type Message, messageSchema } from './message.ts';

const CONNECT_MS = 10 * SECOND;
const TIMEOUT_MS = 30 * SECOND;
const MAX_SUBJECT = 120;
const MAX_SUMMARY = 2000;
const MAX_FACT = 300;
const MAX_FACTS = 30;
const MAX_FAULT = 200;

export interface MailServer {
  readonly host: string;
  readonly port: number;
  /** `starttls`: refused where the server does not offer it. `none`: this machine only. */
  readonly tls: 'starttls' | 'implicit' | 'none';
  /** PEM of authorities that are trusted besides those of the system. */
  readonly trustPem?: string | undefined;
  readonly login?: { readonly username: string; readonly password: string } | undefined;
  readonly from: string;
  readonly to: readonly string[];
}

export const mailChannel = (server: MailServer): Channel => ({
  name: 'email',
  send: (message) => sendMail(server, message),
});

async function sendMail(
  server: MailServer,
  { id, body, now, signal }: ChannelMessage,
): Promise<Fault | undefined> {
  const { from, to } = server;
  try {
    const { createTransport } = await import('nodemailer');
    const transport = createTransport(transportOf(server));
    const mail = mailOf(messageSchema.parse(JSON.parse(body)));
    const { rejected } = await transport.sendMail({
      ...mail,
      from,
      to: [...to],
      date: new Date(now),
      // The same for every attempt. @see RFC 5322 §3.6.4
      messageId: `<${id}@${from.slice(from.lastIndexOf('@') + 1)}>`,
      // No reply of a machine is wanted. @see RFC 3834 §5
      headers: { 'Auto-Submitted': 'auto-generated' },
      disableFileAccess: true,
      disableUrlAccess: true,
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    // The others have it: told again, they would have it twice.
    if (rejected.length > 0)
      return {
        why: `the mail server took it for ${to.length - rejected.length} of ${to.length} addresses`,
        isFinal: true,
      };
    return undefined;
  } catch (cause) {
    return faultOf(cause);
  }
}

function transportOf(server: MailServer): SMTPTransportOptions {
  const { host, port, tls, trustPem, login } = server;
  return {
    host,
    port,
    secure: tls === 'implicit',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    tls: {
      minVersion: MIN_TLS_VERSION,
      rejectUnauthorized: true,
      ...(trustPem !== undefined && { ca: [...getCACertificates('default'), trustPem] }),
    },
    ...(login && { auth: { user: login.username, pass: login.password } }),
    connectionTimeout: CONNECT_MS,
    greetingTimeout: CONNECT_MS,
    socketTimeout: TIMEOUT_MS,
    // Its own resolver would not judge addresses.
    getSocket: (_options, done) => dial(host, port, done),
  };
}

/** Connected, to an address that was judged. */
function dial(host: string, port: number, done: SMTPTransportGetSocketCallback): void {
  const fault = isIP(host) === 0 ? undefined : forbiddenAddress(host);
  if (fault !== undefined) return done(new AddressRefused(fault));
  const socket = connect({ host, port, lookup: lookupDialable, timeout: CONNECT_MS });
  const timedOut = () => socket.destroy(new Error('no connection in time'));
  const failed = (cause: Error) => done(cause);
  socket.once('timeout', timedOut);
  socket.once('error', failed);
  socket.once('connect', () => {
    socket.off('timeout', timedOut);
    socket.off('error', failed);
    socket.setTimeout(0);
    done(null, { connection: socket });
  });
}

/** Exported for tests. */
export function mailOf({ type, timestamp, data }: Message): { subject: string; text: string } {
  const { status, level, summary, hostname, ...facts } = data;
  const what = status === 'raised' ? level.toUpperCase() : status;
  const lines = Object.entries(facts)
    .slice(0, MAX_FACTS)
    .map(([name, value]) => `${cleanText(name, MAX_FACT)}: ${cleanText(wordsOf(value), MAX_FACT)}`);
  return {
    subject: cleanText(`[oauth-https-proxy] ${what}: ${summary}`, MAX_SUBJECT),
    text: [
      cleanText(summary, MAX_SUMMARY),
      '',
      `${status} at ${timestamp}, ${type}${hostname === undefined ? '' : `, ${cleanText(hostname)}`}`,
      ...lines,
      '',
      'This text may quote what strangers wrote. list_alerts tells what is wrong now.',
      '',
    ].join('\n'),
  };
}

const wordsOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** What it says of a message it will say again; a login may be mended meanwhile. @see RFC 5321 §4.2.1 */
const OF_THE_MESSAGE = new Set(['EENVELOPE', 'EMESSAGE']);
const FIRST_PERMANENT = 500;

/** Nothing that the server said but its number: behind that may stand anything, also the login that it was sent. */
function faultOf(cause: unknown): Fault {
  if (!(cause instanceof Error)) return { why: messageOf(cause) };
  const reply = 'responseCode' in cause ? Number(cause.responseCode) : Number.NaN;
  const code = 'code' in cause ? String(cause.code) : '';
  if (Number.isNaN(reply) || reply === 0) {
    if ('response' in cause && cause.response)
      return { why: 'the mail server answered what is no reply of SMTP' };
    return { why: cleanText(ownWordsOf(cause), MAX_FAULT) };
  }
  const isFinal = reply >= FIRST_PERMANENT && OF_THE_MESSAGE.has(code);
  return { why: `the mail server answered ${reply}${code === 'EAUTH' ? ' to the login' : ''}`, isFinal };
}
