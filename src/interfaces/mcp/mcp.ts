/**
 * The MCP endpoint: both eras of the protocol on one URL, every operation as a tool. It is not the gate: the gateway
 * has checked Host, Origin, declared size, credential and rate before it calls `handle`, and `dispatch` decides what
 * may run. Called by the gateway; made by `app.ts`.
 */
import { mayRun } from '../../core/dispatch.ts';
import type { Endpoint } from '../../core/endpoints.ts';
import { AppError, messageOf } from '../../core/errors.ts';
import type { Exchange, ExchangeHandler } from '../../core/exchange.ts';
import { limits } from '../../core/limits.ts';
import type { Principal } from '../../core/principal.ts';
import { writeDebug } from '../../core/record.ts';
import { readTraceContext } from '../../core/trace-context.ts';
import { classifyInboundRequest, isJsonContentType } from '@modelcontextprotocol/server';
import { parseJson, readBody } from '../json-body.ts';
import { EventLog } from './channel.ts';
import { Streams } from './event-stream.ts';
import { createLegacy, headerOf, type Incoming, type LegacyParts } from './legacy.ts';
import { serveDelete, serveGet } from './legacy-streams.ts';
import { echoableId, isRecord, META, plainMessage, type PlainMessage, type RpcId } from './message.ts';
import { createModern, type ModernParts } from './modern.ts';
import { createProfile } from './profile.ts';
import { type Facts, methodName, toldOf } from './record.ts';
import { ALLOW, Refusal, refusals } from './refusal.ts';
import { sendAppError, sendError, sendNothing } from './reply.ts';
import { argumentsIn, type Follower, withinLimit } from './resources.ts';
import { createRequestStates } from './request-state.ts';
import { createSdkServers, type CreateSdkServer } from './sdk-server.ts';
import type { SessionParts } from './session.ts';
import { Sessions } from './sessions.ts';
import { type McpOptions, MODERN_VERSION } from './settings.ts';
import { Tasks } from './tasks.ts';
import { createViews } from './views.ts';

export type { McpOptions } from './settings.ts';

export interface McpInterface extends AsyncDisposable {
  readonly handle: ExchangeHandler;
  /** For a credential that is gone: its sessions end, what runs in them is aborted, their streams are cut. */
  closeSessionsOf(principalId: string): void;
  /** Tells those that follow it, may read it, and whom `concerns` names. */
  resourceChanged(uri: string, concerns: (principal: Principal) => boolean): void;
  /** Those that follow the resource of an operation, or it with arguments, and may read it now. */
  followersOf(resource: string): (Follower & { readonly raw: Readonly<Record<string, string>> })[];
  /** At the beginning of the end: standing streams end politely, open questions are withdrawn, calls go on. */
  drain(): Promise<void>;
  stats(): { sessions: number; streams: number };
  readonly endpoints: readonly Endpoint[];
}

export function createMcpInterface(options: McpOptions): McpInterface {
  const stopping = new AbortController();
  const parts = createParts(options, stopping.signal, { toolsChanged, followedBy });
  const { sessions, streams, eventLog, report, tasks } = parts;
  const legacy = createLegacy(parts);
  const modern = createModern(parts);
  const route = createRoute({
    ...parts,
    post: (incoming) => (isModern(incoming) ? modern : legacy).post(incoming),
  });

  async function handle(exchange: Exchange, principal: Principal): Promise<void> {
    const facts: Facts = { method: exchange.method, outcome: 'OK' };
    const request: { id: RpcId | null } = { id: null };
    exchange.tell(() => toldOf(facts));
    try {
      await route(exchange, principal, facts, request);
    } catch (cause) {
      refuse(exchange, cause, facts, request.id);
      if (facts.outcome === 'INTERNAL') report(new Error(messageOf(cause), { cause }));
    }
  }

  function toolsChanged(): void {
    modern.subscriptions.tellAll();
    for (const session of sessions) session.tellListChanged();
  }

  /** Sessions first: they were told that they follow it. */
  function allFollowers(): Follower[] {
    return [...[...sessions].flatMap((session) => session.followers()), ...modern.subscriptions.followed()];
  }

  function followedBy(holder: string): string[] {
    return allFollowers().flatMap((follower) => (follower.holder === holder ? [follower.uri] : []));
  }

  function followersOf(resource: string) {
    const operation = options.operations.find((one) => one.resource === resource);
    const followers = allFollowers().flatMap((follower) => {
      const { uri, principal } = follower;
      const raw = operation && argumentsIn(operation, uri);
      const isOver = (principal.expiresAt ?? Infinity) <= options.clock.now();
      return raw && !isOver && mayRun(operation, principal) ? [{ ...follower, raw }] : [];
    });
    return withinLimit(followers);
  }

  return {
    handle,
    closeSessionsOf(principalId) {
      tasks.stopOf(principalId);
      sessions.endOf(principalId).catch((cause: unknown) => report(new Error(messageOf(cause), { cause })));
    },
    resourceChanged(uri, concerns) {
      for (const { raw, principal, tell } of followersOf(uri))
        if (Object.keys(raw).length === 0 && concerns(principal)) tell();
    },
    followersOf,
    async drain() {
      stopping.abort();
      streams.endStanding();
      await modern.subscriptions.end();
    },
    stats: () => ({ sessions: sessions.size, streams: streams.size }),
    endpoints,
    async [Symbol.asyncDispose]() {
      await modern.close();
      await tasks[Symbol.asyncDispose]();
      streams.close();
      await sessions.close();
      await eventLog.settled();
    },
  };
}

/**
 * What the SDK says of itself; the rest is about what a client sent, which has a record of its own. A stranger must not
 * be able to fill the operator's screen.
 */
const FAULT_OF_OURS = /^(?:Uncaught error|Failed to encode)/;

type Parts = LegacyParts & ModernParts & { readonly report: (error: Error) => void; readonly tasks: Tasks };

/** What the parts need of the whole. */
interface Whole {
  readonly toolsChanged: () => void;
  readonly followedBy: SessionParts['followedBy'];
}

function createParts(options: McpOptions, stopping: AbortSignal, { toolsChanged, followedBy }: Whole): Parts {
  const { clock, log, live, settings, sessions: store } = options;
  const report = ({ message }: Error) => {
    log.write({ time: clock.now(), kind: 'system', level: 'warn', component: 'mcp', message });
  };
  // Behind its first colon the SDK quotes what the client sent, which may be anything.
  const onError = ({ message }: Error) => {
    const [what = ''] = message.split(':', 1);
    if (FAULT_OF_OURS.test(what)) report(new Error(what));
    else writeDebug({ log, clock }, 'mcp', () => ({ message: what }));
  };
  const profile = createProfile(options.version);
  const states = createRequestStates(options.secret, clock);
  const tasks = new Tasks(options, report);
  const createServer = createSdkServers({ options, profile, states, onError, toolsChanged, stopping, tasks });
  const eventLog = new EventLog(store, clock, (message) => report(new Error(message)));
  const keepFollowed = (id: string, uris: readonly string[]) => store.follow(id, uris);
  const sessionParts = { createServer, log: eventLog, clock, keepFollowed, followedBy, onError };
  return {
    options,
    profile,
    capabilities: declaredBy(createServer),
    views: createViews(options.operations, settings, profile, options.isOff),
    streams: new Streams({ live, clock, max: streamLimitsOf(settings) }),
    sessions: new Sessions({ store, clock, log, settings, parts: sessionParts, onError: report }),
    sessionParts,
    eventLog,
    createServer,
    onError,
    report,
    tasks,
  };
}

const streamLimitsOf = ({ maxEventStreams, maxEventStreamsPerPrincipal }: McpOptions['settings']) => ({
  total: maxEventStreams,
  perCaller: maxEventStreamsPerPrincipal,
});

/** What the SDK server declares, with the fixtures of `extend`, so that both paths say the same. */
function declaredBy(createServer: CreateSdkServer): object | undefined {
  const never = () => {
    throw new Error('this server is not connected');
  };
  return createServer('legacy', never).getCapabilities();
}

type Route = (
  exchange: Exchange,
  principal: Principal,
  facts: Facts,
  request: { id: RpcId | null },
) => Promise<void>;

function createRoute(parts: Parts & { post: (incoming: Incoming) => Promise<void> }): Route {
  return async (exchange, principal, facts, request) => {
    switch (exchange.method) {
      case 'POST': {
        const body = await readMessage(exchange);
        if (body === GONE) return void (facts.outcome = 'CANCELLED');
        request.id = echoableId(body);
        const message = plainMessage(body);
        if (message) facts.method = methodName(message.method);
        joinTrace(exchange, body);
        return parts.post({ exchange, principal, facts, body, message });
      }
      case 'GET':
      case 'HEAD':
        return serveGet(parts, exchange, principal, facts);
      case 'DELETE':
        return serveDelete(parts, exchange, principal, facts);
      case 'OPTIONS':
        return sendNothing(exchange, 204, { allow: ALLOW });
      default:
        throw refusals.method();
    }
  };
}

/**
 * Where a request stands in its caller's trace. Of a batch (2025-03-26, which is older) nothing is looked at.
 * @see MCP 2026-07-28, `_meta`: traceparent, tracestate (SEP-414)
 */
function joinTrace(exchange: Exchange, body: unknown): void {
  const params = isRecord(body) ? body.params : undefined;
  const meta = isRecord(params) ? params._meta : undefined;
  const caller = isRecord(meta) ? readTraceContext(meta.traceparent, meta.tracestate) : undefined;
  if (caller) exchange.joinTrace(caller);
}

const GONE = Symbol('the client is gone');

/** @throws Refusal when there is no JSON to be had from it. */
async function readMessage(exchange: Exchange): Promise<unknown> {
  const type = exchange.headers['content-type'];
  if (type !== 'application/json' && !isJsonContentType(type ?? null)) throw refusals.mediaType();
  const body = await readBody(exchange);
  if (body.kind === 'gone') return GONE;
  if (body.kind === 'refused') throw body.error;
  if (body.kind === 'too-large') throw refusals.tooLarge(limits.controlBodyBytes);
  const parsed = parseJson(body.bytes);
  if (!parsed.ok) throw refusals.parse(`Parse error: ${parsed.message}`);
  return parsed.value;
}

/** The body decides the era, the header only where the body says nothing; as the SDK classifies. */
function isModern({ exchange, body, message }: Incoming): boolean {
  const header = headerOf(exchange, 'mcp-protocol-version');
  // An initialize opens a legacy session unless its envelope is a valid modern one: the SDK's to say.
  if (message && message.method !== 'initialize')
    return claimsModern(message) || (header !== undefined && header.trim() >= MODERN_VERSION);
  const outcome = classifyInboundRequest({
    httpMethod: 'POST',
    body,
    ...(header !== undefined && { protocolVersionHeader: header }),
  });
  return outcome.kind !== 'legacy';
}

const claimsModern = ({ meta }: PlainMessage): boolean => meta !== undefined && META.protocolVersion in meta;

function refuse(exchange: Exchange, cause: unknown, facts: Facts, id: RpcId | null): void {
  if (cause instanceof Refusal) {
    facts.outcome = cause.outcome;
    const headers = cause.headers && { headers: cause.headers };
    return sendError(exchange, cause.status, cause.error, { id, ...headers });
  }
  facts.outcome = sendAppError(exchange, cause, id).code;
  // Too late for a status: the client sees the reply end early.
  if (!(cause instanceof AppError) && !exchange.reply.writableEnded) exchange.reply.destroy();
}

const methods = ['POST', 'GET', 'HEAD', 'DELETE', 'OPTIONS'] as const;
const description = 'Model Context Protocol: Streamable HTTP, both eras';

/** Two spellings, one endpoint: a redirect between them loses bodies and credentials in several clients. */
const endpoints: readonly Endpoint[] = ['/mcp', '/mcp/'].map((path) => ({
  methods,
  path,
  surface: 'mcp',
  hosts: 'served',
  gate: 'mcp',
  description,
}));
