/**
 * A secret that is kept for one place must not be sent to another because a request says so (grafana's X-Grafana-URL),
 * and a credential for this system must not be sent to what stands behind it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { after, beforeEach } from 'node:test';
import { configFile, generous, grant, raw } from '../support/callers.ts';
import { startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
const own = await startUpstream((request, response) => {
  const status = Number(/^\/redirect\/(\d+)/.exec(request.url ?? '')?.[1] ?? 200);
  response.writeHead(status, status === 200 ? {} : { location: `${stranger.url}/stolen` }).end('own');
});
const stranger = await startUpstream();
after(() => Promise.all([product, own, stranger].map((one) => one[Symbol.asyncDispose]())));

const ADMIN = product.adminToken;
const token = (await grant(product, { bundle: 'admin' })).secret;
const STORED = 'stored-upstream-credential-4711';
const open = 'open.example.com';
const guarded = 'guarded.example.com';
const passthrough = 'passthrough.example.com';
const target_url = own.url;
const auth = { kind: 'token', permission: 'proxies:read' };
const request_headers = { set: { 'X-Upstream-Key': STORED } };
for (const proxy of [
  { hostname: open, target_url, request_headers },
  { hostname: guarded, target_url, request_headers, auth },
  { hostname: passthrough, target_url, serve_mcp: false },
])
  assert.equal((await product.api('POST', '/v1/proxies', proxy)).status, 201);
const route = { hostname: open, path: '/guarded', target_url, auth };
assert.equal((await product.api('POST', '/v1/routes', route)).status, 201);

beforeEach(() => {
  own.requests.length = 0;
  stranger.requests.length = 0;
});

const valuesOf = (name: string) =>
  own.requests.flatMap(({ rawHeaders }) =>
    rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === name),
  );
function nobodyLearned(secret: string): void {
  const seen = JSON.stringify([...own.requests, ...stranger.requests]);
  assert.ok(!seen.includes(secret), `the secret reached an upstream: ${seen}`);
}

/** Asks for a WebSocket and takes whatever comes for an answer. */
async function upgradeTo(path: string, headers: Record<string, string> = {}): Promise<void> {
  const upgrade = https.request({
    host: '127.0.0.1',
    port: product.httpsPort,
    path,
    servername: open,
    ca: product.ca,
    agent: false,
    headers: {
      host: open,
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': Buffer.alloc(16).toString('base64'),
      ...headers,
    },
  });
  upgrade.end();
  await once(upgrade, 'response');
  upgrade.destroy();
}

const bearers = (secret: string) => [
  `Bearer ${secret}`,
  `bearer ${secret}`,
  `BEARER    ${secret}`,
  `Bearer ${secret} `,
  `Bearer\t${secret}`,
  `Bearer \t${secret}`,
];
/** No credential to us, but the secret all the same. */
const careless = (secret: string) => [
  secret,
  `Token ${secret}`,
  `Bearer "${secret}"`,
  `Bearer Bearer ${secret}`,
];

test('incident 13: a credential that opens a proxy or a route is not passed on to what stands behind it', async () => {
  for (const secret of [token, ADMIN])
    for (const authorization of bearers(secret))
      for (const [hostname, path] of [
        [guarded, '/'],
        [open, '/guarded'],
      ] as const)
        await product.get(hostname, path, { headers: { authorization } });
  assert.ok(own.requests.length > 0);
  for (const secret of [token, ADMIN]) nobodyLearned(secret);
});

test('incident 13: a token of this system is not passed on to a public proxy it was sent to by mistake', async () => {
  for (const authorization of [...bearers(token), ...careless(token)])
    await product.get(open, '/', { headers: { authorization } });
  assert.ok(own.requests.length > 0);
  nobodyLearned(token);
});

test("incident 13: the administrator's own token of OHP_ADMIN_TOKEN is a token of this system, whatever it looks like", async () => {
  for (const authorization of bearers(ADMIN)) await product.get(open, '/', { headers: { authorization } });
  assert.ok(own.requests.length > 0);
  nobodyLearned(ADMIN);
});

test('incident 13: the same over HTTP/2 and for WebSocket', async () => {
  const session = http2.connect(`https://${open}`, {
    ca: product.ca,
    createConnection: undefined as never,
    lookup: (_name, options, done) =>
      options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
    port: product.httpsPort,
    servername: open,
  } as http2.SecureClientSessionOptions);
  const stream = session.request({
    ':path': '/',
    ':authority': `${open}:${product.httpsPort}`,
    authorization: `Bearer ${token}`,
    'proxy-authorization': `Bearer ${token}`,
  });
  assert.equal(await text(stream), 'own');
  session.close();
  await upgradeTo('/', { authorization: `Bearer ${token}` });
  assert.equal(own.requests.length, 2);
  nobodyLearned(token);
});

test('incident 13: a credential for the upstream itself passes, and only in the field it came in', async () => {
  for (const authorization of ['Basic dXNlcjpwYXNz', 'Bearer of-the-upstream', 'Digest x']) {
    own.requests.length = 0;
    await product.get(open, '/', { headers: { authorization } });
    assert.deepEqual(valuesOf('authorization'), [authorization]);
  }
});

test('incident 13: a credential for /mcp stays here, and where /mcp is the upstream’s, it does not get it', async () => {
  const call = {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
  };
  const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
  assert.equal((await product.get(open, '/mcp', { ...call, body })).status, 200);
  assert.equal(own.requests.length, 0, 'answered here');
  assert.equal((await product.get(passthrough, '/mcp', { ...call, body })).body, 'own');
  nobodyLearned(token);
});

test('incident 13: a redirect of the upstream is the client’s to follow: nothing is sent to where it leads', async () => {
  for (const hostname of [open, guarded])
    for (const status of [301, 302, 303, 307, 308]) {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await product.get(hostname, `/redirect/${status}`, {
        method: 'POST',
        headers,
        body: 'x',
      });
      assert.deepEqual([answer.status, answer.headers.location], [status, `${stranger.url}/stolen`]);
    }
  assert.equal(stranger.requests.length, 0);
  nobodyLearned(token);
});

test('incident 13: no header, host or target of a request changes where a stored credential goes', async () => {
  const { host, port } = { host: '127.0.0.1', port: stranger.port };
  const names =
    'X-Target-Url X-Upstream X-Upstream-Url X-Proxy-Url X-Original-Url X-Rewrite-Url X-Forwarded-Host X-Forwarded-Server X-Host '
      .concat(
        'X-Original-Host X-Backend X-Grafana-Url Forwarded Destination Referer Via X-HTTP-Destinationurl Alt-Svc X-Accel-Redirect',
      )
      .split(' ');
  for (const name of names)
    for (const value of [stranger.url, `${host}:${port}`, `host=${host}:${port}`])
      assert.equal((await product.get(open, '/', { headers: { [name]: value } })).status, 200, name);
  for (const path of [`/${stranger.url}`, `/?url=${stranger.url}`, `/@${host}:${port}/`, `/.${host}:${port}`])
    await product.get(open, path);
  for (const target of [
    `${stranger.url}/`,
    `http://${open}@${host}:${port}/`,
    `//${host}:${port}/`,
    `${host}:${port}`,
  ])
    await raw(product, `GET ${target} HTTP/1.1\r\nHost: ${open}\r\nConnection: close\r\n\r\n`, open);
  for (const authority of [`${host}:${port}`, `${open}@${host}:${port}`, `${open}:${port}`])
    await raw(product, `GET / HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`, open);
  assert.equal(stranger.requests.length, 0);
  assert.ok(valuesOf('x-upstream-key').length >= 3 * names.length);
});

test('incident 13: whoever may only make routes can not have a stored credential sent to a target of their own', async () => {
  const router = (await grant(product, { permissions: ['routes:read', 'routes:write'] })).secret;
  const asRouter = { authorization: `Bearer ${router}` };
  const answer = async (path: string, more: object = {}) => {
    const made = await product.api('POST', '/v1/routes', { hostname: open, path, ...more }, asRouter);
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return made.body.id as string;
  };
  const ids = [
    await answer('/elsewhere', { target_url: stranger.url }),
    await answer('/everywhere', { hostname: null, target_url: `http://localhost:${stranger.port}` }),
    await answer('/changed', { target_url: own.url }),
  ];
  const changed = await product.api('PATCH', `/v1/routes/${ids[2]}`, { target_url: stranger.url }, asRouter);
  assert.equal(changed.status, 200);
  const mine = { 'x-upstream-key': 'mine', x_upstream_key: 'mine' };
  for (const path of ['/elsewhere', '/everywhere', '/changed', '/elsewhere/deeper?x=1'])
    for (const headers of [{}, mine]) await product.get(open, path, { headers });
  await upgradeTo('/elsewhere');
  assert.equal(stranger.requests.length, 9);
  nobodyLearned(STORED);
  const seen = stranger.requests.flatMap(({ headers }) => Object.keys(headers));
  assert.ok(!seen.some((name) => /^x[-_]upstream[-_]key$/.test(name)), 'nor does a client take its place');
  const paths = [await answer('/beside', { target_url: `${own.url}/deep` }), ...ids];
  await product.get(open, '/beside');
  assert.deepEqual(valuesOf('x-upstream-key'), [STORED], 'to the origin it is kept for it goes');
  for (const id of paths) await product.api('DELETE', `/v1/routes/${id}`);
});

test('incident 13: test_route tells where a stored credential is not sent, and never what it is', async () => {
  const made = await product.api('POST', '/v1/routes', {
    hostname: open,
    path: '/told',
    target_url: stranger.url,
  });
  const ask = async (path: string) =>
    (await product.api('GET', `/v1/route-test?url=https://${open}${path}`)).body;
  const [there, here] = [await ask('/told'), await ask('/')];
  assert.match(there.reason, /another origin than the proxy's, so no header that the proxy sets goes there/);
  assert.doesNotMatch(here.reason, /origin/);
  assert.ok(!JSON.stringify([there, here]).includes(STORED));
  await product.api('DELETE', `/v1/routes/${made.body.id}`);
});

test('incident 13: a stored credential replaces what a client sends in its place, and is in no answer of ours', async () => {
  const answer = await product.get(open, '/', {
    headers: { 'x-upstream-key': ['mine', 'too'], 'X-UPSTREAM-KEY': 'MINE', X_Upstream_Key: 'mine' },
  });
  assert.deepEqual(valuesOf('x-upstream-key'), [STORED]);
  assert.deepEqual(valuesOf('x_upstream_key'), [], 'which CGI and WSGI would take for the same');
  const answers = [
    answer,
    await product.get(guarded, '/'),
    await product.get(open, '/%zz'),
    await product.get(open, '/mcp'),
  ];
  for (const { body, headers } of answers) assert.ok(!`${body}${JSON.stringify(headers)}`.includes(STORED));
});

test('incident 13: what a client is told to trust next is made of the served name, never of forwarded headers', async () => {
  const headers = {
    'x-forwarded-host': 'evil.example.com',
    'x-forwarded-proto': 'gopher',
    'x-forwarded-port': '1',
    forwarded: 'host=evil.example.com;proto=http',
    'x-original-url': 'https://evil.example.com/',
  };
  const base = `https://${open}:${product.httpsPort}`;
  const challenge = (await product.get(open, '/mcp', { headers })).headers['www-authenticate'];
  assert.match(String(challenge), new RegExp(`resource_metadata="${base}/\\.well-known/`));
  const metadata = await product.get(open, '/.well-known/oauth-protected-resource/mcp', { headers });
  assert.equal(JSON.parse(metadata.body).resource, `${base}/mcp`);
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const plain = await raw(
    product,
    `GET /x HTTP/1.1\r\nHost: ${open}\r\n${fields.join('')}Connection: close\r\n\r\n`,
  );
  assert.equal(plain.status, 308);
  assert.match(
    plain.headers.location ?? '',
    new RegExp(`^https://${open.replaceAll('.', '\\.')}(:\\d+)?/x$`),
  );
});

test('incident 13: the command line sends a stored token to the origin it was given for and follows no redirect', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-cli-'));
  const base = `http://localhost:${own.port}`;
  mkdirSync(join(folder, 'ohp'), { mode: 0o700 });
  writeFileSync(
    join(folder, 'ohp/credentials.json'),
    JSON.stringify({ current: base, tokens: { [base]: token } }),
    {
      mode: 0o600,
    },
  );
  const ohp = async (...args: string[]) => {
    const cli = join(import.meta.dirname, '../../src/cli.ts');
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', cli, ...args], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
        HOME: folder,
        XDG_CONFIG_HOME: folder,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [out, err, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'exit'),
    ]);
    return { code, printed: out + err };
  };
  try {
    for (const origin of [stranger.url, `http://localhost:${stranger.port}`]) {
      const { printed } = await ohp('list', 'proxies', '--url', origin);
      assert.ok(stranger.requests.length > 0, printed);
    }
    await ohp('list', 'proxies');
    assert.equal(valuesOf('authorization')[0], `Bearer ${token}`, 'to its own origin it goes');
    assert.ok(!JSON.stringify(stranger.requests).includes(token));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
