/** Connections to upstreams: a pool for each target, and single ones for what can't share. All of them are counted. */
import type { Socket } from 'node:net';
import { Pool } from 'undici';
import { MINUTE, type Timer } from '../core/clock.ts';
import { Dialer, type DialerOptions, type Target } from './dialer.ts';
import { gatewayLimits, type UpstreamLimits } from './settings.ts';

/** What has a connection of its own: a request whose steps the upstream has to see, or what leaves HTTP. */
export type Unpooled = 'single' | 'tunnel';

export interface UpstreamState {
  /** `https://host:port`; of a service, where that is now. */
  readonly origin: string;
  /** Connections of the pool. */
  readonly connected: number;
  /** Connections of one request or tunnel each. */
  readonly single: number;
  /** Requests that use the pool or wait for it. */
  readonly requests: number;
  /** Of them, those that wait. */
  readonly pending: number;
}

/** One target's connections. */
export class Upstream {
  readonly pool: Pool;
  readonly #target: Target;
  readonly #dialer: Dialer;
  readonly #limits: UpstreamLimits;
  readonly #open: Record<Unpooled, number> = { single: 0, tunnel: 0 };
  /** Requests that use the pool or wait for it. */
  inFlight = 0;
  usedAt = 0;
  isClosed = false;

  constructor(target: Target, dialer: Dialer, limits: UpstreamLimits) {
    this.#target = target;
    this.#dialer = dialer;
    this.#limits = limits;
    this.pool = new Pool(target.origin, {
      connect: dialer.dial,
      connections: limits.connectionsPerUpstream,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: gatewayLimits.upstreamKeepAliveMs,
      keepAliveMaxTimeout: MINUTE,
      maxHeaderSize: gatewayLimits.upstreamHeaderBytes,
    });
  }

  isFullOf(what: 'request' | Unpooled): boolean {
    const { requestsPerUpstream, singlesPerUpstream, tunnelsPerUpstream } = this.#limits;
    switch (what) {
      case 'request':
        return this.inFlight >= requestsPerUpstream;
      case 'single':
        return this.#open.single >= singlesPerUpstream;
      case 'tunnel':
        return this.#open.tunnel >= tunnelsPerUpstream;
    }
  }

  state(): UpstreamState {
    const { connected, queued, pending } = this.pool.stats;
    return {
      origin: this.#target.origin,
      connected,
      single: this.#open.single + this.#open.tunnel,
      requests: this.inFlight,
      pending: queued + pending,
    };
  }

  get isIdle(): boolean {
    return this.inFlight === 0 && this.#open.single === 0 && this.#open.tunnel === 0;
  }

  /** A connection of its own, counted from now until it is closed or could not be made. */
  connect(what: Unpooled, callback: (error: Error | null, socket?: Socket) => void): void {
    const { origin, hostname, port } = this.#target;
    const { protocol, host } = new URL(origin);
    this.#open[what]++;
    this.#dialer.dial({ hostname, host, protocol, port: String(port) }, (...[error, socket]) => {
      if (error) {
        this.#open[what]--;
        callback(error);
        return;
      }
      socket.once('close', () => this.#open[what]--);
      callback(null, socket);
    });
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.#dialer.close();
    await this.pool.destroy();
  }
}

export interface UpstreamsOptions extends DialerOptions {
  /** Tests set smaller ones. */
  readonly limits?: Partial<UpstreamLimits> | undefined;
}

export class Upstreams {
  readonly #options: UpstreamsOptions;
  readonly #limits: UpstreamLimits;
  readonly #upstreams = new Map<string, Upstream>();
  readonly #sweep: Timer;

  constructor(options: UpstreamsOptions) {
    this.#options = options;
    this.#limits = { ...gatewayLimits, ...options.limits };
    this.#sweep = options.clock.every(MINUTE, () => this.#closeIdle());
  }

  get size(): number {
    return this.#upstreams.size;
  }

  states(): UpstreamState[] {
    return [...this.#upstreams.values()].map((upstream) => upstream.state());
  }

  of(target: Target): Upstream {
    const known = this.#upstreams.get(target.key);
    if (known) return known;
    const upstream = new Upstream(target, new Dialer(target, this.#options), this.#limits);
    upstream.usedAt = this.#options.clock.now();
    this.#upstreams.set(target.key, upstream);
    return upstream;
  }

  async close(): Promise<void> {
    this.#sweep.cancel();
    const all = [...this.#upstreams.values()];
    this.#upstreams.clear();
    await Promise.all(all.map((upstream) => upstream.close()));
  }

  #closeIdle(): void {
    const oldest = this.#options.clock.now() - gatewayLimits.upstreamIdleMs;
    for (const [key, upstream] of this.#upstreams) {
      if (!upstream.isIdle || upstream.usedAt > oldest) continue;
      this.#upstreams.delete(key);
      void upstream.close();
    }
  }
}
