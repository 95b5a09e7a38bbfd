/**
 * The modern era (2026-07-28): every request stands for itself. Plain requests are answered here; everything else,
 * above all everything that is wrong, by the SDK's handler, which words the refusals.
 * @see MCP 2026-07-28, Transports, Streamable HTTP
 */
import type { Exchange } from '../../core/exchange.ts';
import { answerCall, callTool, findTool, isPlain, type Scope } from './calls.ts';
import { askingBy, offersForms } from './confirm.ts';
import { isPlainEnvelope } from './envelope.ts';
import type { Streams } from './event-stream.ts';
import type { Incoming } from './legacy.ts';
import {
  echoableId,
  hasOnly,
  isRecord,
  type JsonObject,
  META,
  type PlainMessage,
  type RpcId,
} from './message.ts';
import { PostReply } from './post-reply.ts';
import { EXTENSIONS, INSTRUCTIONS, type ServerProfile } from './profile.ts';
import { throttledProgress } from './progress.ts';
import { clientName } from './record.ts';
import { prepare, resultMessage, sendPrepared } from './reply.ts';
import { toJson } from './results.ts';
import { createSdkHandler, type SdkHandler, type SdkHandlerParts } from './sdk-handler.ts';
import { DISCOVER_TTL_MS, MODERN_VERSION, type McpOptions } from './settings.ts';
import { SUBSCRIBE, Subscriptions } from './subscriptions.ts';
import { declaresTasks } from './tasks.ts';
import { isEventStream, messagesOf } from './web-response.ts';
import type { Views } from './views.ts';

export interface ModernParts extends SdkHandlerParts {
  readonly options: McpOptions;
  readonly profile: ServerProfile;
  readonly capabilities: object | undefined;
  readonly views: Views;
  readonly streams: Streams;
}

export interface Modern {
  post(incoming: Incoming): Promise<void>;
  readonly subscriptions: Pick<Subscriptions, 'tellAll' | 'followed' | 'end'>;
  close(): Promise<void>;
}

export function createModern(parts: ModernParts): Modern {
  const { options, views } = parts;
  const sdk = createSdkHandler(parts);
  const subscriptions = new Subscriptions({ ...parts, clock: options.clock });
  const discovered = prepare(discoverResult(parts));

  async function post(incoming: Incoming): Promise<void> {
    const { exchange, principal, facts, body, message } = incoming;
    facts.era = 'modern';
    facts.client = clientName(message?.meta?.[META.clientInfo]);
    const view = views.for(principal, exchange.query);
    const capabilities = capabilitiesIn(body);
    const canAsk = offersForms(capabilities);
    const takesTasks = declaresTasks(capabilities);
    const scope: Scope = { exchange, principal, facts, view, canAsk, takesTasks, knowsIcons: true };
    if (isRecord(body) && body.method === SUBSCRIBE) return subscriptions.serve(body, scope);
    subscriptions.compare(principal.id, view);
    const plain = message && plainRequest(exchange, message);
    return (plain && answerPlain(parts, scope, plain, discovered)) ?? relay(parts, sdk, body, scope);
  }

  return {
    post,
    subscriptions,
    async close() {
      await Promise.all([subscriptions.end(), sdk.close()]);
    },
  };
}

function capabilitiesIn(body: unknown): unknown {
  const params = isRecord(body) ? body.params : undefined;
  const meta = isRecord(params) ? params._meta : undefined;
  return isRecord(meta) ? meta[META.clientCapabilities] : undefined;
}

/** As the SDK's handler answers it. */
function discoverResult({ capabilities, profile }: ModernParts): string {
  return JSON.stringify({
    supportedVersions: [MODERN_VERSION],
    capabilities: { ...capabilities, extensions: EXTENSIONS },
    instructions: INSTRUCTIONS,
    resultType: 'complete',
    ttlMs: DISCOVER_TTL_MS,
    cacheScope: 'private',
    _meta: { [META.serverInfo]: profile },
  });
}

interface PlainRequest {
  readonly id: RpcId;
  readonly method: string;
  readonly params: JsonObject;
  readonly meta: JsonObject;
}

/** Undefined unless envelope and headers are certainly right. */
function plainRequest(
  { headers }: Exchange,
  { id, method, params, meta }: PlainMessage,
): PlainRequest | undefined {
  if (id === undefined || !params || !meta || !isPlainEnvelope(meta)) return undefined;
  if (headers['mcp-protocol-version'] !== MODERN_VERSION || headers['mcp-method'] !== method)
    return undefined;
  return { id, method, params, meta };
}

const PAGE_PARAMS: ReadonlySet<string> = new Set(['_meta']);
const CALL_PARAMS: ReadonlySet<string> = new Set(['_meta', 'name', 'arguments']);

/** Undefined: not certainly plain. */
function answerPlain(
  parts: ModernParts,
  scope: Scope,
  request: PlainRequest,
  discovered: Buffer,
): Promise<void> | undefined {
  const { id, method, params } = request;
  if (method === 'tools/call') return callPlain(parts, scope, request);
  if (!hasOnly(params, PAGE_PARAMS)) return undefined;
  if (method === 'server/discover') sendPrepared(scope.exchange, discovered, id);
  else if (method === 'tools/list' && !parts.options.extend)
    sendPrepared(scope.exchange, scope.view.modernList, id);
  else return undefined;
  return Promise.resolve();
}

/** A header may say a name in base64; those are the SDK's to decode. */
const ENCODED = '=?';

function callPlain(parts: ModernParts, scope: Scope, request: PlainRequest): Promise<void> | undefined {
  const { params } = request;
  const { name, arguments: raw } = params;
  if (typeof name !== 'string' || !hasOnly(params, CALL_PARAMS)) return undefined;
  if (scope.exchange.headers['mcp-name'] !== name || name.startsWith(ENCODED)) return undefined;
  if (raw !== undefined && (!isRecord(raw) || Object.hasOwn(raw, '__proto__'))) return undefined;
  const tool = findTool(scope, name);
  if (tool === undefined || !isPlain(tool, scope, parts.options)) return undefined;
  if (tool.task === true && scope.takesTasks === true) return undefined;
  return runPlain(parts, scope, request, { tool, raw });
}

async function runPlain(
  { options, streams, profile }: ModernParts,
  scope: Scope,
  { id, meta }: PlainRequest,
  call: Parameters<typeof callTool>[2],
): Promise<void> {
  const { exchange, principal } = scope;
  const reply = new PostReply({ exchange, principal, streams, accepted: EITHER });
  // Closing the connection is how a client cancels. @see MCP 2026-07-28, Cancellation
  const { signal } = exchange;
  const progress = throttledProgress(options.clock, meta.progressToken, (text) => reply.notify(text));
  const asking = askingBy(options.settings.confirm, undefined);
  const result = await callTool(options.dispatch, scope, call, { signal, progress, ...asking });
  const json = toJson(result, metaOf(profile), ',"resultType":"complete"');
  answerCall(reply, scope, id, resultMessage(json, id));
}

/** Of both types one may be sent at will; the SDK does not look at Accept in this era either. */
const EITHER = { json: true, events: true, onlyJson: false, strict: true };

const metas = new WeakMap<ServerProfile, string>();

function metaOf(profile: ServerProfile): string {
  const known = metas.get(profile);
  if (known !== undefined) return known;
  const made = `${JSON.stringify(META.serverInfo)}:${JSON.stringify(profile)}`;
  metas.set(profile, made);
  return made;
}

/** What the SDK's handler answers goes out by the same reply as what is answered here. */
async function relay({ streams }: ModernParts, sdk: SdkHandler, body: unknown, scope: Scope): Promise<void> {
  const { exchange, principal, facts } = scope;
  const reply = new PostReply({ exchange, principal, streams, accepted: EITHER });
  try {
    const response = await sdk.fetch(body, scope);
    if (!response.ok) facts.outcome = response.status >= 500 ? 'INTERNAL' : 'INVALID_INPUT';
    if (isEventStream(response)) for await (const message of messagesOf(response)) pass(reply, message);
    else replyWith(reply, response.status, await response.text(), { scope, id: echoableId(body) });
  } finally {
    reply.abandon();
  }
}

function replyWith(
  reply: PostReply,
  status: number,
  text: string,
  { scope: { denied }, id }: { scope: Scope; id: RpcId | null },
): void {
  if (denied && id !== null) reply.refuse(denied, id, text);
  else if (status === OK) reply.answer(text);
  else reply.replace(status, text);
}

const OK = 200;

/** What names a method is on the way to the answer; the answer names none. */
function pass(reply: PostReply, text: string): void {
  const message: unknown = JSON.parse(text);
  if (isRecord(message) && 'method' in message) reply.notify(text);
  else reply.answer(text);
}
