/**
 * One exchange with one server: over UDP, and over TCP where the answer is too long for it (RFC 7766 §5). Without
 * EDNS, so that the oldest server understands. A datagram that is no answer to what was asked is passed over: anybody
 * can send one. Time is the caller's clock.
 */
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { type Clock, SECOND } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { DnsFault } from './fault.ts';
import { type Message, OPCODE, type QueryType, readMessage, TYPE, writeMessage } from './message.ts';

export interface DnsServer {
  readonly address: string;
  readonly port: number;
}

/** What the DNS is asked with. */
export interface Network {
  readonly clock: Clock;
  readonly randomBytes: (count: number) => Buffer;
}

export const DNS_PORT = 53;
const UDP_TRY_MS = 2 * SECOND;
const UDP_TRIES = 2;
const TCP_MS = 10 * SECOND;
/** Datagrams that are no answer; a server that sends more is not listened to. */
const MAX_STRAY = 64;
const LENGTH_BYTES = 2;
/** There is no network of the kind here (no IPv6, mostly), so nothing was asked. */
const NO_ROUTE: ReadonlySet<string> = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

export interface Query {
  readonly name: string;
  readonly type: QueryType;
  /** Of a resolver; an authoritative server is asked for what it has. */
  readonly recursionDesired: boolean;
}

/** @throws DnsFault when no answer came, AppError CANCELLED. */
export async function ask(
  network: Network,
  server: DnsServer,
  query: Query,
  signal: AbortSignal,
): Promise<Message> {
  for (let attempt = 1; ; attempt += 1) {
    const id = newId(network);
    const question = { name: query.name, type: TYPE[query.type] };
    const { recursionDesired } = query;
    const bytes = writeMessage({ id, opcode: OPCODE.QUERY, recursionDesired, question });
    const accept = (reply: Buffer) => answerTo(reply, id, question);
    try {
      const answer = await overUdp(network, server, { bytes, accept, signal });
      if (!answer.isTruncated) return answer;
      return accept(await overTcp(network, server, bytes, signal));
    } catch (cause) {
      const isLost = cause instanceof DnsFault && cause.kind === 'timeout';
      if (!isLost || attempt === UDP_TRIES) throw cause;
    }
  }
}

export const newId = ({ randomBytes }: Network): number => randomBytes(2).readUInt16BE(0);

/** @throws DnsFault `malformed` when it answers something else. */
function answerTo(reply: Buffer, id: number, question: { name: string; type: number }): Message {
  const message = readMessage(reply);
  const { isResponse, opcode, question: asked } = message;
  if (message.id !== id || !isResponse || opcode !== OPCODE.QUERY)
    throw new DnsFault('malformed', 'what came is no answer to the query');
  if (asked?.name !== question.name || asked.type !== question.type)
    throw new DnsFault('malformed', 'what came answers another question');
  return message;
}

interface Exchange<T> {
  readonly clock: Clock;
  readonly ms: number;
  readonly signal: AbortSignal;
  /** Begins, and says how it is cleaned up. */
  readonly begin: (done: (value: T) => void, fail: (cause: Error) => void) => () => void;
  /** Of what is known when the time is over. */
  readonly late: () => DnsFault;
}

function within<T>({ clock, ms, signal, begin, late }: Exchange<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled(signal));
    let clean: () => void = () => undefined;
    let isSettled = false;
    const settle = (end: () => void) => {
      if (isSettled) return; // A socket may still fail while it is closed.
      isSettled = true;
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
      clean();
      end();
    };
    const fail = (cause: Error) => settle(() => reject(cause));
    const onAbort = () => fail(cancelled(signal));
    const timer = clock.after(ms, () => fail(late()));
    signal.addEventListener('abort', onAbort, { once: true });
    clean = begin((value) => settle(() => resolve(value)), fail);
  });
}

export const cancelled = (signal: AbortSignal): AppError =>
  new AppError('CANCELLED', 'the work was cancelled', { cause: signal.reason });

function overUdp(
  { clock }: Network,
  server: DnsServer,
  { bytes, accept, signal }: { bytes: Buffer; accept: (reply: Buffer) => Message; signal: AbortSignal },
): Promise<Message> {
  let stray: DnsFault | undefined;
  let strays = 0;
  return within<Message>({
    clock,
    ms: UDP_TRY_MS,
    signal,
    late: () => stray ?? new DnsFault('timeout', 'no answer came in time'),
    begin(done, fail) {
      const socket = createSocket(isIPv6(server.address) ? 'udp6' : 'udp4');
      socket.on('error', (cause) => fail(networkFault(cause)));
      socket.on('message', (reply) => {
        try {
          done(accept(reply));
        } catch (cause) {
          if (!(cause instanceof DnsFault)) return fail(networkFault(cause));
          stray = cause;
          strays += 1;
          if (strays > MAX_STRAY) fail(cause);
        }
      });
      // Connected, so that nobody else's datagrams arrive and a closed port is told.
      socket.connect(server.port, server.address, () => socket.send(bytes));
      return () => socket.close();
    },
  });
}

/** @throws DnsFault, AppError CANCELLED. */
export function overTcp(
  { clock }: Network,
  server: DnsServer,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<Buffer> {
  return within<Buffer>({
    clock,
    ms: TCP_MS,
    signal,
    late: () => new DnsFault('timeout', 'no answer came in time over TCP'),
    begin(done, fail) {
      const socket = connect({ host: server.address, port: server.port });
      let received = Buffer.alloc(0);
      socket.on('error', (cause) => fail(networkFault(cause)));
      socket.on('end', () => fail(new DnsFault('unreachable', 'it closed the connection without an answer')));
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
        const reply = framed(received);
        if (reply) done(reply);
      });
      socket.write(Buffer.concat([lengthOf(bytes), bytes]));
      return () => socket.destroy();
    },
  });
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc1035#section-4.2.2 | RFC 1035 §4.2.2} */
function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt16BE(bytes.length, 0);
  return length;
}

/** Undefined while more has to come. What follows the answer is dropped with the connection. */
function framed(received: Buffer): Buffer | undefined {
  if (received.length < LENGTH_BYTES) return undefined;
  const end = LENGTH_BYTES + received.readUInt16BE(0);
  return received.length < end ? undefined : received.subarray(LENGTH_BYTES, end);
}

function networkFault(cause: unknown): DnsFault {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
  return NO_ROUTE.has(code)
    ? new DnsFault('no_route', `this machine has no way to it (${code})`, { cause })
    : new DnsFault('unreachable', `it can't be reached (${code})`, { cause });
}
