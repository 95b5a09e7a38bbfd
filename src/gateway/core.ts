/** What the steps share: the parts of one gateway. Made by `gateway.ts`, handed on with every request. */
import type { CaptureTap } from '../core/capture.ts';
import type { Clock } from '../core/clock.ts';
import type { Authenticate, ExchangeHandler } from '../core/exchange.ts';
import type { GatewayMeter } from '../core/meter.ts';
import type { LiveStreams } from '../core/live-streams.ts';
import type { Principal } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import type { SpanSink } from '../core/spans.ts';
import type { AllowList, OAuthPolicy } from '../proxies/auth-policy.ts';
import type { Balancers } from './balancing.ts';
import type { TrustedPeers } from './client-address.ts';
import type { ControlHosts } from './control-hosts.ts';
import type { HeadFlusher } from './head-flusher.ts';
import type { Lingering } from './watch.ts';
import type { RateLimiter } from '../core/rate-limit.ts';
import type { GatewaySettings } from './settings.ts';
import type { Snapshots } from './snapshot.ts';
import type { InFlight } from './in-flight.ts';
import type { Upstreams } from './upstream.ts';
import type { Witnesses } from './witness.ts';

export interface Handlers {
  /** REST and web: everything on the control host that is not `/mcp`. */
  readonly control: ExchangeHandler;
  readonly mcp: ExchangeHandler;
  /** The authorization server, on the control host. */
  readonly oauth: ExchangeHandler;
  /** Sign-in of browsers, on protected hostnames. */
  readonly sites: ExchangeHandler;
}

/** A protected hostname as the client reaches it. */
export interface Site {
  /** Canonical. */
  readonly hostname: string;
  /** `https://host:port`, as the client reaches it. */
  readonly origin: string;
  /** False on names of loopback over plain HTTP. */
  readonly isSecure: boolean;
  /** Who grants tokens for it. */
  readonly issuer: string;
}

/** What `protect_proxy` has set up, asked for every request to something protected. Answers from memory. */
export interface Protection {
  /** Who is signed in by the cookies of a request. */
  sessionOf(cookie: string | undefined, site: Site): Principal | undefined;
  /** Whether the policy lets this principal in, by who it is and how it came. Its scopes are `lacksScopes`' affair. */
  allows(policy: OAuthPolicy, principal: Principal): boolean;
  /** `scopes`: those of the policy, unless others are asked about. */
  lacksScopes(policy: OAuthPolicy, principal: Principal, scopes?: readonly string[]): boolean;
  /** Whether a rule for tools of MCP names this principal. */
  names(allow: AllowList, principal: Principal): boolean;
  /** Keyed digest of a text, in characters of base64url; the same after a restart. */
  mark(text: string): string;
  /** Header fields for the upstream: name, value, name, value. */
  identityOf(policy: OAuthPolicy, principal: Principal, site: Site): readonly string[];
  /** Where to send a browser that has to sign in, and the cookie that goes with it. `returnTo`: path and query. */
  beginSignIn(site: Site, returnTo: string, cookie: string | undefined): SignIn;
}

export interface SignIn {
  readonly location: string;
  /** Values of `Set-Cookie`. */
  readonly cookies: readonly string[];
}

/** The key authorization for a challenge token, when one is pending. @see RFC 8555 §8.3 */
export type AcmeChallenge = (hostname: string, token: string) => string | undefined;

export interface GatewayCore {
  readonly settings: GatewaySettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: GatewayMeter;
  /** Undefined: nobody follows traces. */
  readonly spans: SpanSink | undefined;
  /** Undefined: nobody captures requests. */
  readonly captures: CaptureTap | undefined;
  readonly authenticate: Authenticate;
  readonly acmeChallenge: AcmeChallenge | undefined;
  readonly handlers: Handlers;
  readonly protection: Protection;
  readonly live: LiveStreams;
  readonly snapshots: Snapshots;
  readonly upstreams: Upstreams;
  readonly balancers: Balancers;
  readonly trusted: TrustedPeers;
  readonly hosts: ControlHosts;
  readonly flusher: HeadFlusher;
  readonly rates: Rates;
  /** Name of this process in CDN-Loop. */
  readonly loopToken: string;
  readonly inFlight: InFlight;
  readonly witnesses: Witnesses;
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
  /** Of credentials, from addresses whose failures are beyond their limit. */
  readonly checksPerAddress: RateLimiter;
  readonly callsPerPrincipal: RateLimiter;
  /** Of tools of MCP servers behind proxies: milliseconds of a minute's budget (`tools/tool-rates.ts`). */
  readonly toolMilliseconds: RateLimiter;
}
