/**
 * Whether each listener answers, found out as a client would: a connection, a TLS handshake where there is TLS, and a
 * request for `/healthz`. A port can be open while nobody accepts, or while every connection is turned away.
 */
import { connect as connectPlain, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type Clock, SECOND } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { reachedBy } from '../core/reached-by.ts';
import type { Finding, Probe } from './health.ts';

/** Below the time that `health` gives a probe, so that the listener that does not answer is named. */
const PATIENCE_MS = 1.5 * SECOND;
const MAX_STATUS_LINE = 1024;
const ALIVE = /^HTTP\/1\.1 200 /;

export interface Listener {
  name: string;
  isTls: boolean;
  /** Where it is bound to now; undefined when it does not listen. */
  at: { address: string; port: number } | undefined;
}

interface Options {
  clock: Clock;
  /** A control host: there `/healthz` answers, and there is a certificate for it. */
  host: string;
}

export function listenersProbe(listeners: () => readonly Listener[], options: Options): Probe {
  return async () => {
    const all = await Promise.all(listeners().map((listener) => reach(listener, options)));
    const faults = all.filter(({ fault }) => fault !== undefined);
    const message = all.map(({ where, fault }) => (fault === undefined ? where : `${where}: ${fault}`));
    return { status: statusOf(all.length, faults.length), message: message.join(', ') || 'nothing listens' };
  };
}

function statusOf(all: number, faulty: number): Finding['status'] {
  if (faulty === all) return 'down';
  return faulty > 0 ? 'degraded' : 'ok';
}

async function reach(listener: Listener, options: Options): Promise<{ where: string; fault?: string }> {
  const { name, at } = listener;
  if (!at) return { where: name, fault: 'not listening' };
  const where = `${name} ${at.address.includes(':') ? `[${at.address}]` : at.address}:${at.port}`;
  try {
    const line = await statusLine(connect(listener.isTls, at, options.host), options);
    return ALIVE.test(line) ? { where } : { where, fault: 'does not answer as it should' };
  } catch (cause) {
    return { where, fault: messageOf(cause) };
  }
}

function connect(isTls: boolean, at: { address: string; port: number }, host: string): Socket {
  const { port } = at;
  const address = reachedBy(at.address);
  if (!isTls) return connectPlain({ host: address, port });
  // Whether the handshake works is asked here; who trusts the certificate is not this process's to say.
  return connectTls({ host: address, port, servername: host, rejectUnauthorized: false });
}

/** The first line of the answer; what is left of the connection ends with it. */
async function statusLine(socket: Socket, { clock, host }: Options): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = clock.after(PATIENCE_MS, () => reject(new Error(`no answer within ${PATIENCE_MS} ms`)));
  let text = '';
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
    if (text.includes('\r\n') || text.length > MAX_STATUS_LINE) resolve(text);
  });
  socket.on('error', reject);
  socket.once('close', () => reject(new Error('the connection was closed without an answer')));
  socket.write(
    `HEAD /healthz HTTP/1.1\r\nhost: ${host}\r\nuser-agent: ohp-health-check\r\nconnection: close\r\n\r\n`,
  );
  try {
    return await promise;
  } finally {
    timer.cancel();
    socket.destroy();
  }
}
