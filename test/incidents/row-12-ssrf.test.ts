/**
 * A target may not be the metadata service, link-local, or this process itself: in no spelling, by no operation, after
 * no answer of the DNS, and by no way of forwarding. Loopback and private networks are where upstreams live.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { configFile, generous, postMcp } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { wireHttp, type WireReply } from '../support/wire.ts';

/** Each of these names is an address that may not be a target, or becomes one at the second look. */
const resolver = {
  'metadata.example.net': [['169.254.169.254']],
  'metadata.google.internal': [['169.254.169.254']],
  'mapped.example.net': [['::ffff:169.254.169.254']],
  'linklocal.example.net': [['fe80::1']],
  'mixed.example.net': [['127.0.0.1', '169.254.169.254']],
  'zero.example.net': [['0.0.0.0']],
  'own.example.net': [['127.0.0.1']],
  'own-mapped.example.net': [['::ffff:127.0.0.1']],
  'own-other.example.net': [['127.0.0.53']],
  'own-six.example.net': [['::1']],
  'flip.example.net': [['127.0.0.1'], ['169.254.169.254']],
  'ssrf-free.example.net': [['127.0.0.1']],
};
const env = {
  OHP_CONFIG: configFile(generous),
  NODE_OPTIONS: `--import=${join(import.meta.dirname, '../support/hostile-resolver.ts')}`,
  TEST_RESOLVER: JSON.stringify(resolver),
};
const FREE = 'free.example.com';

let product: Product;
let upstream: Upstream;
let routeId: string;
/** Where the upstream sends clients, by number. */
let redirects: string[] = [];

before(async () => {
  upstream = await startUpstream((request, response) => {
    const to = redirects[Number(/^\/to\/(\d)$/.exec(request.url ?? '')?.[1] ?? -1)];
    if (to === undefined) response.setHeader('connection', 'close').end(`upstream saw ${request.url}`);
    else response.writeHead(302, { location: to }).end();
  });
  product = await startProduct({ env });
  await make(FREE, upstream.url);
  const route = await product.api('POST', '/v1/routes', {
    hostname: FREE,
    path: '/r',
    target_url: upstream.url,
  });
  assert.equal(route.status, 201, JSON.stringify(route.body));
  routeId = route.body.id;
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

async function make(hostname: string, target_url: string): Promise<void> {
  const made = await product.api('POST', '/v1/proxies', {
    hostname,
    target_url,
    redirect_to_https: false,
    preserve_host: false,
  });
  assert.equal(made.status, 201, `${target_url}: ${JSON.stringify(made.body)}`);
}

const metadata = [
  '169.254.169.254',
  '169.254.169.254.',
  '2852039166',
  '0xA9FEA9FE',
  '0xa9fea9fe',
  '0251.0376.0251.0376',
  '0251.254.43518',
  '169.254.43518',
  '169.16689662',
  '0xa9.0xfe.0xa9.0xfe',
  '0xa9.254.0251.254',
  '025177524776',
  '%31%36%39.254.169.254',
  '169。254。169。254',
  '169．254．169．254',
  '①⑥⑨.②⑤④.①⑥⑨.②⑤④',
  '１６９.254.169.254',
  '169.254.169.254:80',
  '169.254.169.254:443',
  '[::ffff:169.254.169.254]',
  '[::ffff:a9fe:a9fe]',
  '[0:0:0:0:0:FFFF:A9FE:A9FE]',
  '[0000:0000:0000:0000:0000:ffff:a9fe:a9fe]',
  '[::169.254.169.254]',
  '[::a9fe:a9fe]',
  '[::ffff:0:169.254.169.254]',
  '[64:ff9b::169.254.169.254]',
  '[64:ff9b::a9fe:a9fe]',
  '[64:ff9b:1::a9fe:a9fe]',
  '[2002:a9fe:a9fe::1]',
  '[fe80::5efe:169.254.169.254]',
  '[2001:db8::5efe:a9fe:a9fe]',
  '[2001:0:a9fe:a9fe::1]',
  '[fd00:ec2::254]',
  '[fd20:ce::254]',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '169.254.0.1',
  '169.254.170.2',
  '[fe80::1]',
  '[fe80::a9fe:a9fe]',
  '[febf::1]',
  '[fec0::1]',
  '0.0.0.0',
  '0',
  '0x0',
  '00',
  '0.0.0.1',
  '[::]',
  '[::ffff:0.0.0.0]',
  '[::ffff:0:0]',
  '224.0.0.1',
  '239.255.255.250',
  '255.255.255.255',
  '240.0.0.1',
  '[ff02::1]',
].map((host) => `http://${host}/latest/meta-data`);
const splitUrls = [
  'http://169.254.\t169.254/',
  'http://169.254.169.254\\@example.com/',
  'http:\\\\169.254.169.254\\',
  'http:169.254.169.254',
  'HTTP://169.254.169.254',
  'https:///169.254.169.254/',
  ' http://169.254.169.254 ',
];
const notHttp = [
  'file:///etc/passwd',
  'unix:/var/run/docker.sock',
  'unix:///var/run/docker.sock',
  'http+unix://%2Fvar%2Frun%2Fdocker.sock/',
  'gopher://127.0.0.1:70/',
  'ftp://127.0.0.1/',
  'ws://127.0.0.1/',
  'javascript:alert(1)',
  'data:text/html,x',
  '//127.0.0.1/',
  '/etc/passwd',
  'http://user:secret@127.0.0.1/',
  'http://127.0.0.1:0/',
  'http://127.0.0.1:99999/',
  'http://[fe80::1%25eth0]/',
  'http://[fe80::1%eth0]/',
  '',
];
const own = (port: number) =>
  [
    '127.0.0.1',
    '127.1',
    '127.0.1',
    '2130706433',
    '0x7f000001',
    '017700000001',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '127.0.0.2',
    '127.255.255.254',
    '１２７.0.0.1',
    '127。0。0。1',
    'localhost',
    'LOCALHOST',
    'localhost.',
    'sub.localhost',
    'a.b.LocalHost.',
    '[::1]',
    '[0:0:0:0:0:0:0:1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::ffff:0:127.0.0.1]',
    '[64:ff9b::127.0.0.1]',
    '[2002:7f00:1::]',
    '0.0.0.0',
    '[::]',
  ].map((host) => `http://${host}:${port}/`);

test('incident 12: no operation takes a forbidden target, in any spelling', async () => {
  const urls = [
    ...metadata,
    ...splitUrls,
    ...notHttp,
    ...own(product.httpPort),
    ...own(product.httpsPort),
    `https://localhost:${product.httpsPort}`,
  ];
  const accepted: string[] = [];
  for (const target_url of urls) {
    const answers = {
      create_proxy: await product.api('POST', '/v1/proxies', { hostname: 'evil.example.com', target_url }),
      update_proxy: await product.api('PATCH', `/v1/proxies/${FREE}`, { target_url }),
      create_balanced: await product.api('POST', '/v1/proxies', {
        hostname: 'evil.example.com',
        target_url: upstream.url,
        load_balancing: { targets: [{ url: target_url }] },
      }),
      update_balanced: await product.api('PATCH', `/v1/proxies/${FREE}`, {
        load_balancing: { targets: [{ url: target_url }] },
      }),
      create_route: await product.api('POST', '/v1/routes', { hostname: FREE, path: '/evil', target_url }),
      create_global_route: await product.api('POST', '/v1/routes', {
        hostname: null,
        path: '/evil',
        target_url,
      }),
      update_route: await product.api('PATCH', `/v1/routes/${routeId}`, { target_url }),
    };
    for (const [operation, { status, body }] of Object.entries(answers))
      if (
        status !== 400 ||
        body.error.code !== 'INVALID_INPUT' ||
        !/target_url|targets/.test(body.error.message)
      )
        accepted.push(`${operation} ${target_url}: ${status} ${JSON.stringify(body).slice(0, 200)}`);
  }
  assert.equal(accepted.join('\n'), '');
  const { body } = await product.api('GET', '/v1/proxies');
  assert.deepEqual(
    body.proxies.map(({ hostname, target_url }: { hostname: string; target_url: string }) => [
      hostname,
      target_url,
    ]),
    [[FREE, upstream.url]],
  );
  const routes = await product.api('GET', '/v1/routes');
  assert.deepEqual(
    routes.body.routes.map(({ target_url }: { target_url: string }) => target_url),
    [upstream.url],
  );
});

test('incident 12: MCP refuses the same target with the reason', async () => {
  const reply = await postMcp(product, {
    token: product.adminToken,
    body: {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: 'create_proxy',
        arguments: { hostname: 'evil.example.com', target_url: 'http://[::ffff:a9fe:a9fe]/' },
      },
    },
  });
  assert.equal(reply.json.result.isError, true, reply.text);
  assert.match(reply.text, /metadata service/);
});

test('incident 12: loopback and private networks are targets, because that is where upstreams live', async () => {
  const hosts = [
    '127.0.0.1:3000',
    'localhost:3000',
    '[::1]:3000',
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '[fd12:3456::1]',
    'db.internal',
  ];
  for (const [i, host] of hosts.entries()) {
    const made = await product.api('POST', '/v1/proxies', {
      hostname: `private-${i}.example.com`,
      target_url: `http://${host}`,
    });
    assert.equal(made.status, 201, `${host}: ${JSON.stringify(made.body)}`);
  }
});

type Way = [way: string, bytes: (hostname: string) => string];
const ways: Way[] = [
  ['the pool', (host) => `GET /healthz HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`],
  [
    'Expect',
    (host) =>
      `PUT /healthz HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx`,
  ],
  [
    'an upgrade',
    (host) =>
      `GET /healthz HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
  ],
];

async function ask(hostname: string, [, bytes]: Way, of: Product = product): Promise<WireReply | undefined> {
  using wire = await wireHttp(of);
  return await wire.write(bytes(hostname)).reply();
}

const reasonOf = (hostname: string, of: Product = product) =>
  eventually(async () => {
    const { body } = await of.api('GET', `/v1/logs?kind=access&verbose=true&lines=1000&hostname=${hostname}`);
    const reasons = body.records.map(({ detail }: { detail?: { reason?: string } }) => detail?.reason ?? '');
    return reasons.length >= ways.length ? (reasons as string[]) : undefined;
  }, `records of ${hostname}`);

test('incident 12: a name that resolves to a forbidden address is refused when it is connected to, by every way of forwarding', async () => {
  const { httpPort } = product;
  const targets: [target: string, reason: RegExp][] = [
    ['http://metadata.example.net', /metadata service/],
    ['http://metadata.google.internal', /metadata service/],
    ['http://mapped.example.net', /metadata service/],
    ['http://linklocal.example.net', /link-local/],
    ['http://mixed.example.net', /metadata service/],
    ['http://zero.example.net', /unspecified/],
    [`http://own.example.net:${httpPort}`, /served by this system itself/],
    [`http://own-mapped.example.net:${httpPort}`, /served by this system itself/],
    [`http://own-other.example.net:${httpPort}`, /served by this system itself/],
    [`http://own-six.example.net:${httpPort}`, /served by this system itself/],
    [`https://own.example.net:${product.httpsPort}`, /served by this system itself/],
  ];
  for (const [i, [target, reason]] of targets.entries()) {
    const hostname = `resolved-${i}.example.com`;
    await make(hostname, target);
    for (const way of ways) {
      const reply = await ask(hostname, way);
      assert.equal(reply?.status, 502, `${target} by ${way[0]}`);
      assert.doesNotMatch(
        reply?.body ?? '',
        /169\.254|127\.0\.0/,
        'the reply does not tell what a name resolves to',
      );
    }
    for (const told of await reasonOf(hostname)) assert.match(told, reason, target);
  }
});

test('incident 12: the address that was judged is the one that is connected to: the DNS is asked once for each connection', async () => {
  await make('flip.example.com', `http://flip.example.net:${upstream.port}`);
  const way: Way = ['the pool', (host) => `GET /flip HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`];
  const statuses: unknown[] = [];
  for (let i = 0; i < 4; i++) statuses.push((await ask('flip.example.com', way))?.status);
  assert.deepEqual(statuses, [200, 502, 200, 502]);
});

test('incident 12: a redirect of the upstream is given to the client and followed by nobody', async () => {
  await using other = await startUpstream();
  const before = upstream.requests.length;
  redirects = [
    'http://169.254.169.254/',
    `http://localhost:${product.httpPort}/healthz`,
    `${other.url}/`,
    'file:///etc/passwd',
    '//169.254.169.254/',
  ];
  for (const [i, to] of redirects.entries()) {
    const answer = await product.get(FREE, `/to/${i}`);
    assert.deepEqual([answer.status, answer.headers.location], [302, to]);
  }
  assert.equal(other.requests.length, 0);
  assert.equal(upstream.requests.length, before + redirects.length);
});

test('incident 12: a request can not choose the target: no header, absolute URI or CONNECT leads elsewhere', async () => {
  await using other = await startUpstream();
  const to = other.url;
  const heads = [
    `GET ${to}/ HTTP/1.1\r\nHost: ${FREE}`,
    `GET ${to}/ HTTP/1.1\r\nHost: 127.0.0.1:${other.port}`,
    `CONNECT 127.0.0.1:${other.port} HTTP/1.1\r\nHost: 127.0.0.1:${other.port}`,
    `CONNECT ${FREE}:${other.port} HTTP/1.1\r\nHost: ${FREE}:${other.port}`,
    `GET @127.0.0.1:${other.port}/ HTTP/1.1\r\nHost: ${FREE}`,
    `GET //127.0.0.1:${other.port}/ HTTP/1.1\r\nHost: ${FREE}`,
    `GET /x HTTP/1.1\r\nHost: ${FREE}:${other.port}`,
    ...[
      'X-Forwarded-Host',
      'X-Host',
      'X-Original-URL',
      'X-Rewrite-URL',
      'X-Original-Host',
      'X-HTTP-Host-Override',
      'Forwarded',
      'X-Forwarded-Server',
      'Proxy',
      'X-Backend-Url',
      'X-Target',
    ].map(
      (name) =>
        `GET /x HTTP/1.1\r\nHost: ${FREE}\r\n${name}: ${name === 'Forwarded' ? `host=127.0.0.1:${other.port}` : to}`,
    ),
  ];
  for (const head of heads) {
    using wire = await wireHttp(product);
    wire.write(`${head}\r\nConnection: close\r\n\r\n`);
    await wire.replies();
  }
  assert.equal(other.requests.length, 0);
});

test('incident 12: a target that was written when its port was free is refused once the port is this system’s own', async () => {
  const port = await freePort();
  const hosts = ['localhost', '127.0.0.1', '0x7f.1', '[::ffff:127.0.0.1]', 'ssrf-free.example.net'];
  const first = product;
  for (const [i, host] of hosts.entries()) await make(`later-${i}.example.com`, `http://${host}:${port}`);
  assert.equal(await first.stop(), 0);
  product = await startProduct({ dataDir: first.dataDir, env: { ...env, OHP_HTTP_PORT: String(port) } });
  for (const [i, host] of hosts.entries())
    for (const way of ways) {
      const reply = await ask(`later-${i}.example.com`, way);
      assert.equal(reply?.status, 502, `${host} by ${way[0]}: ${reply?.status} ${reply?.body}`);
    }
  for (const told of await reasonOf('later-0.example.com'))
    assert.match(told, /served by this system itself/);
});
