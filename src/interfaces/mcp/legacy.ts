/**
 * The legacy era (2024-11-05 to 2025-11-25): sessions, one JSON or event-stream reply per POST, a standing GET stream.
 * Plain messages are answered here; the rest goes to the SDK server of the session. Called by `mcp.ts` with messages
 * that carry no modern envelope. @see MCP 2025-11-25, Transports, Streamable HTTP
 */
import {
  isInitializeRequest,
  isJSONRPCNotification,
  isJSONRPCRequest,
  isJSONRPCResponse,
  type JSONRPCMessage,
  type JSONRPCRequest,
} from '@modelcontextprotocol/server';
import type { Exchange } from '../../core/exchange.ts';
import type { AnyOperation } from '../../core/operation.ts';
import type { Principal } from '../../core/principal.ts';
import { type Accepted, readAccept } from './accept.ts';
import { answerCall, callTool, findTool, isPlain, type Scope } from './calls.ts';
import type { EventLog } from './channel.ts';
import { askingBy, offersForms } from './confirm.ts';
import type { Streams } from './event-stream.ts';
import { hasOnly, isRecord, type JsonObject, type PlainMessage, type RpcId } from './message.ts';
import { PostReply } from './post-reply.ts';
import { INSTRUCTIONS, type ServerProfile } from './profile.ts';
import { throttledProgress } from './progress.ts';
import type { Facts } from './record.ts';
import { refusals } from './refusal.ts';
import { resultMessage, sendJson, sendNothing, sendPrepared } from './reply.ts';
import { toJson } from './results.ts';
import { Session, type SessionParts } from './session.ts';
import type { Sessions } from './sessions.ts';
import {
  BATCH_VERSION,
  DEFAULT_INITIALIZE_VERSION,
  DEFAULT_LEGACY_VERSION,
  ICONS_SINCE,
  LEGACY_VERSIONS,
  MAX_BATCH,
  MAX_INITIALIZE_CHARACTERS,
  type McpOptions,
} from './settings.ts';
import type { Views } from './views.ts';

export interface LegacyParts {
  readonly options: McpOptions;
  readonly profile: ServerProfile;
  /** As the SDK server declares them. */
  readonly capabilities: unknown;
  readonly views: Views;
  readonly streams: Streams;
  readonly sessions: Sessions;
  readonly sessionParts: SessionParts;
  readonly eventLog: EventLog;
}

/** A POST whose body was read. `message` is undefined when it is not one plain request or notification. */
export interface Incoming {
  readonly exchange: Exchange;
  readonly principal: Principal;
  readonly facts: Facts;
  readonly body: unknown;
  readonly message: PlainMessage | undefined;
}

export interface Legacy {
  post(incoming: Incoming): Promise<void>;
}

const BOTH_TYPES = 'application/json, text/event-stream';

export function createLegacy(parts: LegacyParts): Legacy {
  const { options, views } = parts;

  async function post(incoming: Incoming): Promise<void> {
    const { exchange, principal, facts, message } = incoming;
    facts.era = 'legacy';
    const accepted = readAccept(exchange.headers.accept);
    requireAccept(
      accepted,
      options.settings.strictAccept,
      message?.id !== undefined || Array.isArray(incoming.body),
    );
    if (message?.method === 'initialize' && message.id !== undefined) {
      // A URL that means nothing is refused where a client begins, not at its first call.
      views.for(principal, exchange.query);
      return initialize(parts, incoming, message.id, accepted);
    }
    const session = await findSession(parts.sessions, exchange, principal);
    if (session) {
      facts.session = session.hash;
      facts.client = session.client;
    }
    requireVersion(exchange);
    if (!message) return other(parts, incoming, session, accepted);
    if (message.id === undefined) return notify(incoming, message, session);
    const scope = scopeOf(views, incoming, session, accepted);
    if (message.method === 'tools/list') session?.news.listed(scope.view);
    else session?.news.compare(scope.view);
    const request = { scope, session, accepted, id: message.id };
    const plain = answerPlain(parts, request, message);
    // Its shape was checked member by member.
    return plain ?? relay(parts, { ...request, batch: false }, [incoming.body as JSONRPCRequest]);
  }

  return { post };
}

/** A question goes out on the stream of the call, so whoever takes no stream can't be asked. */
function scopeOf(
  views: Views,
  { exchange, principal, facts }: Incoming,
  session: Session | undefined,
  accepted: Accepted,
): Scope {
  const view = views.for(principal, exchange.query);
  const canAsk = accepted.events && offersForms(session?.initialize.capabilities);
  return {
    exchange,
    principal,
    facts,
    view,
    canAsk,
    follower: session,
    knowsIcons: versionOf(exchange, session) >= ICONS_SINCE,
  };
}

const versionOf = (exchange: Exchange, session: Session | undefined): string =>
  session?.version ?? headerOf(exchange, 'mcp-protocol-version')?.trim() ?? DEFAULT_LEGACY_VERSION;

/** @throws Refusal when no kind of reply that fits is accepted. Where nothing will be answered, nothing has to fit. */
function requireAccept(accepted: Accepted, strict: boolean, expectsAnswer: boolean): void {
  if (strict ? accepted.strict : !expectsAnswer) return;
  if (strict || accepted.onlyJson || !(accepted.json || accepted.events)) throw refusals.accept(BOTH_TYPES);
}

export const headerOf = ({ headers }: Exchange, name: string): string | undefined => {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
};

/** Undefined: the client names no session. @throws Refusal when it names one that is not its own. */
export async function findSession(
  sessions: Sessions,
  exchange: Exchange,
  principal: Principal,
): Promise<Session | undefined> {
  const id = headerOf(exchange, 'mcp-session-id');
  if (id === undefined) return undefined;
  const session = sessions.peek(id, principal) ?? (await sessions.find(id, principal));
  if (!session) throw refusals.session();
  return session;
}

/** Absent, the session's negotiated version counts. @throws Refusal for a version that is none. */
export function requireVersion(exchange: Exchange): void {
  const version = headerOf(exchange, 'mcp-protocol-version');
  if (version !== undefined && !LEGACY_VERSIONS.includes(version.trim())) throw refusals.version(version);
}

/** A stale session id on an initialize is not looked at: clients send it after a 404. */
async function initialize(
  { sessions, streams, profile, capabilities }: LegacyParts,
  incoming: Incoming,
  id: RpcId,
  accepted: Accepted,
): Promise<void> {
  const { exchange, principal, facts, body } = incoming;
  const params = completed(isRecord(body) ? body.params : undefined);
  if (!isInitializeRequest({ jsonrpc: '2.0', id, method: 'initialize', params }))
    throw refusals.params('initialize: protocolVersion, capabilities or clientInfo has the wrong shape');
  const [newest = DEFAULT_INITIALIZE_VERSION] = LEGACY_VERSIONS;
  const asked = params.protocolVersion;
  const version = typeof asked === 'string' && LEGACY_VERSIONS.includes(asked) ? asked : newest;
  const session = await sessions.create(incoming, kept(params), version);
  facts.session = session.hash;
  facts.client = session.client;
  const result = { protocolVersion: version, capabilities, serverInfo: profile, instructions: INSTRUCTIONS };
  exchange.reply.setHeader('mcp-session-id', session.id);
  const message = resultMessage(JSON.stringify(result), id);
  if (accepted.json) sendJson(exchange, 200, message);
  else new PostReply({ exchange, principal, streams, accepted }).answer(message);
}

/** What a replay needs. @throws Refusal when it is more than anyone has to say about itself. */
function kept({ protocolVersion, capabilities, clientInfo }: JsonObject): JsonObject {
  const replayed = { protocolVersion, capabilities, clientInfo };
  if (JSON.stringify(replayed).length <= MAX_INITIALIZE_CHARACTERS) return replayed;
  throw refusals.params(`initialize: more than ${MAX_INITIALIZE_CHARACTERS} characters`);
}

/** Many a hand-written client sends the version only, or nothing at all. */
function completed(params: unknown): JsonObject {
  return {
    protocolVersion: DEFAULT_INITIALIZE_VERSION,
    capabilities: {},
    clientInfo: { name: 'unnamed', version: '0' },
    ...(isRecord(params) ? params : undefined),
  };
}

async function notify(
  { exchange, body }: Incoming,
  { method, params }: PlainMessage,
  session: Session | undefined,
): Promise<void> {
  if (session && method === 'notifications/cancelled')
    session.cancel(params?.requestId, 'cancelled by the client');
  else if (session) await session.tell(body as JSONRPCMessage);
  sendNothing(exchange, 202);
}

/** Answers to questions of ours, batches, and what the SDK takes for well-formed although it is unusual. */
async function other(
  parts: LegacyParts,
  incoming: Incoming,
  session: Session | undefined,
  accepted: Accepted,
): Promise<void> {
  const { exchange, body } = incoming;
  if (isJSONRPCResponse(body) || isJSONRPCNotification(body)) {
    await session?.tell(body);
    return sendNothing(exchange, 202);
  }
  const messages: unknown[] = Array.isArray(body) ? body : [body];
  if (Array.isArray(body)) requireBatch(body, session, exchange);
  const requests = messages.filter((message) => isJSONRPCRequest(message));
  for (const message of messages)
    if (!isJSONRPCRequest(message)) await session?.tell(message as JSONRPCMessage);
  if (requests.length === 0) return sendNothing(exchange, 202);
  const scope = scopeOf(parts.views, incoming, session, accepted);
  return relay(parts, { scope, session, accepted, batch: Array.isArray(body) }, requests);
}

/** @throws Refusal for a batch that may not be, or is more calls than the caller may make now. */
function requireBatch(body: unknown[], session: Session | undefined, exchange: Exchange): void {
  if (versionOf(exchange, session) !== BATCH_VERSION)
    throw refusals.invalid(
      `Invalid Request: JSON-RPC batches exist in ${BATCH_VERSION} only; send one message`,
    );
  if (body.length > MAX_BATCH)
    throw refusals.invalid(`Invalid Request: Batch must not exceed ${MAX_BATCH} messages`);
  if (body.some((message) => isRecord(message) && message.method === 'initialize'))
    throw refusals.invalid('Invalid Request: Only one initialization request is allowed');
  // The gate has counted the request, which is the first of them.
  const wait = body.length > 1 ? exchange.gate.charge(body.length - 1) : 0;
  if (wait > 0) throw refusals.tooMany(body.length, wait);
}

interface LegacyRequest {
  readonly scope: Scope;
  readonly session: Session | undefined;
  readonly accepted: Accepted;
  readonly id: RpcId;
}

const PAGE_PARAMS: ReadonlySet<string> = new Set(['_meta']);
const CALL_PARAMS: ReadonlySet<string> = new Set(['_meta', 'name', 'arguments']);

/** Undefined: not certainly plain, so the SDK has to decide. */
function answerPlain(
  parts: LegacyParts,
  request: LegacyRequest,
  { method, params }: PlainMessage,
): Promise<void> | undefined {
  const { scope, id } = request;
  if (!request.accepted.json) return undefined;
  if (method === 'tools/call') return callPlain(parts, request, params);
  if (params !== undefined && !hasOnly(params, PAGE_PARAMS)) return undefined;
  if (method === 'ping') sendJson(scope.exchange, 200, resultMessage('{}', id));
  else if (method === 'tools/list' && !parts.options.extend)
    sendPrepared(scope.exchange, legacyListFor(scope), id);
  else return undefined;
  return Promise.resolve();
}

const legacyListFor = ({ view, knowsIcons }: Scope): Buffer =>
  knowsIcons ? view.legacyList : view.legacyListWithoutIcons;

function callPlain(
  parts: LegacyParts,
  request: LegacyRequest,
  params: JsonObject | undefined,
): Promise<void> | undefined {
  const name = params?.name;
  if (!params || typeof name !== 'string' || !hasOnly(params, CALL_PARAMS)) return undefined;
  const raw = params.arguments;
  if (raw !== undefined && (!isRecord(raw) || Object.hasOwn(raw, '__proto__'))) return undefined;
  const tool = findTool(request.scope, name);
  if (tool === undefined || !isPlain(tool, request.scope, parts.options)) return undefined;
  const progressToken = isRecord(params._meta) ? params._meta.progressToken : undefined;
  return runPlain(parts, request, { tool, raw, progressToken });
}

async function runPlain(
  parts: LegacyParts,
  request: LegacyRequest,
  { tool, raw, progressToken }: { tool: AnyOperation; raw: unknown; progressToken: unknown },
): Promise<void> {
  const { options } = parts;
  const { scope, session, id } = request;
  const reply = openReply(parts, request);
  const { signal, done } = session ? begin(session, { id, reply, scope }) : alone(scope.exchange);
  const progress = throttledProgress(options.clock, progressToken, (text) => reply.notify(text));
  const asking = askingBy(options.settings.confirm, undefined);
  const result = await callTool(options.dispatch, scope, { tool, raw }, { signal, progress, ...asking });
  done();
  answerCall(reply, scope, id, resultMessage(toJson(result, '', ''), id));
}

/** A client that is gone may come back for the answer, so only cancelling and the session's end abort the call. */
function begin(session: Session, call: { id: RpcId; reply: PostReply; scope: Scope }) {
  const controller = new AbortController();
  const key = session.begin({
    ...call,
    cancel(reason) {
      session.withdraw(key);
      controller.abort(new Error(reason));
    },
  });
  return { signal: controller.signal, done: () => void session.calls.delete(key) };
}

const alone = ({ signal }: Exchange) => ({ signal, done: () => {} });

function openReply(
  { streams }: LegacyParts,
  { scope: { exchange, principal }, session, accepted }: Omit<LegacyRequest, 'id'>,
  batch?: { answers: number; batch: boolean },
): PostReply {
  const openChannel = session && (() => session.openChannel('p'));
  return new PostReply({ exchange, principal, streams, accepted, openChannel, ...batch });
}

/** To the SDK server: of the session, or of one that lives as long as this request (clients that lose the id). */
async function relay(
  parts: LegacyParts,
  request: Omit<LegacyRequest, 'id'> & { batch: boolean },
  messages: readonly JSONRPCRequest[],
): Promise<void> {
  const { scope, batch } = request;
  const session = request.session ?? passingSession(parts, scope);
  const reply = openReply(parts, request, { answers: messages.length, batch });
  const onGone = () => reply.abandon();
  if (!request.session) scope.exchange.signal.addEventListener('abort', onGone, { once: true });
  try {
    for (const message of messages) await session.request(message, { id: message.id, reply, scope });
    await reply.done();
  } catch (cause) {
    reply.release();
    throw cause;
  } finally {
    scope.exchange.signal.removeEventListener('abort', onGone);
    if (!request.session) await session.close();
  }
}

function passingSession({ sessionParts, options }: LegacyParts, { exchange, principal }: Scope): Session {
  const version = versionOf(exchange, undefined);
  const now = options.clock.now();
  const initialize = { ...completed(undefined), protocolVersion: version };
  const stored = { id: '', principalId: principal.id, initialize, version, createdAt: now, lastSeenAt: now };
  return new Session(stored, sessionParts);
}
