/**
 * WebSocket and whatever else leaves HTTP: the handshake is forwarded as a request (rules, policy and records apply),
 * and once the upstream agrees the bytes pass raw in both directions. Over HTTP/2 the handshake comes as an extended
 * CONNECT (RFC 8441) and is turned into the HTTP/1.1 one for the upstream.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { ClientRequest as UpstreamRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Timer } from '../core/clock.ts';
import { isHttp2Response, leaveHttp } from './client.ts';
import { chosenPlan, planAfter, planWithRoom, upstreamOf } from './destination.ts';
import { openRequest, ResponseTimeout } from './forward-single.ts';
import { fieldRecord, requestHeaders, responseHeaders } from './headers.ts';
import { Relay } from './relay.ts';
import { relayMessage } from './relay-message.ts';
import type { Plan } from './snapshot.ts';
import { tellTarget } from './sticky.ts';
import { beginAttempt, endAttempt } from './trace.ts';
import type { Activity, Transit, UpgradeRequest } from './transit.ts';
import { refusalOf } from './upstream-failure.ts';
import type { Upstream } from './upstream.ts';

const KEY_BYTES = 16;
/** @see {@link https://www.rfc-editor.org/rfc/rfc6455#section-1.3 | RFC 6455 §1.3} */
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const SWITCHING_PROTOCOLS = 101;

export function forwardUpgrade(transit: Transit, whole: Plan, client: UpgradeRequest): void {
  const plan = chosenPlan(transit, whole);
  if (plan) upgradeAt(transit, plan, client);
}

function upgradeAt(transit: Transit, chosen: Plan, client: UpgradeRequest): void {
  const plan = planWithRoom(transit, chosen, 'tunnel');
  if (plan) transit.activity = new Upgrading(transit, { plan, client, upstream: upstreamOf(transit, plan) });
}

interface UpgradeParts {
  readonly plan: Plan;
  readonly client: UpgradeRequest;
  readonly upstream: Upstream;
}

class Upgrading implements Activity {
  readonly #transit: Transit;
  readonly #plan: Plan;
  readonly #client: UpgradeRequest;
  readonly #upstream: UpstreamRequest;
  readonly #timer: Timer;
  /** Of a handshake that we make ourselves, for HTTP/2. */
  readonly #key: string | undefined;
  #tunnel: Socket | undefined;
  #isSent = false;
  #isOver = false;

  constructor(transit: Transit, { plan, client, upstream }: UpgradeParts) {
    this.#transit = transit;
    this.#plan = plan;
    this.#client = client;
    this.#key = transit.isExtendedConnect ? randomBytes(KEY_BYTES).toString('base64') : undefined;
    this.#upstream = openRequest(transit, plan, { upstream, headers: this.#headers() });
    this.#timer = transit.core.clock.after(plan.match.proxy.response_timeout_ms, () =>
      this.#fail(new ResponseTimeout()),
    );
    this.#upstream.once('socket', () => {
      this.#isSent = true;
    });
    this.#upstream.on('error', (error) => this.#fail(error));
    this.#upstream.once('response', (reply) => this.#refused(reply));
    this.#upstream.once('upgrade', (reply, socket, head) => this.#agreed(reply, socket as Socket, head));
    this.#upstream.end();
    client.socket.on('readable', this.#onReadable).once('end', this.#onClientEnd);
  }

  /** Nobody reads the connection yet: what came early stays for the upstream, but its end has to be noticed. */
  readonly #onReadable = (): void => {
    if (this.#client.socket.readableLength === 0) this.#client.socket.read();
  };

  readonly #onClientEnd = (): void => void this.#client.socket.destroy();

  abort(reason: Error): void {
    this.#timer.cancel();
    this.#isOver = true;
    this.#upstream.destroy(reason);
    if (!this.#tunnel) return;
    this.#tunnel.destroy();
    this.#client.socket.destroy();
  }

  #headers(): string[] {
    beginAttempt(this.#transit, this.#plan);
    const headers = requestHeaders(this.#transit, this.#plan.headers);
    headers.push('connection', 'upgrade', 'upgrade', this.#client.protocol);
    if (this.#key !== undefined) headers.push('sec-websocket-key', this.#key);
    return headers;
  }

  #agreed(reply: IncomingMessage, socket: Socket, head: Buffer): void {
    this.#timer.cancel();
    socket.on('error', () => socket.destroy());
    if (this.#isOver || this.#transit.isDone) {
      socket.destroy();
      return;
    }
    const fault = this.#faultOf(reply);
    if (fault) {
      socket.destroy();
      this.#fail(new Error(fault));
      return;
    }
    this.#tunnel = socket;
    try {
      this.#accept(reply);
    } catch (error) {
      this.#tunnel = undefined;
      socket.destroy();
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#client.socket.off('readable', this.#onReadable).off('end', this.#onClientEnd);
    join(this.#transit, this.#client, { socket, head });
  }

  #faultOf({ headers }: IncomingMessage): string | undefined {
    if (this.#key === undefined) return undefined;
    const expected = createHash('sha1')
      .update(this.#key + ACCEPT_GUID)
      .digest('base64');
    return headers['sec-websocket-accept'] === expected
      ? undefined
      : 'the upstream accepted another handshake';
  }

  /** @throws when the upstream's header could not be written as HTTP. */
  #accept(reply: IncomingMessage): void {
    const { response } = this.#transit;
    this.#transit.endpoint?.succeeded(this.#transit);
    const fields = { ...fieldRecord(reply.rawHeaders) };
    delete fields['content-length'];
    const isHttp2 = isHttp2Response(response);
    if (isHttp2) delete fields['sec-websocket-accept'];
    const list = responseHeaders(fields, this.#plan.responseRules, false);
    tellTarget(list, this.#transit, this.#plan);
    this.#transit.upstreamStatus = reply.statusCode ?? 0;
    if (isHttp2) {
      this.#transit.status = 200;
      this.#transit.capture?.answered(200, list);
      response.writeHead(200, list);
      return;
    }
    this.#transit.status = SWITCHING_PROTOCOLS;
    list.push('connection', 'upgrade', 'upgrade', reply.headers.upgrade ?? this.#client.protocol);
    this.#transit.capture?.answered(SWITCHING_PROTOCOLS, list);
    response.writeHead(SWITCHING_PROTOCOLS, list);
    response.flushHeaders();
    leaveHttp(response);
  }

  /** The upstream answers as to any other request; the connection ends after that. */
  #refused(reply: IncomingMessage): void {
    this.#timer.cancel();
    if (this.#key !== undefined && isSuccess(reply)) {
      this.#fail(new Error('the upstream did not switch protocols'));
      return;
    }
    const relay = new Relay(this.#transit, this.#plan);
    if (!relayMessage(reply, relay, (error) => this.#fail(error))) return;
    this.#transit.response.on('drain', () => reply.resume());
    reply.once('end', () => {
      this.#isOver = true;
      relay.end({});
      this.#upstream.destroy();
    });
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.cancel();
    this.#upstream.destroy();
    endAttempt(this.#transit, error);
    const next = planAfter(this.#transit, this.#plan, error, this.#isSent);
    if (!next) {
      this.#transit.refuse(refusalOf(error));
      return;
    }
    this.#client.socket.off('readable', this.#onReadable).off('end', this.#onClientEnd);
    upgradeAt(this.#transit, next, this.#client);
  }
}

/** Over HTTP/2 any 2xx says that the tunnel is open. @see RFC 8441 §5 */
const isSuccess = ({ statusCode = 0 }: IncomingMessage): boolean => statusCode >= 200 && statusCode < 300;

interface End {
  readonly socket: Duplex;
  readonly head: Buffer;
}

/** Raw in both directions until either side ends. `watch` ends a tunnel in which nothing moves. */
function join(transit: Transit, client: End, upstream: End): void {
  transit.tunnelBytes = 0;
  const count = (chunk: Buffer) => {
    transit.tunnelBytes = (transit.tunnelBytes ?? 0) + chunk.length;
  };
  const sent = (chunk: Buffer) => {
    transit.bytesOut += chunk.length;
  };
  for (const [from, to] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    if (from.head.length > 0) from.socket.unshift(from.head);
    from.socket.on('data', count);
    from.socket.pipe(to.socket);
    from.socket.on('error', () => to.socket.destroy());
    from.socket.once('close', () => to.socket.end(() => to.socket.destroy()));
  }
  upstream.socket.on('data', sent);
}
