/** What the gateway is told from outside, in the units of code. `app.ts` makes it from the configuration. */
import { HOUR, MINUTE, SECOND } from '../core/clock.ts';
import type { Access } from '../core/principal.ts';

const KIB = 1024;

export interface GatewaySettings {
  readonly bind: string;
  /** 0 lets the system choose. */
  readonly httpPort: number;
  readonly httpsPort: number;
  /** Canonical hostnames that answer as the control plane. */
  readonly controlHosts: readonly string[];
  /** How the world reaches the control host, when a front changes the URL. */
  readonly publicUrl?: string | undefined;
  /** Addresses or CIDR ranges whose forwarded headers are believed. */
  readonly trustedProxies: readonly string[];
  readonly headerTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly maxHeaderBytes: number;
  readonly maxHeaders: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly maxStreamsPerConnection: number;
  readonly drainTimeoutMs: number;
  readonly mcp: McpGateSettings;
}

export interface McpGateSettings {
  readonly access: Access;
  /** Canonical hostnames (or `*.parent`) that answer at `/mcp`; empty: every served hostname. */
  readonly hosts: readonly string[];
  readonly allowedOrigins: readonly string[];
  readonly callsPerMinute: number;
  readonly callsPerMinutePerAddress: number;
  readonly failuresPerMinutePerAddress: number;
  /** What a challenge asks for and the metadata lists: the least that is useful (MCP, Authorization, Scope Minimization). */
  readonly scopes: readonly string[];
  /** Shown to people who connect a client. */
  readonly resourceName: string;
}

/** Limits that are not settings: nobody has needed another value. */
export const gatewayLimits = {
  /** How often stalled requests are looked for. */
  sweepMs: SECOND,
  /** After a reply, how long the rest of a request body is read and thrown away before the connection is cut. */
  lingerMs: 5 * SECOND,
  /** How long an upstream may leave `Expect: 100-continue` unanswered before the body is sent anyway. */
  expectWaitMs: SECOND,
  /** Connections to one upstream, and requests that use or wait for them. */
  connectionsPerUpstream: 1024,
  requestsPerUpstream: 4096,
  /** Connections to one upstream for a single request each, and tunnels (WebSocket) to it. */
  singlesPerUpstream: 1024,
  tunnelsPerUpstream: 8192,
  /** A request whose body has not begun after this long is sent without waiting for it. */
  firstPartMs: 50,
  /** Over the connect timeout, until a request that has no connection counts as one that waits for others to end. */
  connectGraceMs: 2 * SECOND,
  /** Waits between attempts to connect to an upstream that refuses: long enough for many to restart. */
  connectAgainMs: [50, 100, 200, 400],
  /** Of several targets: failures in a row that take one out, the time that it is out first, and the longest. */
  failuresUntilOut: 3,
  outMs: 10 * SECOND,
  longestOutMs: 5 * MINUTE,
  /** Requests to several targets that may be sent a second time at once, before `budget_percent` says how many. */
  retryReserve: 100,
  /** Health checks at once, of all targets, and what is read of an answer. */
  healthChecks: 256,
  healthCheckBytes: 64 * KIB,
  /** Replicas of a target that one check asks. */
  checkedReplicas: 32,
  /** Guarded ports of services: connections to one, the time to reach the service, the longest silence, how often it is looked for. */
  connectionsPerGuardedPort: 1024,
  guardedConnectMs: 10 * SECOND,
  guardedIdleMs: HOUR,
  guardedSweepMs: MINUTE,
  /** Of connections that one address may not make. */
  refusalRecordsPerMinute: 10,
  /** Interim responses (102, 103) of an upstream to one request. */
  interimResponses: 32,
  /** An upstream that nobody asked for this long gives its connections back. */
  upstreamIdleMs: 5 * MINUTE,
  /** An idle connection to an upstream; below the 5 s after which many servers close. */
  upstreamKeepAliveMs: 4 * SECOND,
  /** Head of an upstream's response. */
  upstreamHeaderBytes: 64 * KIB,
  /** Resets of streams that one HTTP/2 connection may do at once, and each second after that (CVE-2023-44487). */
  streamResetBurst: 200,
  streamResetRate: 33,
  /** Requests that one client address may have under way: as many as fill so many HTTP/2 connections. */
  fullConnectionsPerAddress: 16,
  /** Requests over HTTP/1.1 that may wait on their connection for the one before them. */
  pipelinedRequests: 128,
  /** Memory that one HTTP/2 connection may hold, in megabytes as Node counts them. */
  http2SessionMegabytes: 10,
  /** Frames that break the protocol before the connection is closed. */
  http2InvalidFrames: 100,
  /** Credentials of one address that are looked at each minute while its failures are beyond their limit. */
  checksPerMinute: 3000,
  /** Distinct clients whose rates are kept in mind. */
  rateEntries: 100_000,
  /** Spellings of header names whose meaning is kept in mind. */
  headerSpellings: 2048,
  /** Addresses in one X-Forwarded-For or Forwarded header; the nearest are looked at. */
  forwardedHops: 32,
  /** Characters of a User-Agent in an access record. */
  userAgent: 256,
} as const;

/** How much one upstream gets at once. */
export interface UpstreamLimits {
  readonly connectionsPerUpstream: number;
  readonly requestsPerUpstream: number;
  readonly singlesPerUpstream: number;
  readonly tunnelsPerUpstream: number;
}
