/** What the steps share: the parts of one gateway. Made by `gateway.ts`, handed on with every request. */
import type { Clock } from '../core/clock.ts';
import type { Authenticate, ExchangeHandler } from '../core/exchange.ts';
import type { LiveStreams } from '../core/live-streams.ts';
import type { Log } from '../core/record.ts';
import type { TrustedPeers } from './client-address.ts';
import type { ControlHosts } from './control-hosts.ts';
import type { HeadFlusher } from './head-flusher.ts';
import type { Lingering } from './watch.ts';
import type { RateLimiter } from './rate-limit.ts';
import type { GatewaySettings } from './settings.ts';
import type { Snapshots } from './snapshot.ts';
import type { InFlight } from './in-flight.ts';
import type { Upstreams } from './upstream.ts';

export interface Handlers {
  /** REST and web: everything on the control host that is not `/mcp`. */
  readonly control: ExchangeHandler;
  readonly mcp: ExchangeHandler;
}

/** The key authorization for a challenge token, when one is pending. @see RFC 8555 §8.3 */
export type AcmeChallenge = (hostname: string, token: string) => string | undefined;

export interface GatewayCore {
  readonly settings: GatewaySettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly authenticate: Authenticate;
  readonly acmeChallenge: AcmeChallenge | undefined;
  readonly handlers: Handlers;
  readonly live: LiveStreams;
  readonly snapshots: Snapshots;
  readonly upstreams: Upstreams;
  readonly trusted: TrustedPeers;
  readonly hosts: ControlHosts;
  readonly flusher: HeadFlusher;
  readonly rates: Rates;
  /** Name of this process in CDN-Loop. */
  readonly loopToken: string;
  readonly inFlight: InFlight;
  readonly lingering: Lingering;
  /** Ports that are listened on; 0 before. */
  readonly ports: { http: number; https: number };
  /** Set once, when the gateway begins to shut down. */
  isDraining: boolean;
  isLoaded: boolean;
  isListening: boolean;
}

export interface Rates {
  readonly callsPerAddress: RateLimiter;
  readonly failuresPerAddress: RateLimiter;
  readonly callsPerPrincipal: RateLimiter;
}
