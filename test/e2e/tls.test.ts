/** TLS of the running product, by clients that others made: what is spoken, what is resumed, what a new certificate does. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';
import { makeCa, makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import { CIPHERS } from '../../src/core/tls-policy.ts';
import { configFile, generous } from '../support/callers.ts';
import { closed, isInstalled } from '../support/program.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const HOST = 'app.example.com';
const run = promisify(execFile);
const withoutSslscan = isInstalled('sslscan') ? false : 'sslscan is not installed';

let product: Product;
let upstream: Upstream;
const sockets = new WebSocketServer({ noServer: true });

before(async () => {
  upstream = await startUpstream((asked, response) => {
    if (asked.url !== '/events') return void response.end('reached');
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: 0\n\n');
    let sent = 0;
    tick.add(() => response.write(`data: ${++sent}\n\n`));
  });
  upstream.server.on('upgrade', (asked, socket, head) =>
    sockets.handleUpgrade(asked, socket, head, (client) =>
      client.on('message', (data: Buffer) => client.send(data.toString())),
    ),
  );
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url });
});

after(async () => {
  for (const client of sockets.clients) client.terminate();
  sockets.close();
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

/** Has the upstream send one more event on every open stream. */
const tick = new Set<() => void>();

async function handshake(options: object = {}): Promise<TLSSocket> {
  const socket = connect({
    port: product.httpsPort,
    host: '127.0.0.1',
    servername: HOST,
    rejectUnauthorized: false,
    ...options,
  });
  await once(socket, 'secureConnect');
  return socket;
}

const failure = (options: object): Promise<string> =>
  handshake(options).then(
    () => 'none',
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  );

test('sslscan finds TLS 1.2 and 1.3 with the ciphers of the policy, and nothing that is weak', {
  skip: withoutSslscan,
}, async () => {
  const args = [
    '--no-colour',
    '--xml=-',
    '--connect-timeout=5',
    `--sni-name=${HOST}`,
    `127.0.0.1:${product.httpsPort}`,
  ];
  const { stdout } = await run('sslscan', args);
  const elements = (name: string) =>
    [...stdout.matchAll(new RegExp(`<${name} ([^>]*?)/?>`, 'g'))].map(([, fields = '']) =>
      Object.fromEntries([...fields.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value])),
    );
  const enabled = elements('protocol').filter((one) => one['enabled'] === '1');
  assert.deepEqual(
    enabled.map((one) => `${one['type']} ${one['version']}`),
    ['tls 1.2', 'tls 1.3'],
  );
  const ciphers = new Set(elements('cipher').map((one) => one['cipher']));
  assert.ok(ciphers.size > 0, stdout);
  assert.deepEqual(
    [...ciphers].filter((cipher) => !CIPHERS.includes(String(cipher))),
    [],
  );
  assert.deepEqual(
    elements('cipher')
      .filter((one) => Number(one['bits']) < 128 || one['strength'] !== 'strong')
      .map((one) => `${one['cipher']} ${one['strength']}`)
      .filter((one) => !one.endsWith(' acceptable')),
    [],
  );
  assert.equal(elements('renegotiation')[0]?.['supported'], '0');
  assert.deepEqual(
    elements('compression').filter((one) => one['supported'] !== '0'),
    [],
  );
  assert.deepEqual(
    elements('heartbleed').filter((one) => one['vulnerable'] !== '0'),
    [],
  );
});

test('a hybrid group is taken, and groups, signatures, ciphers and versions outside of the policy are refused', async () => {
  for (const ecdhCurve of ['X25519MLKEM768', 'X25519', 'P-256', 'P-384'])
    assert.equal(await failure({ ecdhCurve }), 'none', ecdhCurve);
  const tls12 = { maxVersion: 'TLSv1.2' };
  for (const options of [
    { ecdhCurve: 'P-521' },
    { ecdhCurve: 'ffdhe2048', minVersion: 'TLSv1.3' },
    { ...tls12, sigalgs: 'ECDSA+SHA1', ciphers: 'DEFAULT@SECLEVEL=0' },
    { ...tls12, ciphers: 'AES128-GCM-SHA256' },
    { ...tls12, ciphers: 'ECDHE-ECDSA-AES128-SHA256' },
    { ...tls12, ciphers: 'DHE-RSA-AES128-GCM-SHA256' },
    { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' },
  ])
    assert.notEqual(await failure(options), 'none', JSON.stringify(options));
});

test('a client can not renegotiate', async () => {
  const socket = await handshake({ maxVersion: 'TLSv1.2' });
  const refused = new Promise<boolean>((resolve) => {
    socket.once('error', () => resolve(true));
    socket.once('close', () => resolve(true));
    socket.renegotiate({ rejectUnauthorized: false }, (error) => resolve(error !== null));
  });
  assert.equal(await refused, true);
  socket.destroy();
});

async function sessionOf(version: string, port = product.httpsPort): Promise<Buffer> {
  const socket = await handshake({ minVersion: version, maxVersion: version, port });
  let session = socket.getSession();
  socket.on('session', (fresh: Buffer) => (session = Buffer.from(fresh)));
  socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`);
  await text(socket);
  assert.ok(session);
  return session;
}

test('sessions are resumed, also after a restart, by the keys in the store', async () => {
  const sessions = new Map<string, Buffer>();
  for (const version of ['TLSv1.2', 'TLSv1.3']) sessions.set(version, await sessionOf(version));
  const resumed = async () => {
    const found: string[] = [];
    for (const [version, session] of sessions) {
      const socket = await handshake({ minVersion: version, maxVersion: version, session });
      if (socket.isSessionReused()) found.push(version);
      socket.destroy();
    }
    return found;
  };
  assert.deepEqual(await resumed(), ['TLSv1.2', 'TLSv1.3']);
  await product.kill();
  product = await product.restart();
  assert.deepEqual(await resumed(), ['TLSv1.2', 'TLSv1.3'], 'after a restart');
});

test('a ticket that is not known makes a full handshake', async () => {
  const stranger = makeLeaf([HOST]);
  const other = createServer({ key: stranger.keyPem, cert: stranger.certificatePem }, (socket) =>
    socket.resume().end('x'),
  );
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const only = { minVersion: version, maxVersion: version };
    const socket = await handshake({ ...only, session: await sessionOf(version, port) });
    assert.equal(socket.isSessionReused(), false, version);
    socket.destroy();
    (await handshake(only)).destroy();
  }
  await closed(other);
});

test('a new certificate drops no connection of any kind, and the next handshake gets it', async () => {
  const ca = makeCa('/CN=swap CA');
  const fingerprintNow = async (options: object = {}) => {
    const socket = await handshake(options);
    const { fingerprint256 } = socket.getPeerCertificate();
    const isReused = socket.isSessionReused();
    socket.destroy();
    return { fingerprint256, isReused };
  };
  const before = await fingerprintNow();
  const session = await sessionOf('TLSv1.3');
  const authority = `${HOST}:${product.httpsPort}`;
  const raw = { host: '127.0.0.1', port: product.httpsPort, servername: HOST, rejectUnauthorized: false };
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ...raw });
  const used = new Set<unknown>();
  const http1 = async () => {
    const asked = request({ ...raw, agent, headers: { host: authority } });
    asked.once('socket', (socket) => used.add(socket)).end();
    const [response] = await once(asked, 'response');
    await text(response);
    return response.statusCode;
  };
  const http2 = connectHttp2(`https://${authority}`, {
    createConnection: () => connect({ ...raw, ALPNProtocols: ['h2'] }),
  });
  let hasEnded = false;
  http2.once('close', () => (hasEnded = true)).once('goaway', () => (hasEnded = true));
  const overHttp2 = async () => {
    const stream = http2.request({ ':path': '/', ':authority': authority });
    const [headers] = await once(stream, 'response');
    await text(stream);
    return headers[':status'];
  };
  const socket = new WebSocket(`wss://${authority}/`, {
    createConnection: () => connect({ ...raw, ALPNProtocols: ['http/1.1'] }),
    headers: { host: authority },
  } as object);
  await once(socket, 'open');
  const echoed = async (message: string) => {
    socket.send(message);
    const [data] = await once(socket, 'message');
    return String(data) === message;
  };
  const events = request({ ...raw, path: '/events', agent: false, headers: { host: authority } }).end();
  const [stream] = await once(events, 'response');
  await once(stream, 'data');
  const nextEvent = async () => {
    const came = once(stream, 'data');
    for (const send of tick) send();
    return String((await came)[0]);
  };

  let isSwapping = true;
  const statuses: unknown[] = [];
  const load = (async () => {
    while (isSwapping) statuses.push(...(await Promise.all([http1(), overHttp2(), overHttp2()])));
  })();
  const fingerprints = new Set<string>();
  for (const days of [30, 60, 90]) {
    const leaf = makeLeaf([HOST], ca, { days });
    const imported = await product.api('POST', '/v1/certificates', {
      certificate_pem: leaf.certificatePem,
      private_key_pem: leaf.keyPem,
    });
    assert.equal(imported.status, 201, JSON.stringify(imported.body));
    const { fingerprint256 } = await fingerprintNow();
    assert.equal(fingerprint256, imported.body.fingerprint_sha256);
    fingerprints.add(fingerprint256);
    assert.ok(await echoed(`with ${days} days`));
    assert.match(await nextEvent(), /^data: \d+/);
  }
  isSwapping = false;
  await load;
  assert.equal(fingerprints.size, 3);
  assert.ok(!fingerprints.has(before.fingerprint256));
  assert.deepEqual(
    statuses.filter((status) => status !== 200),
    [],
  );
  assert.ok(statuses.length > 10, `${statuses.length} requests`);
  assert.equal(used.size, 1, 'the HTTP/1.1 connection stayed');
  assert.equal(hasEnded, false);
  assert.equal(
    (await fingerprintNow({ session, minVersion: 'TLSv1.3' })).isReused,
    true,
    'a session from before is resumed',
  );
  socket.terminate();
  events.destroy();
  http2.destroy();
  agent.destroy();
});
