/**
 * The data plane: serves hostnames from a snapshot and never reads the store. What crosses to the control plane is a
 * snapshot in and log records out, and the exchanges of the control host and `/mcp`. `app.ts` makes one.
 */
import { randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { CaptureTap } from '../core/capture.ts';
import { type Clock, MINUTE } from '../core/clock.ts';
import type { Authenticate } from '../core/exchange.ts';
import type { LiveStreams } from '../core/live-streams.ts';
import { type GatewayMeter, noMeter } from '../core/meter.ts';
import type { Log } from '../core/record.ts';
import type { SpanSink } from '../core/spans.ts';
import type { Proxy } from '../proxies/schema.ts';
import { type OwnAddress, ownAddresses } from '../proxies/target-policy.ts';
import { noServices, type Whereabouts } from '../proxies/target-url.ts';
import type { Publisher, Route } from '../routes/schema.ts';
import type { TargetState } from '../proxies/load-balancing.ts';
import { askTarget, questionsFor } from './ask-target.ts';
import { Balancers } from './balancing.ts';
import { TrustedPeers } from './client-address.ts';
import { ControlHosts } from './control-hosts.ts';
import type { AcmeChallenge, GatewayCore, Handlers, Protection } from './core.ts';
import type { Lookup } from './dialer.ts';
import { type GuardedPorts, PortKeeper } from './guarded-ports.ts';
import { HeadFlusher } from './head-flusher.ts';
import { InFlight } from './in-flight.ts';
import { type Addresses, Listeners } from './listen.ts';
import { RateLimiter } from '../core/rate-limit.ts';
import { gatewayLimits, type GatewaySettings, type UpstreamLimits } from './settings.ts';
import { type Snapshot, Snapshots } from './snapshot.ts';
import { closed } from './protect.ts';
import { reviewOpen } from './steps/authorise.ts';
import type { SelectCertificate, SessionTickets } from './tls.ts';
import type { TlsChallenges } from './tls-challenge.ts';
import { Upstreams, type UpstreamState } from './upstream.ts';
import { Lingering, watch } from './watch.ts';
import { type End, type Watch, Witnesses } from './witness.ts';

const LOOP_TOKEN_BYTES = 6;

export interface GatewayOptions {
  readonly settings: GatewaySettings;
  readonly clock: Clock;
  readonly log: Log;
  /** Absent: nothing is counted. */
  readonly meter?: GatewayMeter | undefined;
  /** Absent: no spans are made. */
  readonly spans?: SpanSink | undefined;
  /** Absent: no requests are captured. */
  readonly captures?: CaptureTap | undefined;
  readonly authenticate: Authenticate;
  readonly selectCertificate: SelectCertificate;
  readonly live: LiveStreams;
  readonly handlers: Handlers;
  /** Absent: what asks for OAuth lets nobody in. */
  readonly protection?: Protection | undefined;
  readonly acmeChallenge?: AcmeChallenge | undefined;
  readonly tlsChallenges?: TlsChallenges | undefined;
  /** Absent: each process has its own keys. */
  readonly tickets?: SessionTickets | undefined;
  /** Where services are; absent: nowhere. */
  readonly services?: Whereabouts | undefined;
  /** Resolves names of targets; the system's resolver unless a test has its own. */
  readonly lookup?: Lookup | undefined;
  /** Tests set smaller ones. */
  readonly upstreamLimits?: Partial<UpstreamLimits> | undefined;
}

export interface ConnectionCounts {
  /** Open connections of clients. */
  readonly open: number;
  /** Connections turned away because there were too many. */
  readonly refused: number;
  /** Requests being answered, tunnels and event streams included. */
  readonly requests: number;
  /** Upstreams with connections of their own. */
  readonly upstreams: number;
}

export interface Gateway extends AsyncDisposable {
  readonly publisher: Publisher;
  listen(): Promise<Addresses>;
  /** What is served from now on. To be called once before `listen`; changes come by `publisher`. */
  load(proxies: Iterable<Proxy>, routes: Iterable<Route>): void;
  snapshot(): Snapshot;
  /** Where it listens, every local address spelled out: never a target. */
  own(): readonly OwnAddress[];
  /** This process listens there too: never a target either. */
  keepOff(listener: OwnAddress): void;
  /** Stops accepting, lets requests finish for the time that is set, then cuts what is left. */
  drain(): Promise<void>;
  connections(): ConnectionCounts;
  /** How the targets of a proxy stand, in the order in which they are set; undefined: there are not several. */
  targets(proxyId: string): TargetState[] | undefined;
  /** The same for every proxy that has several. */
  allTargets(): Iterable<{ hostname: string; states: TargetState[] }>;
  /** Connections to upstreams now. */
  upstreams(): UpstreamState[];
  readonly guardedPorts: GuardedPorts;
  /** The status of what `target_url` of a proxy answers at a path below it, as a request would reach it. */
  ask(proxy: Proxy, path: string, signal: AbortSignal): Promise<number>;
  /** Who answers the request that comes next by the connection from there. */
  watch(end: End): Watch;
  /** Where browsers sign in for protected hostnames that they reach over this scheme. */
  siteIssuer(scheme: 'http' | 'https'): string;
}

/** @throws AppError INVALID_INPUT when a trusted proxy is neither an address nor a range. */
export function createGateway(options: GatewayOptions): Gateway {
  const { clock, log, selectCertificate, tlsChallenges, tickets } = options;
  const listeners: OwnAddress[] = [];
  const own = (): readonly OwnAddress[] => listeners;
  const core = makeCore(options, own);
  const sockets = new Listeners(core, { clock, log, selectCertificate, tlsChallenges, tickets });
  const stalled = watch({ ...core, bodyTimeoutMs: options.settings.bodyTimeoutMs });
  const guardedPorts = new PortKeeper(core, (socket, guard) => sockets.adopt(socket, guard));
  let drained: Promise<void> | undefined;
  const drain = () => {
    guardedPorts.stop();
    return (drained ??= drainGateway(core, sockets));
  };
  return {
    publisher: reviewing(core),
    async listen() {
      const addresses = await sockets.listen();
      for (const { address, port } of Object.values<AddressInfo>({ ...addresses }))
        listeners.push(...ownAddresses([{ address, port }]));
      core.ports.http = addresses.http.port;
      core.ports.https = addresses.https.port;
      core.isListening = true;
      return addresses;
    },
    load(proxies, routes) {
      core.snapshots.load(proxies, routes);
      core.isLoaded = true;
    },
    snapshot: () => core.snapshots.current,
    own,
    keepOff: (listener) => void listeners.push(...ownAddresses([listener])),
    drain,
    guardedPorts,
    targets: (proxyId) => core.balancers.states(proxyId),
    allTargets: () => core.balancers.allStates(),
    upstreams: () => core.upstreams.states(),
    async ask(proxy, path, signal) {
      const { services = noServices } = options;
      const questions = questionsFor(proxy.target_url, { proxy, path, isOneOfSeveral: false, services });
      return askTarget(questions()[0], core, signal);
    },
    watch: (end) => core.witnesses.watch(end),
    siteIssuer: (scheme) => core.hosts.siteIssuer(scheme, core.ports),
    connections: () => ({
      open: sockets.open,
      refused: sockets.refused,
      requests: core.inFlight.size,
      upstreams: core.upstreams.size,
    }),
    async [Symbol.asyncDispose]() {
      await drain();
      stalled.cancel();
      for (const rate of Object.values<RateLimiter>({ ...core.rates })) rate.stop();
    },
  };
}

/** A policy that became narrower ends what was open under the wider one. */
const reviewing = (core: GatewayCore): Publisher => ({
  prepare(change) {
    const candidate = core.snapshots.prepare(change);
    return {
      publish() {
        candidate.publish();
        reviewOpen(core);
      },
    };
  },
});

function makeCore(options: GatewayOptions, own: () => readonly OwnAddress[]): GatewayCore {
  const { settings, clock, log, authenticate, live, handlers, acmeChallenge, lookup, upstreamLimits } =
    options;
  const { services = noServices } = options;
  const loopToken = `ohp-${randomBytes(LOOP_TOKEN_BYTES).toString('hex')}`;
  const { rateEntries } = gatewayLimits;
  const upstreams = new Upstreams({ clock, own, lookup, limits: upstreamLimits });
  const protection = options.protection ?? closed;
  const mark = (text: string) => protection.mark(text);
  const balancers = new Balancers({ clock, log, upstreams, services, mark });
  return {
    settings,
    clock,
    log,
    meter: options.meter ?? noMeter,
    spans: options.spans,
    captures: options.captures,
    authenticate,
    acmeChallenge,
    handlers,
    protection,
    live,
    loopToken,
    snapshots: new Snapshots({ loopToken, own, balancers, services }),
    balancers,
    upstreams,
    trusted: new TrustedPeers(settings.trustedProxies),
    hosts: new ControlHosts(settings),
    flusher: new HeadFlusher(),
    rates: {
      callsPerAddress: new RateLimiter(clock, settings.mcp.callsPerMinutePerAddress, rateEntries),
      failuresPerAddress: new RateLimiter(clock, settings.mcp.failuresPerMinutePerAddress, rateEntries),
      checksPerAddress: new RateLimiter(clock, gatewayLimits.checksPerMinute, rateEntries),
      callsPerPrincipal: new RateLimiter(clock, settings.mcp.callsPerMinute, rateEntries),
      toolMilliseconds: new RateLimiter(clock, MINUTE, rateEntries),
    },
    inFlight: new InFlight(),
    witnesses: new Witnesses(),
    lingering: new Lingering(),
    ports: { http: 0, https: 0 },
    isDraining: false,
    isLoaded: false,
    isListening: false,
  };
}

async function drainGateway(core: GatewayCore, sockets: Listeners): Promise<void> {
  core.isDraining = true;
  sockets.stop();
  for (const transit of core.inFlight)
    if (transit.isEndless) transit.endStream('the server is shutting down');
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = core.clock.after(core.settings.drainTimeoutMs, resolve);
  await Promise.race([core.inFlight.whenEmpty(), late]);
  timer.cancel();
  for (const transit of core.inFlight) transit.close('UNAVAILABLE', 'the server is shutting down');
  sockets.destroy();
  core.balancers.close();
  await core.upstreams.close();
}
