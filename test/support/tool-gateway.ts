/** A gateway in front of an MCP server that has rules for its tools; who calls is one of two users, by their tokens. */
import { createHmac } from 'node:crypto';
import type { TestContext } from 'node:test';
import type { Principal } from '../../src/core/principal.ts';
import type { Protection } from '../../src/gateway/core.ts';
import { authPolicy, type AllowList, type McpPolicy, type ToolRule } from '../../src/proxies/auth-policy.ts';
import type { Proxy } from '../../src/proxies/schema.ts';
import { type Answer, ask, type Ask, type Fixture, proxyOf, startGateway } from './gateway.ts';

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
    ...more
  }: { mcp?: Partial<McpPolicy>; proxy?: Partial<Proxy>; policy?: object } = {},
): Promise<Fixture> {
  const served = proxyOf(HOST, target, { auth: policyOf(mcp, more.policy), serve_mcp: false, ...proxy });
  const gateway = await startGateway({ proxies: [served], tokens, protection: protection() });
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
