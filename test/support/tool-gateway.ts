/** A gateway in front of an MCP server that has rules for its tools; who calls is one of two users, by their tokens. */
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { TestContext } from 'node:test';
import type { Principal } from '../../src/core/principal.ts';
import type { SpanSink } from '../../src/core/spans.ts';
import type { Protection } from '../../src/gateway/core.ts';
import { authPolicy, type AllowList, type McpPolicy, type ToolRule } from '../../src/proxies/auth-policy.ts';
import type { Proxy } from '../../src/proxies/schema.ts';
import {
  type Answer,
  ask,
  type Ask,
  caPem,
  type Fixture,
  proxyOf,
  startGateway,
  startUpstream,
} from './gateway.ts';
import { eventually } from './eventually.ts';

export const HOST = 'app.example.com';
export const allowing = (more: Partial<AllowList>): AllowList => ({
  everyone: false,
  users: [],
  emails: [],
  domains: [],
  groups: [],
  clients: [],
  ...more,
});
export const ruleOf = (name: string, more: Partial<ToolRule> = {}): ToolRule => ({
  name,
  scopes: [],
  ...more,
});

export const userOf = (id: string, scopes = ['access']): Principal => ({
  id: `${id}:client`,
  name: id,
  kind: 'user',
  permissions: new Set(),
  hostnames: undefined,
  expiresAt: undefined,
  oauth: { userId: id, clientId: 'https://client.example/', grantId: 'g', tokenId: 'jti', scopes },
});

/** As `protect_proxy` sets it up; people are known by their ids alone. */
export const protection = (key = 'key'): Protection => ({
  sessionOf: () => undefined,
  allows: (policy, { oauth }) => policy.allow.everyone || policy.allow.users.includes(oauth?.userId ?? ''),
  lacksScopes: (policy, { oauth }, scopes = policy.scopes) =>
    !scopes.every((scope) => oauth?.scopes.includes(scope)),
  names: (allow, { oauth }) =>
    oauth !== undefined && (allow.everyone || allow.users.includes(oauth.userId ?? '')),
  mark: (text) => createHmac('sha256', key).update(text).digest('base64url'),
  identityOf: (_policy, { oauth }) => ['X-Auth-User', oauth?.userId ?? ''],
  beginSignIn: () => ({ location: '/', cookies: [] }),
});

export const policyOf = (mcp: Partial<McpPolicy> = {}, more: object = {}) =>
  authPolicy.parse({
    kind: 'oauth',
    mode: 'auto',
    scopes: ['access'],
    public_paths: [],
    identity: { kind: 'headers' },
    allow: allowing({ everyone: true }),
    mcp: { path: '/mcp', default: 'allow', tools: [], ...mcp },
    ...more,
  });

/** `alice` may use all that a rule names her in, `bob` what is for everyone; `narrow` is alice by a token with fewer scopes. */
export const tokens: Record<string, Principal> = {
  alice: userOf('usr_alice', ['access', 'danger']),
  narrow: { ...userOf('usr_alice'), id: 'usr_alice:other' },
  bob: userOf('usr_bob', ['access', 'danger']),
};

export const rules: ToolRule[] = [
  ruleOf('secret_*', { allow: allowing({ users: ['usr_alice'] }) }),
  ruleOf('gone', { deny: true }),
  ruleOf('danger', { allow: allowing({ everyone: true }), scopes: ['danger'] }),
  ruleOf('slow', { allow: allowing({ everyone: true }), calls_per_minute: 2 }),
];

export async function gatewayTo(
  t: Pick<TestContext, 'after'>,
  target: string,
  {
    mcp = { tools: rules },
    proxy = {},
    spans,
    ...more
  }: { mcp?: Partial<McpPolicy>; proxy?: Partial<Proxy>; policy?: object; spans?: SpanSink } = {},
): Promise<Fixture> {
  const served = proxyOf(HOST, target, { auth: policyOf(mcp, more.policy), serve_mcp: false, ...proxy });
  const gateway = await startGateway({ proxies: [served], tokens, protection: protection(), spans });
  t.after(() => gateway[Symbol.asyncDispose]());
  return gateway;
}

export interface Post extends Omit<Ask, 'body'> {
  by?: string;
  body: unknown;
}

/** A message, or bytes as they are. */
export function post(gateway: Fixture, { by = 'alice', body, headers = {}, ...rest }: Post): Promise<Answer> {
  const isRaw = typeof body === 'string' || Buffer.isBuffer(body);
  return ask(gateway, {
    method: 'POST',
    path: '/mcp',
    ...rest,
    headers: {
      authorization: `Bearer ${by}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: isRaw ? body : JSON.stringify(body),
  });
}

export const rpc = (method: string, params?: object, id: number | string | undefined = 1) => ({
  jsonrpc: '2.0',
  ...(id !== undefined && { id }),
  method,
  ...(params && { params }),
});
export const call = (name: string, args: object = {}, id: number | string = 1) =>
  rpc('tools/call', { name, arguments: args }, id);

export const toolsOf = (names: readonly string[]) =>
  names.map((name) => ({ name, inputSchema: { type: 'object' } }));
export const namesIn = (answer: any): string[] =>
  answer.result.tools.map(({ name }: { name: string }) => name);

export const ALL = ['open', 'secret_one', 'secret_two', 'gone', 'danger', 'slow', 'bad name'];

/** Answers every request of a body as an MCP server of the older eras does in JSON, and tells what it got. */
export function mcpServer(seen: string[] = []): RequestListener {
  return (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      seen.push(text);
      const answer = ({ id, method }: { id: number; method: string }) => ({
        jsonrpc: '2.0',
        id,
        result: method === 'tools/list' ? { tools: toolsOf(ALL), nextCursor: 'next' } : { content: [] },
      });
      const message = JSON.parse(text);
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(Array.isArray(message) ? message.map(answer) : answer(message)));
    });
  };
}

export async function setUp(
  t: TestContext,
  listener?: RequestListener,
  options: Parameters<typeof gatewayTo>[2] = {},
) {
  const seen: string[] = [];
  const upstream = await startUpstream(listener ?? mcpServer(seen));
  t.after(() => upstream[Symbol.asyncDispose]());
  return { gateway: await gatewayTo(t, upstream.url, options), upstream, seen };
}

/** An open reply, and what has come of it so far. */
export async function open(gateway: Fixture, { by = 'bob', method = 'GET', headers = {}, body = '' } = {}) {
  const request = httpsRequest({
    host: '127.0.0.1',
    port: gateway.httpsPort,
    servername: HOST,
    ca: caPem,
    agent: false,
    method,
    path: '/mcp',
    headers: { host: HOST, authorization: `Bearer ${by}`, accept: 'text/event-stream', ...headers },
  });
  request.on('error', () => {});
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const state = { text: '', isOver: false, response };
  response.on('data', (chunk: Buffer) => (state.text += chunk.toString()));
  response.on('error', () => {});
  response.on('close', () => (state.isOver = true));
  return state;
}

export const has = (state: { text: string }, part: string) =>
  eventually(async () => (state.text.includes(part) ? true : undefined), part);

/** A target whose event stream the test writes itself. */
export async function streaming(t: TestContext, options: Parameters<typeof gatewayTo>[2] = {}) {
  const streams: ServerResponse[] = [];
  const { gateway, upstream } = await setUp(
    t,
    (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.flushHeaders();
      streams.push(response);
    },
    options,
  );
  return { gateway, upstream, streams };
}

export const listEvent = (id: number | string, end = '\n') =>
  `id: e${id}${end}data: ${JSON.stringify({ jsonrpc: '2.0', id, result: { tools: toolsOf(ALL), cacheScope: 'public' } })}${end}${end}`;
