/**
 * Connections to upstreams: a pool for each target, and single ones for what can't share. Every address is judged
 * when it is connected to, and the address that was judged is the one that is used: nothing resolves a second time.
 */
import { lookup as resolve, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { buildConnector, Pool } from 'undici';
import { type Clock, MINUTE, type Timer } from '../core/clock.ts';
import { addressFault, type OwnAddress } from '../proxies/target-policy.ts';
import { gatewayLimits } from './settings.ts';

export interface Target {
  /** The same for targets that may share connections. */
  readonly key: string;
  readonly origin: string;
  /** Without brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly isEncrypted: boolean;
  readonly isVerified: boolean;
  /** PEM; undefined: those that the system trusts. */
  readonly authorities: string | undefined;
  readonly connectTimeoutMs: number;
}

export class TargetRefused extends Error {
  override readonly name = 'TargetRefused';
}

/** One target's pool. */
export class Upstream {
  readonly pool: Pool;
  readonly connector: buildConnector.connector;
  inFlight = 0;
  usedAt = 0;
  isClosed = false;

  constructor(target: Target, connector: buildConnector.connector) {
    this.connector = connector;
    this.pool = new Pool(target.origin, {
      connect: connector,
      connections: gatewayLimits.connectionsPerUpstream,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: gatewayLimits.upstreamKeepAliveMs,
      keepAliveMaxTimeout: MINUTE,
      maxHeaderSize: gatewayLimits.upstreamHeaderBytes,
    });
  }
}

export interface UpstreamsOptions {
  readonly clock: Clock;
  readonly own: () => readonly OwnAddress[];
  /** Tests put their own names in. */
  readonly lookup?: Lookup | undefined;
}

/** All addresses of a name, as `dns.lookup` with `all`. */
export type Lookup = (
  hostname: string,
  options: { all: true; family?: number },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export class Upstreams {
  readonly #options: UpstreamsOptions;
  readonly #upstreams = new Map<string, Upstream>();
  readonly #sweep: Timer;

  constructor(options: UpstreamsOptions) {
    this.#options = options;
    this.#sweep = options.clock.every(MINUTE, () => this.#closeIdle());
  }

  get size(): number {
    return this.#upstreams.size;
  }

  of(target: Target): Upstream {
    const known = this.#upstreams.get(target.key);
    if (known) return known;
    const upstream = new Upstream(target, this.#connector(target));
    upstream.usedAt = this.#options.clock.now();
    this.#upstreams.set(target.key, upstream);
    return upstream;
  }

  /** A connection of its own, for what leaves HTTP or has to see each step of it. */
  connect(target: Target, callback: (error: Error | null, socket?: Socket) => void): void {
    const { origin, hostname, port } = target;
    const { protocol, host } = new URL(origin);
    this.of(target).connector({ hostname, host, protocol, port: String(port) }, (...[error, socket]) =>
      error ? callback(error) : callback(null, socket),
    );
  }

  async close(): Promise<void> {
    this.#sweep.cancel();
    const all = [...this.#upstreams.values()];
    this.#upstreams.clear();
    await Promise.all(all.map(closePool));
  }

  #closeIdle(): void {
    const oldest = this.#options.clock.now() - gatewayLimits.upstreamIdleMs;
    for (const [key, upstream] of this.#upstreams) {
      if (upstream.inFlight > 0 || upstream.usedAt > oldest) continue;
      this.#upstreams.delete(key);
      void closePool(upstream);
    }
  }

  #connector(target: Target): buildConnector.connector {
    const { hostname, port, isVerified, authorities, connectTimeoutMs } = target;
    const literal = isIP(hostname) !== 0;
    const connect = buildConnector({
      allowH2: false,
      timeout: connectTimeoutMs,
      rejectUnauthorized: isVerified,
      lookup: this.#lookup(port),
      ...(authorities === undefined ? {} : { ca: authorities }),
    });
    return (options, callback) => {
      const fault = literal ? addressFault(hostname, port, this.#options.own()) : undefined;
      if (fault) callback(new TargetRefused(fault), null);
      // The server name is the target's own, whatever Host says; an address has none (RFC 6066 §3).
      else connect({ ...options, hostname, servername: literal ? '' : hostname }, callback);
    };
  }

  /** One address that may not be a target condemns the whole answer: a mixed one is an attack, not a mistake. */
  #lookup(port: number): LookupFunction {
    const find: Lookup = this.#options.lookup ?? resolve;
    return (hostname, { all, family }, callback) => {
      const wanted = typeof family === 'number' ? { all: true as const, family } : { all: true as const };
      find(hostname, wanted, (error, addresses) => {
        if (error) return callback(error, []);
        const own = this.#options.own();
        for (const { address } of addresses) {
          const fault = addressFault(address, port, own);
          if (fault) return callback(new TargetRefused(`${hostname}: ${fault}`), []);
        }
        return all === true ? callback(null, addresses) : callback(null, ...first(addresses));
      });
    };
  }
}

const first = ([found]: readonly LookupAddress[]): [string, number] => [
  found?.address ?? '',
  found?.family ?? 0,
];

async function closePool(upstream: Upstream): Promise<void> {
  upstream.isClosed = true;
  await upstream.pool.destroy();
}
