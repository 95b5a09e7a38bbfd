import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** Of Linux, where it is not set otherwise; other systems begin higher. */
const USUAL_FIRST_GIVEN = 32_768;
const FIRST = 10_000;
/** Fewer would be shared by too many tests: then rather one that the system might give. */
const LEAST = 1000;
const TRIES = 100;

/**
 * A port that nothing has, and that the system gives to nobody who asks for any: between now and the moment when a
 * program listens there, and while it starts again, other tests ask all the time. Free for TCP on all addresses.
 */
export async function freePort(isFree: (port: number) => Promise<boolean> = isFreeForTcp): Promise<number> {
  const left = firstGiven() - FIRST;
  const count = left >= LEAST ? left : USUAL_FIRST_GIVEN - FIRST;
  for (let tried = 0; tried < TRIES; tried++) {
    const port = FIRST + Math.floor(Math.random() * count);
    if (await isFree(port)) return port;
  }
  throw new Error(`no port of ${FIRST} to ${FIRST + count - 1} is free`);
}

/** The lowest that the system gives by itself. */
function firstGiven(): number {
  if (process.platform !== 'linux') return USUAL_FIRST_GIVEN;
  const [first] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/);
  return Number(first);
}

export async function isFreeForTcp(port: number): Promise<boolean> {
  const server = createServer().listen(port);
  const isListening = await once(server, 'listening').then(
    () => true,
    () => false,
  );
  if (!isListening) return false;
  server.close();
  await once(server, 'close');
  return true;
}
