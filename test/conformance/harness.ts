/**
 * The MCP interface on node:http with a minimal gate: what the gateway does for it, as far as the protocol's tests
 * need it. Credentials are principal ids. Used by the tests of `interfaces/mcp` and of the surfaces.
 */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Asks } from '../../src/core/asks.ts';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { createDispatch, type Dispatch } from '../../src/core/dispatch.ts';
import type { Exchange, Gate, Told } from '../../src/core/exchange.ts';
import { newTraceId } from '../../src/core/ids.ts';
import { LiveStreams } from '../../src/core/live-streams.ts';
import { type AnyOperation, toolsets } from '../../src/core/operation.ts';
import { expandPermissions, permissions } from '../../src/core/permissions.ts';
import { anonymous, type Principal } from '../../src/core/principal.ts';
import type { Log, LogRecord } from '../../src/core/record.ts';
import { Taint, type TaintMode } from '../../src/core/taint.ts';
import { createMcpInterface, type McpInterface, type McpOptions } from '../../src/interfaces/mcp/mcp.ts';
import type { McpSettings } from '../../src/interfaces/mcp/settings.ts';
import { createSealer } from '../../src/config/secrets.ts';
import { createSessionStore } from '../../src/sessions/store.ts';
import { createTaskStore } from '../../src/sessions/tasks.ts';
import { createUntrustedReads } from '../../src/sessions/untrusted-reads.ts';
import type { Database } from '../../src/store/database.ts';
import { openSqlite } from '../../src/store/sqlite.ts';

export interface HarnessOptions {
  operations?: readonly AnyOperation[];
  services?: unknown;
  /** Absent: one of its own, over `services`. */
  dispatch?: Dispatch;
  settings?: Partial<McpSettings>;
  /** Absent: reading holds nobody back. */
  taint?: TaintMode;
  clock?: Clock;
  database?: Database;
  secret?: Buffer;
  extend?: McpOptions['extend'];
  principals?: readonly Principal[];
  /** Writes no records. */
  quiet?: boolean;
  /** What further calls of one request cost, as `Gate.charge`. */
  charge?: Gate['charge'];
}

export interface Harness extends AsyncDisposable {
  url: string;
  mcp: McpInterface;
  server: Server;
  live: LiveStreams;
  database: Database;
  /** Calls that wait for a yes on a page, which the harness has none of. */
  asks: Asks;
  records: LogRecord[];
  told: Told[];
  principals: Map<string, Principal>;
  /** What a fixture's `toolsChanged` does; needs `extend`. */
  toolsChanged(): void;
  /** Stops the HTTP server and the interface; the database stays. */
  stop(): Promise<void>;
}

export const admin = principalOf('admin');

export function principalOf(id: string, change: Partial<Principal> = {}): Principal {
  return {
    id,
    name: id,
    kind: 'token',
    permissions: expandPermissions(permissions),
    hostnames: undefined,
    expiresAt: undefined,
    ...change,
  };
}

export const defaultSettings: McpSettings = {
  confirm: 'when-possible',
  strictAccept: false,
  toolsets,
  readOnly: false,
  sessionIdleMs: 60 * 60 * 1000,
  maxSessions: 10_000,
  maxSessionsPerPrincipal: 100,
  maxEventStreams: 2000,
  maxEventStreamsPerPrincipal: 200,
};

const SECRET_BYTES = 32;

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const clock = options.clock ?? systemClock;
  const database = options.database ?? (await openSqlite(':memory:', clock));
  const records: LogRecord[] = [];
  const told: Told[] = [];
  const keep = options.quiet ? () => {} : (record: LogRecord) => void records.push(record);
  const log: Log = { write: keep, enabled: (_component, level) => !options.quiet && level !== 'debug' };
  const live = new LiveStreams(clock);
  const idempotency = { find: () => Promise.resolve(undefined), seal: (text: string) => text };
  const mode = options.taint ?? 'off';
  const taint = new Taint({ mode, store: createUntrustedReads(database), clock, log });
  await taint.load();
  const asks = new Asks({ clock, urlOf: (id) => `https://localhost/oauth/confirm/${id}` });
  let toolsChanged = (): void => assert.fail('the harness was started without `extend`');
  const extend: McpOptions['extend'] = (sdk, own) => {
    toolsChanged = () => own.toolsChanged();
    options.extend?.(sdk, own);
  };
  const mcp = createMcpInterface({
    operations: options.operations ?? [],
    isOff: ({ offBy }) => offBy?.(options.services ?? {}) !== undefined,
    dispatch:
      options.dispatch ??
      createDispatch({
        services: options.services ?? {},
        access: 'public',
        log,
        clock,
        idempotency,
        taint,
        asks,
      }),
    clock,
    log,
    live,
    sessions: createSessionStore(database, createSealer(Buffer.alloc(SECRET_BYTES))),
    tasks: createTaskStore(database, createSealer(Buffer.alloc(SECRET_BYTES))),
    secret: options.secret ?? randomBytes(SECRET_BYTES),
    settings: { ...defaultSettings, ...options.settings },
    taint,
    version: '0.1.0',
    extend: options.extend && extend,
  });
  const principals = new Map((options.principals ?? [admin]).map((principal) => [principal.id, principal]));
  const server = createServer((request, response) => {
    const principal = gate(request, response, principals);
    if (!principal) return;
    let read: (() => Told) | undefined;
    const tell = (reader: () => Told) => void (read = reader);
    const exchange = exchangeOf(request, response, gateOf(principal, options), tell);
    void mcp.handle(exchange, principal).finally(() => told.push(...(read ? [read()] : [])));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const stop = async () => {
    await mcp[Symbol.asyncDispose]();
    live[Symbol.dispose]();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    mcp,
    server,
    live,
    database,
    asks,
    records,
    told,
    principals,
    toolsChanged: () => toolsChanged(),
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      if (!options.database) await database[Symbol.asyncDispose]();
    },
  };
}

const LOCAL = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/;

function gate(
  { headers }: IncomingMessage,
  response: ServerResponse,
  principals: ReadonlyMap<string, Principal>,
): Principal | undefined {
  const origin = headers.origin === undefined ? undefined : (URL.parse(headers.origin)?.host ?? 'none');
  if (!LOCAL.test(headers.host ?? '') || (origin !== undefined && !LOCAL.test(origin)))
    return void response.writeHead(403).end();
  const { authorization } = headers;
  if (authorization === undefined && principals.has('anonymous')) return anonymous;
  const principal = principals.get(authorization?.replace('Bearer ', '') ?? '');
  if (!principal) return void response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
  return principal;
}

function gateOf(principal: Principal, { charge = () => 0 }: HarnessOptions): Gate {
  return {
    caller: principal.id,
    charge,
    challenge: (scopes) => `Bearer scope="${scopes.join(' ')}"`,
  };
}

function exchangeOf(
  request: IncomingMessage,
  response: ServerResponse,
  gate: Gate,
  tell: Exchange['tell'] = () => {},
): Exchange {
  const controller = new AbortController();
  response.once('close', () => {
    if (!response.writableEnded) controller.abort();
  });
  const [path = '/', query = ''] = (request.url ?? '/').split('?', 2);
  return {
    traceId: newTraceId(),
    span: undefined,
    joinTrace: () => {},
    clientAddress: '127.0.0.1',
    scheme: 'http',
    hostname: 'localhost',
    authority: request.headers.host ?? 'localhost',
    method: request.method ?? 'GET',
    path,
    query,
    headers: request.headers,
    body: request,
    reply: response as Exchange['reply'],
    signal: controller.signal,
    note: () => {},
    tell,
    gate,
  };
}
