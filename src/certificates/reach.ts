/**
 * Whether what is at an address under a hostname is this gateway: it is asked for a challenge that only this process can
 * answer, and for the certificate that this process serves. Nothing of an answer but "ours" or "not ours" is told, and
 * only addresses of the world and of this machine are asked: who points a name at others learns nothing of them.
 */
import { request } from 'node:http';
import { networkInterfaces } from 'node:os';
import { connect } from 'node:tls';
import type { FoundAddress } from './dns/addresses.ts';

const MAX_ANSWER = 1024;
const LOOPBACK = /^(?:127\.|::1$)/;

/** `not_asked`: it is of another network than the world's and not this machine's. */
export type Reached = 'ours' | 'not_ours' | 'no_answer' | 'not_asked';

export interface Asked {
  readonly hostname: string;
  readonly address: string;
  readonly port: number;
  readonly signal: AbortSignal;
}

export function isOwnAddress(address: string): boolean {
  if (LOOPBACK.test(address)) return true;
  return Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === address));
}

export const mayBeAsked = ({ address, special }: FoundAddress): boolean =>
  special === undefined || isOwnAddress(address);

/** HTTP, one path, no redirects. Never rejects. */
export function reachHttp(
  { hostname, address, port, signal }: Asked,
  { path, body }: { path: string; body: string },
): Promise<Reached> {
  return new Promise((resolve) => {
    const asked = request(
      { host: address, port, path, headers: { host: hostname, connection: 'close' }, agent: false, signal },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          if (text.length <= MAX_ANSWER) return;
          resolve('not_ours');
          asked.destroy();
        });
        response.on('end', () => resolve(response.statusCode === 200 && text === body ? 'ours' : 'not_ours'));
        response.on('error', () => resolve('not_ours'));
      },
    );
    asked.on('error', () => resolve('no_answer'));
    asked.end();
  });
}

/** By the certificate, whoever signed it. Never rejects. */
export function reachHttps(
  { hostname, address, port, signal }: Asked,
  fingerprint: string,
): Promise<Reached> {
  return new Promise((resolve) => {
    const socket = connect({
      host: address,
      port,
      servername: hostname,
      // It is compared with one certificate, which is more than a signature of somebody tells.
      rejectUnauthorized: false,
    });
    const end = (reached: Reached) => {
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      resolve(reached);
    };
    const onAbort = () => end('no_answer');
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    socket.on('secureConnect', () => {
      end(socket.getPeerX509Certificate()?.fingerprint256 === fingerprint ? 'ours' : 'not_ours');
    });
    socket.on('error', () => end('no_answer'));
  });
}
