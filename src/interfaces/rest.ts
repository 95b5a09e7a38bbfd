/**
 * Every operation at `/v1/…`, `/openapi.json`, and a page at `/` for who comes with a browser: the control plane's
 * plain HTTP. Knows how HTTP carries arguments, results and errors, and no operation by name. The gateway calls
 * `handle` with a canonical path, an origin that may call and an authenticated principal; permissions are `dispatch`'s
 * business.
 */
import { RegExpRouter } from 'hono/router/reg-exp-router';
import { SmartRouter } from 'hono/router/smart-router';
import { TrieRouter } from 'hono/router/trie-router';
import { assert } from '../core/assert.ts';
import type { Dispatch } from '../core/dispatch.ts';
import type { Endpoint } from '../core/endpoints.ts';
import { AppError, errorSurface, toAppError } from '../core/errors.ts';
import type { Exchange, ExchangeHandler } from '../core/exchange.ts';
import { lazy } from '../core/lazy.ts';
import { limits } from '../core/limits.ts';
import type { AnyOperation } from '../core/operation.ts';
import type { Access, Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import { argumentsOf, type Arguments, pathParamsOf } from './arguments.ts';
import { openApiOf } from './openapi.ts';
import { createStartPage } from './start-page.ts';
import { readInput } from './rest-input.ts';
import { progressStream } from './rest-progress.ts';

const OPENAPI_PATH = '/openapi.json';
const NO_STORE = 'no-store';
const JSON_TYPE = 'application/json; charset=utf-8';
const CREATED = 201;
const OK = 200;
const METHOD_NOT_ALLOWED = 405;
/** When an error does not say how long to wait. */
const RETRY_AFTER_SECONDS = 1;

export interface RestOptions {
  operations: readonly AnyOperation[];
  dispatch: Dispatch;
  /** Of this program, for the OpenAPI document. */
  version: string;
  /** Setting `mcp.access`, for the list of endpoints; `dispatch` decides. */
  access?: Access;
  /** What is no operation's and answers on the control hosts beside them. */
  others?: readonly OtherRoute[];
}

export interface OtherRoute {
  endpoint: Endpoint;
  /** Refuses by throwing. */
  handle: ExchangeHandler;
}

export interface RestInterface {
  handle: ExchangeHandler;
  endpoints: Endpoint[];
}

/** Answers one exchange that was matched. */
type Run = (exchange: Exchange, principal: Principal, params: Record<string, string>) => Promise<void>;
interface Route {
  method: string;
  path: string;
  run: Run;
}

export function createRestInterface(options: RestOptions): RestInterface {
  const { operations, version, access, others = [] } = options;
  const openApi = lazy(() => JSON.stringify(openApiOf(operations, version)));
  const startPage = createStartPage();
  const match = createMatcher([
    { method: 'GET', path: '/', run: async (exchange) => startPage(exchange) },
    { method: 'GET', path: OPENAPI_PATH, run: async (exchange) => sendText(exchange, openApi()) },
    ...others.map(({ endpoint: { path }, handle }) => ({ method: 'GET', path, run: handle })),
    ...operations.map((operation) => routeOf(operation, options)),
  ]);
  return {
    endpoints: [...endpointsOf(operations, access), ...others.map(({ endpoint }) => endpoint)],
    async handle(exchange, principal) {
      try {
        const { run, params } = match(exchange);
        await run(exchange, principal, params);
      } catch (cause) {
        sendError(exchange, cause);
      }
    },
  };
}

function routeOf(operation: AnyOperation, { operations, dispatch }: RestOptions): Route {
  const argumentsOnce = lazy(() => argumentsOf(operation));
  const location = locationOf(operation, operations);
  return {
    ...operation.http,
    async run(exchange, principal, params) {
      exchange.note({ operation: operation.name });
      const args = argumentsOnce();
      const read = () => readInput(operation, args, exchange, decoded(params, args));
      const { traceId, span, clientAddress, signal, headers } = exchange;
      const stream = progressStream(exchange, operation);
      const answer = dispatch(operation, read, {
        principal,
        signal,
        traceId,
        span,
        surface: 'rest',
        clientAddress,
        client: headers['user-agent'] && cleanText(headers['user-agent'], limits.shortText),
        progress: stream?.progress,
      });
      const output = await answer.catch((cause: unknown) => {
        if (!stream?.end('error', errorBody(exchange, toAppError(cause)))) throw cause;
      });
      if (output === undefined || stream?.end('result', JSON.stringify(output))) return;
      sendOutput(exchange, output, { created: operation.effect === 'create', location });
    },
  };
}

/** Where what was created can be read: the reading operation one segment below, if its parameter is in the output. */
function locationOf(operation: AnyOperation, operations: readonly AnyOperation[]) {
  if (operation.effect !== 'create') return undefined;
  const parent = operation.http.path;
  const reader = operations.find(
    ({ http }) =>
      http.method === 'GET' &&
      http.path.startsWith(`${parent}/{`) &&
      http.path.indexOf('/', parent.length + 1) < 0,
  );
  const [param] = reader ? pathParamsOf(reader.http.path) : [];
  if (param === undefined || !(param in operation.output.shape)) return undefined;
  return (output: Record<string, unknown>) => `${parent}/${encodeURIComponent(String(output[param]))}`;
}

function decoded(params: Record<string, string>, { pathParams }: Arguments): Record<string, string> {
  const values: Record<string, string> = {};
  for (const name of pathParams) {
    try {
      values[name] = decodeURIComponent(params[name] ?? '');
    } catch (cause) {
      throw new AppError('INVALID_INPUT', `${name}: the percent-encoding in the path is not UTF-8`, {
        cause,
      });
    }
  }
  return values;
}

type Match = (exchange: Exchange) => { run: Run; params: Record<string, string> };

/** Hono's router on canonical paths: a literal segment wins over a parameter because it is added first. */
function createMatcher(routes: Route[]): Match {
  const router = new SmartRouter<Run>({ routers: [new RegExpRouter(), new TrieRouter()] });
  const ordered = [...routes].sort((a, b) => a.path.split('{').length - b.path.split('{').length);
  for (const { method, path, run } of ordered) router.add(method, path.replace(/\{(\w+)\}/g, ':$1'), run);
  const methods = [...new Set(routes.map(({ method }) => method))].sort();
  const find = (method: string, path: string) => {
    const [handlers, stash] = router.match(method, path);
    const [run, places] = handlers[0] ?? [];
    if (!run || !places) return undefined;
    const params = Object.entries(places).map(([name, place]) => [
      name,
      typeof place === 'number' ? stash?.[place] : place,
    ]);
    return { run, params: Object.fromEntries(params) as Record<string, string> };
  };
  return ({ method, path }) => {
    const found = find(method === 'HEAD' ? 'GET' : method, path);
    if (found) return found;
    const others = methods.filter((other) => find(other, path));
    if (others.length > 0) throw new MethodNotAllowed(method, others);
    throw new AppError(
      'NOT_FOUND',
      `nothing is served at ${cleanText(path, limits.shortText)}; see ${OPENAPI_PATH}`,
    );
  };
}

/** HTTP knows one error more than operations do. */
class MethodNotAllowed extends AppError {
  readonly allow: string;

  constructor(method: string, methods: readonly string[]) {
    const allow = [...methods, ...(methods.includes('GET') ? ['HEAD'] : [])].join(', ');
    super('INVALID_INPUT', `${cleanText(method, limits.shortText)} is not served here; allowed: ${allow}`, {
      details: { allowed_methods: allow.split(', ') },
    });
    this.allow = allow;
  }
}

function sendOutput(
  exchange: Exchange,
  output: Record<string, unknown>,
  { created, location }: { created: boolean; location: ReturnType<typeof locationOf> },
): void {
  const headers: Record<string, string> = {};
  if (typeof output.version === 'number') headers.etag = `"${output.version}"`;
  if (location) headers.location = location(output);
  sendText(exchange, JSON.stringify(output), { status: created ? CREATED : OK, headers });
}

function sendError(exchange: Exchange, cause: unknown): void {
  const error = toAppError(cause);
  // The client is gone, or has half of an answer already: nothing that is sent now could be understood.
  if (exchange.reply.headersSent) {
    exchange.reply.destroy(error);
    return;
  }
  const status = error instanceof MethodNotAllowed ? METHOD_NOT_ALLOWED : errorSurface[error.code].status;
  sendText(exchange, errorBody(exchange, error), { status, headers: errorHeaders(error) });
}

const errorBody = ({ traceId }: Exchange, { code, message, details }: AppError): string =>
  JSON.stringify({ error: { code, message, ...(details && { details }), trace_id: traceId } });

/** @see {@link https://www.rfc-editor.org/rfc/rfc6750#section-3 | RFC 6750 §3} */
function errorHeaders(error: AppError): Record<string, string> {
  if (error instanceof MethodNotAllowed) return { allow: error.allow };
  const { code, details } = error;
  if (code === 'UNAUTHENTICATED') return { 'www-authenticate': 'Bearer' };
  if (code === 'FORBIDDEN' && typeof details?.required === 'string')
    return { 'www-authenticate': `Bearer error="insufficient_scope", scope="${details.required}"` };
  if (code !== 'RATE_LIMITED') return {};
  const seconds = details?.retry_after_seconds;
  return { 'retry-after': String(typeof seconds === 'number' ? Math.ceil(seconds) : RETRY_AFTER_SECONDS) };
}

function sendText(
  { method, reply }: Exchange,
  text: string,
  { status = OK, headers = {} }: { status?: number; headers?: Record<string, string> } = {},
): void {
  reply.writeHead(status, {
    ...headers,
    'content-type': JSON_TYPE,
    'content-length': Buffer.byteLength(text),
    'cache-control': NO_STORE,
    'x-content-type-options': 'nosniff',
  });
  if (method === 'HEAD') reply.end();
  else reply.end(text);
}

function endpointsOf(operations: readonly AnyOperation[], access: Access | undefined): Endpoint[] {
  const fixed = { methods: ['GET', 'HEAD'], hosts: 'control', gate: 'public' } as const;
  return [
    { ...fixed, path: '/', surface: 'web', description: 'What this is and how to connect' },
    { ...fixed, path: OPENAPI_PATH, surface: 'rest', description: 'OpenAPI 3.1 description of /v1' },
    ...operations.map(({ http: { method, path }, permission, title }): Endpoint => {
      assert(path.startsWith('/v1/'), `${path} begins with /v1/`);
      return {
        methods: method === 'GET' ? ['GET', 'HEAD'] : [method],
        path,
        surface: 'rest',
        hosts: 'control',
        gate: permission === 'public' && access !== 'public' ? 'authenticated' : permission,
        description: title,
      };
    }),
  ];
}
