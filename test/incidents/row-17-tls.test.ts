/**
 * TLS fails closed: a request counts only for the host its connection was made for; what can't be read (a key, a
 * policy) is refused and nothing else takes its place; an upstream that can't be verified gets no request.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import BetterSqlite3 from 'better-sqlite3';
import { makeCa, makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import { configFile, generous } from '../support/callers.ts';
import { connectFrames, frame, headers as h2Headers } from '../support/h2-frames.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { wireHttps } from '../support/wire.ts';

const OPEN = 'open.example.com';
const CLOSED = 'closed.example.com';
const KEYED = 'keyed.example.com';
const token = { kind: 'token', permission: 'proxies:read' };

let product: Product;
let upstream: Upstream;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  await make({ hostname: OPEN });
  await make({ hostname: CLOSED, auth: token });
  await make({ hostname: KEYED });
  await make({ hostname: '*.wild.example.com' });
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

async function make(settings: object): Promise<void> {
  const made = await product.api('POST', '/v1/proxies', { target_url: upstream.url, ...settings });
  assert.equal(made.status, 201, JSON.stringify(made.body));
}

/** Whether a handshake comes to its end with whatever certificate: one for another name would do for an attacker. */
async function isServed(servername: string): Promise<boolean> {
  const socket = connect({
    port: product.httpsPort,
    host: '127.0.0.1',
    servername,
    rejectUnauthorized: false,
  });
  try {
    await once(socket, 'secureConnect');
    return true;
  } catch {
    return false; // The other side ended the handshake.
  } finally {
    socket.destroy();
  }
}

test('incident 17: a request for another host than the TLS connection was made for gets 421 and no upstream', async () => {
  const before = upstream.requests.length;
  const pairs: [servername: string | undefined, host: string][] = [
    [OPEN, CLOSED],
    [CLOSED, OPEN],
    [OPEN, 'localhost'],
    [OPEN, '127.0.0.1'],
    [OPEN, '[::1]'],
    [OPEN, `${CLOSED}.`],
    [OPEN, CLOSED.toUpperCase()],
    [OPEN, `${CLOSED}:443`],
    ['localhost', OPEN],
    ['a.wild.example.com', 'b.wild.example.com'],
    [undefined, OPEN],
    [undefined, 'localhost'],
    [undefined, CLOSED],
  ];
  const credential = `Authorization: Bearer ${product.adminToken}`;
  for (const [servername, host] of pairs)
    for (const path of ['/', '/mcp', '/v1/proxies', '/healthz', '/.well-known/oauth-protected-resource']) {
      using wire = await wireHttps(product, servername);
      wire.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${credential}\r\nConnection: close\r\n\r\n`);
      const [reply] = await wire.replies();
      // Who is alive and ready is no secret, and probes come without a name.
      const isProbe = path === '/healthz' && reply?.status === 200 && /^(?:localhost|127|\[)/.test(host);
      assert.ok(reply?.status === 421 || isProbe, `${servername} → ${host}${path}: ${reply?.status}`);
    }
  assert.equal(upstream.requests.length, before);
});

test('incident 17: over HTTP/2 every request of a connection is held to its server name', async () => {
  const before = upstream.requests.length;
  using client = await connectFrames(product, OPEN);
  const head = (authority: string) =>
    [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':authority', authority],
      [':path', '/coalesced'],
    ] as const;
  const statusOf = async (stream: number, authority: string) => {
    client.write(h2Headers(stream, head(authority)));
    const found = await client.until((one) => one.stream === stream && one.type === frame.HEADERS);
    return found?.payload[0];
  };
  // RFC 7541 §6.1: 0x88 is the indexed field `:status: 200`; other statuses are spelled out.
  assert.equal(await statusOf(1, OPEN), 0x88);
  assert.notEqual(await statusOf(3, CLOSED), 0x88);
  assert.notEqual(await statusOf(5, 'localhost'), 0x88);
  assert.equal(await statusOf(7, OPEN), 0x88);
  assert.equal(upstream.requests.length, before + 2);
});

test('incident 17: a server name that is not served gets no certificate and no connection', async () => {
  for (const name of ['unknown.example.com', 'a.b.wild.example.com', 'wild.example.com', 'xn--.example.com'])
    assert.equal(await isServed(name), false, name);
  assert.equal(await isServed('a.wild.example.com'), true);
  const disabled = await product.api('PATCH', `/v1/proxies/${OPEN}`, { enabled: false });
  assert.equal(disabled.status, 200);
  assert.equal(await isServed(OPEN), false);
  await product.api('PATCH', `/v1/proxies/${OPEN}`, { enabled: true });
  assert.equal(await isServed(OPEN), true);
});

test('incident 17: versions of TLS before 1.2 are refused', async () => {
  for (const version of ['TLSv1', 'TLSv1.1'] as const) {
    const socket = connect({
      port: product.httpsPort,
      host: '127.0.0.1',
      servername: OPEN,
      ca: product.ca,
      minVersion: version,
      maxVersion: version,
      ciphers: 'ALL:@SECLEVEL=0',
    });
    const [event] = await Promise.race([
      once(socket, 'secureConnect').then(() => ['connected']),
      once(socket, 'error').then(
        () => ['refused'],
        () => ['refused'],
      ),
    ]).catch(() => ['refused']);
    socket.destroy();
    assert.equal(event, 'refused', version);
  }
});

test('incident 17: an upstream that can not be verified gets no request; only the explicit switch changes that', async () => {
  const ca = makeCa('/CN=other CA');
  const leaf = makeLeaf(['localhost'], ca);
  const elsewhere = makeLeaf(['other.example.com'], ca);
  let requests = 0;
  const servers = [leaf, elsewhere].map(({ certificatePem, keyPem }) =>
    createServer({ cert: certificatePem, key: keyPem }, (_request, response) => {
      requests++;
      response.end('reached');
    }).listen(0, '127.0.0.1'),
  );
  after(() => servers.forEach((server) => server.close()));
  const [trusted = 0, misnamed = 0] = await Promise.all(
    servers.map(async (server) => {
      if (!server.listening) await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    }),
  );
  const otherCa = makeCa('/CN=third CA').certificatePem;
  const cases: [settings: object, status: number][] = [
    [{ target_url: `https://localhost:${trusted}` }, 502],
    [{ target_url: `https://localhost:${trusted}`, upstream_ca_pem: otherCa }, 502],
    [{ target_url: `https://127.0.0.1:${trusted}`, upstream_ca_pem: ca.certificatePem }, 502],
    [{ target_url: `https://localhost:${misnamed}`, upstream_ca_pem: ca.certificatePem }, 502],
    [{ target_url: `http://localhost:${trusted}` }, 502],
    [{ target_url: `https://localhost:${trusted}`, upstream_ca_pem: ca.certificatePem }, 200],
    [{ target_url: `https://localhost:${misnamed}`, verify_upstream_tls: false }, 200],
    [{ target_url: `https://localhost:${misnamed}`, upstream_ca_pem: ca.certificatePem }, 502],
  ];
  let expected = 0;
  for (const [i, [settings, status]] of cases.entries()) {
    await make({ hostname: `upstream-${i}.example.com`, ...settings });
    const answer = await product.get(`upstream-${i}.example.com`, '/');
    if (status === 200) expected++;
    assert.ok(
      answer.status === status || (status === 502 && answer.status === 400),
      `${JSON.stringify(settings).slice(0, 120)}: ${answer.status}`,
    );
    assert.equal(requests, expected, JSON.stringify(settings).slice(0, 120));
  }
  for (const upstream_ca_pem of [
    '',
    'nonsense',
    '/etc/ssl/ca.pem',
    leaf.keyPem,
    '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----',
  ]) {
    const refused = await product.api('PATCH', '/v1/proxies/upstream-5.example.com', { upstream_ca_pem });
    assert.equal(refused.status, 400, upstream_ca_pem);
  }
});

test('incident 17: a key or a policy that can not be read closes its own hostname and no other', async () => {
  const leaf = makeLeaf([KEYED]);
  const imported = await product.api('POST', '/v1/certificates', {
    certificate_pem: leaf.certificatePem,
    private_key_pem: leaf.keyPem,
  });
  assert.equal(imported.status, 201);
  await make({ hostname: 'broken.wild.example.com', auth: token });
  await make({ hostname: 'kind.example.com', auth: token });
  await make({ hostname: 'routed.example.com' });
  const route = await product.api('POST', '/v1/routes', {
    hostname: 'routed.example.com',
    path: '/secret',
    target_url: upstream.url,
    auth: token,
  });
  assert.equal(route.status, 201);
  assert.equal(await product.stop(), 0);
  const db = new BetterSqlite3(join(product.dataDir, 'state.sqlite'));
  db.prepare(
    "update certificates set key_sealed = substr(key_sealed, 1, length(key_sealed) - 6) || 'AAAAAA' where id = ?",
  ).run(imported.body.id);
  db.prepare(
    'update proxies set document = replace(document, \'"kind":"token"\', \'"kind":"tokem"\') where hostname in (\'broken.wild.example.com\', \'kind.example.com\')',
  ).run();
  db.prepare(
    'update routes set document = replace(document, \'"kind":"token"\', \'"kind":"noone"\') where id = ?',
  ).run(route.body.id);
  db.close();
  product = await product.restart();
  const before = upstream.requests.length;
  assert.equal(
    await isServed(KEYED),
    false,
    'no other certificate takes the place of the one whose key does not open',
  );
  assert.equal(await isServed('kind.example.com'), false);
  assert.equal(await isServed('broken.wild.example.com'), false, 'nor does the wildcard above it');
  const secret = await product.get('routed.example.com', '/secret').catch(() => ({ status: 0 }));
  assert.notEqual(
    secret.status,
    200,
    'a route whose policy can not be read does not fall back to the open proxy',
  );
  assert.equal(upstream.requests.length, before);
  assert.equal((await product.get(OPEN, '/')).status, 200);
});
