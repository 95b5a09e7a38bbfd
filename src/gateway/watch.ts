/**
 * Finds requests that have stopped moving: a client silent in the middle of its body, a client that does not read, an
 * upstream silent in the middle of its reply, a tunnel in which nothing happens, a wait for a connection to an upstream
 * that has none free. One sweep for all of them, so that a request costs no timer. (Time to the request head and to the response head is kept by the engines themselves.)
 */
import { type Clock, type Timer } from '../core/clock.ts';
import { type ClientRequest, isHttp2Request } from './client.ts';
import { refuseFull } from './destination.ts';
import { gatewayLimits } from './settings.ts';
import type { Transit } from './transit.ts';

/** For whom a request waits. */
type Wait = 'connection' | 'client body' | 'client read' | 'upstream' | 'tunnel' | 'linger';

interface Observation {
  wait: Wait;
  progress: number;
  since: number;
}

export interface WatchOptions {
  readonly clock: Clock;
  readonly bodyTimeoutMs: number;
  readonly inFlight: Iterable<Transit>;
  readonly lingering: Lingering;
}

/** Starts watching; the timer that comes back stops it. */
export function watch(options: WatchOptions): Timer {
  const { clock, bodyTimeoutMs, inFlight, lingering } = options;
  const seen = new WeakMap<Transit, Observation>();
  const everyMs = Math.max(1, Math.min(gatewayLimits.sweepMs, Math.floor(bodyTimeoutMs / 2)));
  return clock.every(everyMs, () => {
    const now = clock.now();
    lingering.sweep(now);
    for (const transit of inFlight) {
      const wait = waitOf(transit);
      if (!wait) {
        seen.delete(transit);
        continue;
      }
      const before = seen.get(transit);
      const progress = progressOf(transit);
      if (before?.wait !== wait || before.progress !== progress)
        seen.set(transit, { wait, progress, since: now });
      else if (now - before.since >= limitOf(wait, transit, bodyTimeoutMs)) end(transit, wait);
    }
  });
}

function waitOf(transit: Transit): Wait | undefined {
  const { response, status, isEventStream } = transit;
  if (transit.tunnelBytes !== undefined) return 'tunnel';
  if (response.writableEnded) return response.writableFinished ? 'linger' : 'client read';
  if (response.writableNeedDrain) return 'client read';
  if (transit.activity?.isQueued) return 'connection';
  if (isWaitingForBody(transit)) return 'client body';
  // Event streams are silent for as long as there is no event.
  return status !== 0 && !isEventStream && transit.kind === 'proxied' ? 'upstream' : undefined;
}

/** Not when bytes are there and whoever reads them is the slow one. */
function isWaitingForBody({ isBodyComplete, request, body }: Transit): boolean {
  return !isBodyComplete && request.readableLength === 0 && (body?.readableLength ?? 0) === 0;
}

function progressOf(transit: Transit): number {
  if (transit.tunnelBytes !== undefined) return transit.tunnelBytes;
  const { request, body, bytesOut, response } = transit;
  const read = body ? body.bytes : isHttp2Request(request) ? 0 : request.socket.bytesRead;
  return read + bytesOut - response.writableLength;
}

function limitOf(wait: Wait, { match }: Transit, bodyTimeoutMs: number): number {
  if (wait === 'linger') return gatewayLimits.lingerMs;
  if (wait === 'connection') return (match?.proxy.connect_timeout_ms ?? 0) + gatewayLimits.connectGraceMs;
  const ofClient = wait === 'client body' || wait === 'client read';
  return ofClient ? bodyTimeoutMs : (match?.proxy.idle_timeout_ms ?? bodyTimeoutMs);
}

function end(transit: Transit, wait: Wait): void {
  if (wait === 'connection') {
    refuseFull(transit, 'no connection became free');
    return;
  }
  if (wait === 'client body' && !transit.response.headersSent) {
    const message = 'The rest of the request did not come in time.';
    transit.activity?.abort(new Error(message));
    transit.refuse({ status: 408, code: 'TIMEOUT', message, reason: `no progress: ${wait}` });
  } else transit.close('TIMEOUT', `no progress: ${wait}`);
}

/** Requests that were answered before they had come in whole: the rest is thrown away, but not for ever. */
export class Lingering {
  readonly #since = new Map<ClientRequest, number>();

  add(request: ClientRequest, now: number): void {
    if (!isHttp2Request(request) && !request.socket.destroyed) this.#since.set(request, now);
  }

  sweep(now: number): void {
    for (const [request, since] of this.#since) {
      const { complete, socket } = request;
      // What is whole leaves its connection to the next request, unless our side was ended already.
      const isSettled = socket.destroyed || (complete && !socket.writableEnded);
      const isOver = now - since >= gatewayLimits.lingerMs;
      if (!isSettled && isOver) socket.destroy();
      if (isSettled || isOver) this.#since.delete(request);
    }
  }

  get size(): number {
    return this.#since.size;
  }
}
