/**
 * The next few requests of one hostname, kept in memory while somebody looks for a fault. A capture ends by itself: when
 * it has what was wanted, when its time is over, when another of the same hostname begins, or with the process; or it is
 * stopped. Requests
 * that it has begun with are followed to their end. The gateway asks `isOn` for each request and nothing else while
 * nothing is captured.
 */
import type { Arrived, CaptureTap, Recording } from '../core/capture.ts';
import { type Clock, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { decodeCursor, encodeCursor, pageOf } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Permission } from '../core/permissions.ts';
import { mayTouch, type Principal } from '../core/principal.ts';
import { CapturedExchange } from './recording.ts';
import type { CaptureFacts, CapturePage, captureStates } from './schema.ts';

export const MAX_REQUESTS = 50;
export const MAX_SECONDS = 600;
/** At work at a time, of all hostnames. */
const MAX_RUNNING = 4;
/** Running ones and those that are over: with 50 requests of at most 15 KB each these are 6 MB. */
const MAX_KEPT = 8;
/** What is over can be read for so long. */
export const KEPT_MS = 15 * MINUTE;
/** To see or keep bodies, besides the permission of the operation. */
export const BODIES_NEED: Permission = 'system:write';

type Start = Pick<OperationContext, 'principal' | 'audit'>;

export interface CaptureOptions {
  readonly clock: Clock;
  /** Whether a proxy serves this hostname, its own or that of a wildcard. */
  readonly isServed: (hostname: string) => boolean;
}

interface Capture {
  readonly id: string;
  readonly hostname: string;
  readonly startedAt: number;
  readonly endsAt: number;
  readonly count: number;
  readonly bodies: boolean;
  readonly requests: CapturedExchange[];
  state: (typeof captureStates)[number];
  /** Its end, or after that when it is forgotten. */
  timer: Timer;
}

export class CaptureService implements CaptureTap, Disposable {
  readonly #options: CaptureOptions;
  /** By id, oldest first. */
  readonly #kept = new Map<string, Capture>();
  /** Running ones by hostname. */
  readonly #running = new Map<string, Capture>();
  isOn = false;

  constructor(options: CaptureOptions) {
    this.#options = options;
  }

  /** @throws AppError NOT_FOUND, CONFLICT where too many run, FORBIDDEN for bodies. */
  async start(
    {
      hostname,
      count,
      seconds,
      bodies,
    }: { hostname: string; count: number; seconds: number; bodies: boolean },
    { principal, audit }: Start,
  ): Promise<CaptureFacts> {
    const { clock, isServed } = this.#options;
    if (!mayTouch(principal, hostname) || !isServed(hostname))
      throw new AppError('NOT_FOUND', `no proxy serves ${hostname}; list_proxies names them`);
    if (bodies) requireBodies(principal);
    const before = this.#running.get(hostname);
    if (!before && this.#running.size >= MAX_RUNNING)
      throw new AppError(
        'CONFLICT',
        `${MAX_RUNNING} captures are running, of other hostnames; wait until one has ended, each does by itself, or end one by stop_capture`,
      );
    if (before) this.#end(before, 'replaced');
    const startedAt = clock.now();
    const capture: Capture = {
      id: newId('cap'),
      hostname,
      startedAt,
      endsAt: startedAt + seconds * SECOND,
      count,
      bodies,
      requests: [],
      state: 'running',
      timer: clock.after(seconds * SECOND, () => this.#end(capture, 'expired')),
    };
    this.#keep(capture);
    audit({ capture: capture.id });
    return factsOf(capture);
  }

  /** @throws AppError NOT_FOUND, INVALID_INPUT for a cursor that is none, FORBIDDEN for bodies. */
  async get(
    {
      id,
      bodies,
      limit,
      cursor,
    }: { id: string; bodies: boolean; limit?: number | undefined; cursor?: string | undefined },
    { principal }: Pick<OperationContext, 'principal'>,
  ): Promise<CapturePage> {
    const capture = this.#require(id, principal);
    if (bodies) requireBodies(principal);
    const list = `captures ${id}`;
    const behind = cursor === undefined ? 0 : decodeCursor(list, ['number'], cursor)[0];
    const found = capture.requests.slice(Math.max(0, behind)).map((request) => request.shown(bodies));
    // Who asks for bodies asks for more than a default answer holds.
    const wanted = bodies ? (limit ?? MAX_REQUESTS) : limit;
    const { items, next_cursor } = pageOf(found, wanted, ({ number }) => encodeCursor(list, [number]));
    return { ...factsOf(capture), requests: items, ...(next_cursor !== undefined && { next_cursor }) };
  }

  /** Of hostnames that the caller may touch. */
  async list({ principal }: Pick<OperationContext, 'principal'>): Promise<{ captures: CaptureFacts[] }> {
    const all = [...this.#kept.values()].filter(({ hostname }) => mayTouch(principal, hostname));
    return { captures: all.map(factsOf).reverse() };
  }

  /** One that is over stays as it is. @throws AppError NOT_FOUND. */
  async stop(id: string, { principal }: Pick<OperationContext, 'principal'>): Promise<CaptureFacts> {
    const capture = this.#require(id, principal);
    if (capture.state === 'running') this.#end(capture, 'stopped');
    return factsOf(capture);
  }

  begin(request: Arrived): Recording | undefined {
    const capture = this.#running.get(request.hostname);
    if (!capture) return undefined;
    const number = capture.requests.length + 1;
    const { bodies } = capture;
    const recording = new CapturedExchange(request, { number, bodies, now: () => this.#options.clock.now() });
    capture.requests.push(recording);
    if (number >= capture.count) this.#end(capture, 'complete');
    return recording;
  }

  /** @throws AppError NOT_FOUND, also for a hostname that the caller may not touch. */
  #require(id: string, principal: Principal): Capture {
    const capture = this.#kept.get(id);
    if (capture && mayTouch(principal, capture.hostname)) return capture;
    throw new AppError(
      'NOT_FOUND',
      `there is no capture ${id}; captures are kept for ${KEPT_MS / MINUTE} minutes and not across restarts`,
    );
  }

  #keep(capture: Capture): void {
    this.#kept.set(capture.id, capture);
    this.#running.set(capture.hostname, capture);
    this.isOn = true;
    for (const [id, { state }] of this.#kept) {
      if (this.#kept.size <= MAX_KEPT) break;
      if (state !== 'running') this.#forget(id);
    }
  }

  #end(capture: Capture, state: Exclude<Capture['state'], 'running'>): void {
    const { clock } = this.#options;
    capture.timer.cancel();
    capture.state = state;
    capture.timer = clock.after(KEPT_MS, () => this.#forget(capture.id));
    this.#running.delete(capture.hostname);
    this.isOn = this.#running.size > 0;
  }

  #forget(id: string): void {
    this.#kept.get(id)?.timer.cancel();
    this.#kept.delete(id);
  }

  [Symbol.dispose](): void {
    for (const { timer } of this.#kept.values()) timer.cancel();
    this.#kept.clear();
    this.#running.clear();
    this.isOn = false;
  }
}

function requireBodies({ permissions }: Principal): void {
  if (permissions.has(BODIES_NEED)) return;
  throw new AppError('FORBIDDEN', `bodies of requests need the permission ${BODIES_NEED}`, {
    details: { required: BODIES_NEED },
  });
}

const factsOf = ({
  id,
  hostname,
  state,
  startedAt,
  endsAt,
  count,
  requests,
  bodies,
}: Capture): CaptureFacts => ({
  id,
  hostname,
  state,
  started_at: new Date(startedAt).toISOString(),
  ends_at: new Date(endsAt).toISOString(),
  count,
  captured: requests.length,
  bodies,
});
