/**
 * The modern era (2026-07-28): every request stands for itself. Plain requests are answered here; everything else,
 * above all everything that is wrong, by the SDK's handler, which words the refusals.
 * @see MCP 2026-07-28, Transports, Streamable HTTP
 */
import { createMcpHandler, type McpHttpHandler } from '@modelcontextprotocol/server';
import type { Exchange } from '../../core/exchange.ts';
import { callTool, findTool, isPlain, type Scope } from './calls.ts';
import { isPlainEnvelope } from './envelope.ts';
import { EVENT_HEADERS, type Streams } from './event-stream.ts';
import type { Incoming } from './legacy.ts';
import { headerOf } from './legacy.ts';
import { hasOnly, isRecord, type JsonObject, META, type PlainMessage, type RpcId } from './message.ts';
import { PostReply } from './post-reply.ts';
import { INSTRUCTIONS, type ServerProfile } from './profile.ts';
import { throttledProgress } from './progress.ts';
import { clientName } from './record.ts';
import { prepare, resultMessage, sendPrepared } from './reply.ts';
import { toJson } from './results.ts';
import type { CreateSdkServer } from './sdk-server.ts';
import { DISCOVER_TTL_MS, KEEP_ALIVE_MS, MODERN_VERSION, type McpOptions } from './settings.ts';
import { pump } from './web-response.ts';
import type { Views } from './views.ts';

export interface ModernParts {
  readonly options: McpOptions;
  readonly profile: ServerProfile;
  readonly capabilities: unknown;
  readonly views: Views;
  readonly streams: Streams;
  readonly createServer: CreateSdkServer;
  readonly onError: (error: Error) => void;
}

export interface Modern {
  post(incoming: Incoming): Promise<void>;
  toolsChanged(): void;
  close(): Promise<void>;
}

export function createModern(parts: ModernParts): Modern {
  const { options, views } = parts;
  const scopes = new WeakMap<Request, Scope>();
  const sdk = createMcpHandler(
    ({ requestInfo }) => parts.createServer('modern', () => scopeOf(scopes, requestInfo)),
    {
      legacy: 'reject',
      onerror: parts.onError,
      keepAliveMs: KEEP_ALIVE_MS,
      maxSubscriptions: options.settings.maxEventStreams,
    },
  );
  const discovered = prepare(discoverResult(parts));

  async function post(incoming: Incoming): Promise<void> {
    const { exchange, principal, facts, message } = incoming;
    facts.era = 'modern';
    facts.client = clientName(message?.meta?.[META.clientInfo]);
    const view = views.for(principal, exchange.query);
    const scope: Scope = { exchange, principal, facts, view };
    const plain = message && plainRequest(exchange, message);
    return (
      (plain && answerPlain(parts, scope, plain, discovered)) ??
      relay(parts, { sdk, scopes }, incoming, scope)
    );
  }

  return { post, toolsChanged: () => sdk.notify.toolsChanged(), close: () => sdk.close() };
}

function scopeOf(scopes: WeakMap<Request, Scope>, request: Request | undefined): Scope {
  const scope = request && scopes.get(request);
  if (!scope) throw new Error('a handler runs for a request of this endpoint');
  return scope;
}

/** As the SDK's handler answers it. */
function discoverResult({ capabilities, profile }: ModernParts): string {
  return JSON.stringify({
    supportedVersions: [MODERN_VERSION],
    capabilities,
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
  if (tool === undefined || !isPlain(tool)) return undefined;
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
  const result = await callTool(options.dispatch, scope, call, { signal, progress });
  const json = toJson(result, metaOf(profile), ',"resultType":"complete"');
  reply.answer(resultMessage(json, id));
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

interface Sdk {
  readonly sdk: McpHttpHandler;
  readonly scopes: WeakMap<Request, Scope>;
}

/** Never the credential: what handles the message has no use for it. */
const RELAYED = /^(?:accept|content-type|mcp-.*)$/;

async function relay(
  { streams }: ModernParts,
  { sdk, scopes }: Sdk,
  { exchange, principal, facts, body }: Incoming,
  scope: Scope,
): Promise<void> {
  const controller = new AbortController();
  const onGone = () => controller.abort();
  exchange.signal.addEventListener('abort', onGone, { once: true });
  const headers = Object.keys(exchange.headers)
    .filter((name) => RELAYED.test(name))
    .map((name): [string, string] => [name, headerOf(exchange, name) ?? '']);
  const request = new Request('http://localhost/mcp', { method: 'POST', headers, signal: controller.signal });
  scopes.set(request, scope);
  try {
    const response = await sdk.fetch(request, { parsedBody: body });
    if (!response.ok) facts.outcome = response.status >= 500 ? 'INTERNAL' : 'INVALID_INPUT';
    await send({ response, exchange, principal, streams, abort: onGone });
  } finally {
    exchange.signal.removeEventListener('abort', onGone);
  }
}

interface Sending {
  response: Response;
  exchange: Exchange;
  principal: Scope['principal'];
  streams: Streams;
  abort: () => void;
}

async function send({ response, exchange, principal, streams, abort }: Sending): Promise<void> {
  const type = response.headers.get('content-type');
  if (!type?.startsWith('text/event-stream')) {
    if (exchange.signal.aborted) return;
    const body = Buffer.from(await response.arrayBuffer());
    exchange.reply.writeHead(response.status, {
      ...(type && { 'content-type': type }),
      'content-length': body.length,
    });
    exchange.reply.end(body);
    return;
  }
  const unlist = streams.track(principal, { close: abort, comment: () => {} });
  try {
    exchange.reply.writeHead(response.status, EVENT_HEADERS);
    await pump(response, exchange);
  } finally {
    unlist();
  }
}
