/** What `test_route` says of a request is what the gateway does with it, whatever the request. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import test from 'node:test';
import fc from 'fast-check';
import type { RouteTest } from '../routes/schema.ts';
import { testRequest } from '../routes/test-request.ts';
import {
  echo,
  type Fixture,
  principalOf,
  proxyOf,
  readUntil,
  routeOf,
  startGateway,
  startUpstream,
  tlsSocket,
} from '../../test/support/gateway.ts';

const RUNS = 600;
const admin = principalOf('tok_admin', ['system:write']);
const controlHosts = ['localhost', 'admin.example.com'];
const frontedFrom = '203.0.113.';

/** A request that someone may send: everything that is decided upon. */
interface Sent {
  scheme: string;
  host: string;
  port: 'none' | 'own' | '80' | '443' | '9999';
  method: string;
  path: string;
}

const sent: fc.Arbitrary<Sent> = fc.record({
  scheme: fc.constantFrom('http', 'https'),
  host: fc.constantFrom(
    'app.example.com',
    'APP.Example.COM.',
    'quiet.example.com',
    'plain.example.com',
    'secure.example.com',
    'off.example.com',
    'other.example.com',
    'a.wild.example.org',
    'a.b.wild.example.org',
    'nobody.example.org',
    '127.0.0.1.example.net',
    'example.net',
    'localhost',
    'admin.example.com',
    '127.0.0.1',
    '127.9.9.9',
    '127.1',
    '192.0.2.1',
    '[::1]',
    '[2001:db8::1]',
    'a_b.example.com',
    'user@app.example.com',
  ),
  port: fc.constantFrom('none', 'own', '80', '443', '9999'),
  method: fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'TRACE', 'CONNECT'),
  path: fc.oneof(
    fc.constantFrom(
      '/mcp',
      '/mcp/',
      '/mcp/x',
      '/%6dcp',
      '/MCP',
      '/x/../mcp',
      '/.well-known/acme-challenge/t',
      '/.well-known/acme-challenge',
      '/.well-known/%61cme-challenge/t',
      '/.well-known/oauth-protected-resource',
      '/.well-known/oauth-protected-resource/mcp',
      '/.well-known/oauth-protected-resource/mcp/',
      '/.well-known/oauth-protected-resource/other',
      '/healthz',
      '/v1/proxies',
      '/..',
      '/a%2fb',
      '/a%',
    ),
    fc
      .array(fc.constantFrom('api', 'admin', 'x', 'api;v=1', '%61pi', '..', '.', '', 'a%40b'), {
        maxLength: 4,
      })
      .map((segments) => `/${segments.join('/')}`),
  ),
});

/** What can be seen of an answer, as `test_route` would tell it. */
type Seen = Pick<RouteTest, 'outcome' | 'redirect_to'> & {
  route: string | undefined;
  url: string | undefined;
};

const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Names of this machine are asked for from here, everything else through a front, as for a client elsewhere. */
async function send(gateway: Fixture, request: Sent, number: number): Promise<string> {
  const { scheme, method, path } = request;
  const isLocal = LOOPBACK.test(request.host);
  const authority = authorityOf(gateway, request);
  const front = isLocal
    ? ''
    : `X-Forwarded-For: ${frontedFrom}${number % 250}\r\nX-Forwarded-Proto: ${scheme}\r\n`;
  const socket: Socket =
    isLocal && scheme === 'https'
      ? await tlsSocket(gateway, request.host === 'localhost' ? 'localhost' : '')
      : connect(gateway.httpPort, '127.0.0.1');
  socket.on('error', () => {});
  const target = method === 'CONNECT' ? authority : `${path}?q=1`;
  socket.write(`${method} ${target} HTTP/1.1\r\nHost: ${authority}\r\n${front}Connection: close\r\n\r\n`);
  return readUntil(socket);
}

function authorityOf({ httpPort, httpsPort }: Fixture, { scheme, host, port }: Sent): string {
  if (port === 'none') return host;
  return `${host}:${port === 'own' ? (scheme === 'http' ? httpPort : httpsPort) : port}`;
}

async function seenOf(gateway: Fixture, request: Sent, number: number): Promise<Seen> {
  gateway.records.length = 0;
  const answer = await send(gateway, request, number);
  const { detail } = await gateway.record(() => true);
  const status = Number(answer.slice(9, 12));
  const redirect_to = /\r\nlocation: (\S+)\r\n/.exec(answer)?.[1] ?? null;
  const upstreamSaw = /"url":"([^"]*)"/.exec(answer)?.[1];
  return {
    outcome: outcomeOf(status, String(detail?.request)),
    redirect_to,
    route: typeof detail?.route === 'string' ? detail.route : undefined,
    url: upstreamSaw,
  };
}

function outcomeOf(status: number, kind: string): RouteTest['outcome'] {
  if (status === 308) return 'redirect';
  if (status === 400) return 'bad_request';
  if (status === 421 || status === 403) return 'not_served';
  switch (kind) {
    case 'refused':
      return 'not_served';
    case 'proxied':
      return status === 404 ? 'not_served' : 'forward';
    case 'mcp':
      return status === 404 ? 'not_served' : 'mcp';
    case 'metadata':
      return status === 404 ? 'not_served' : 'system';
    default:
      return 'system';
  }
}

const pathOf = (url: string): string => url.slice(url.indexOf('/', 'https://'.length));

for (const mcpHosts of [[], ['example.net', '*.example.net']])
  test(`the same is said and done${mcpHosts.length > 0 ? ' where mcp.hosts is narrowed' : ''}`, async () => {
    await using upstream = await startUpstream(echo);
    await using other = await startUpstream(echo);
    const token = { kind: 'token', permission: 'logs:read' } as const;
    await using gateway = await startGateway({
      proxies: [
        proxyOf('app.example.com', upstream.url),
        proxyOf('quiet.example.com', upstream.url, { serve_mcp: false }),
        proxyOf('plain.example.com', upstream.url, { enable_https: false }),
        proxyOf('secure.example.com', upstream.url, { enable_http: false }),
        proxyOf('off.example.com', upstream.url, { enabled: false }),
        proxyOf('example.net', `${upstream.url}/base`, { redirect_to_https: false }),
        proxyOf('127.0.0.1.example.net', upstream.url, { redirect_to_https: false }),
        proxyOf('*.wild.example.org', upstream.url, { redirect_to_https: false }),
      ],
      routes: [
        routeOf(null, '/api', other.url),
        routeOf(null, '/admin', other.url, { methods: ['POST', 'GET'], auth: token }),
        routeOf('app.example.com', '/mcp', other.url),
        routeOf('example.net', '/api', `${other.url}/v1`, { strip_prefix: true, priority: 900 }),
        routeOf('example.net', '/x', other.url, { match: 'exact', methods: ['DELETE'] }),
      ],
      settings: {
        trustedProxies: ['127.0.0.1'],
        controlHosts,
        mcp: { hosts: mcpHosts, callsPerMinutePerAddress: 1e6 },
      },
    });
    const settings = {
      table: gateway.gateway.snapshot().table,
      controlHosts: new Set(controlHosts),
      mcpHosts,
      ports: { http: gateway.httpPort, https: gateway.httpsPort },
      targetStates: () => undefined,
      leadingTo: () => ({}),
    };
    let number = 0;
    await fc.assert(
      fc.asyncProperty(sent, async (request) => {
        const { scheme, method, path } = request;
        const url = `${scheme}://${authorityOf(gateway, request)}${path}?q=1`;
        const told = testRequest(url, method, admin, settings);
        const seen = await seenOf(gateway, request, number++);
        assert.deepEqual(
          { outcome: told.outcome, redirect_to: told.redirect_to },
          { outcome: seen.outcome, redirect_to: seen.redirect_to },
          `${method} ${url}`,
        );
        if (told.outcome !== 'forward') return;
        assert.equal(told.route?.id, seen.route);
        if (seen.url !== undefined) assert.equal(pathOf(told.target_url ?? ''), seen.url);
      }),
      { numRuns: RUNS },
    );
  });
