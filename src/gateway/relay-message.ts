/** For upstreams that are asked with Node's own client: hands its reply to the `Relay`. */
import type { IncomingMessage } from 'node:http';
import { fieldRecord } from './headers.ts';
import type { Relay } from './relay.ts';

/** Passes head and body of a reply on, with back-pressure from `relay`. False when the head was refused and `fail` was told. */
export function relayMessage(reply: IncomingMessage, relay: Relay, fail: (error: Error) => void): boolean {
  reply.on('error', fail);
  try {
    relay.head(reply.statusCode ?? 0, reply.statusMessage, fieldRecord(reply.rawHeaders));
  } catch (error) {
    fail(error instanceof Error ? error : new Error(String(error)));
    return false;
  }
  reply.on('data', (chunk: Buffer) => {
    if (!relay.data(chunk)) reply.pause();
  });
  return true;
}
