/**
 * Client certificates fail closed: whoever shows none that counts reaches no target, by whatever name, protocol,
 * version or resumed session; what can't be read closes its host; what changes counts at once.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import BetterSqlite3 from 'better-sqlite3';
import { configFile, generous } from '../support/callers.ts';
import { type ClientCa, ClientPki, type Issued } from '../support/client-pki.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { closed } from '../support/program.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const OPEN = 'open.example.com';
const CLOSED = 'closed.example.com';
const OPTIONAL = 'optional.example.com';
const LISTED = 'listed.example.com';
const PAST = '20200101000000Z';
const LONG_PAST = '20190101000000Z';

const pki = new ClientPki();
let product: Product;
let upstream: Upstream;
let root: ClientCa;
let intermediate: ClientCa;
let other: ClientCa;
let alice: Issued;
let mallory: Issued;

before(async () => {
  root = pki.root('Client Root');
  intermediate = pki.below(root, 'Client Issuing');
  other = pki.root('Other Root');
  alice = root.issue('alice', { names: 'email:alice@example.com' });
  mallory = other.issue('mallory');
  upstream = await startUpstream((request, response) => {
    if (request.url !== '/events') return void response.end('reached');
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: 1\n\n');
  });
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  await make({ hostname: OPEN });
  await make({ hostname: CLOSED, client_auth: { mode: 'require', ca_pem: root.pem, pass_identity: true } });
  await make({
    hostname: OPTIONAL,
    client_auth: { mode: 'optional', ca_pem: root.pem, pass_identity: true },
  });
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  pki[Symbol.dispose]();
});

async function make(settings: object): Promise<void> {
  const made = await product.api('POST', '/v1/proxies', { target_url: upstream.url, ...settings });
  assert.equal(made.status, 201, JSON.stringify(made.body));
}

const change = (hostname: string, client_auth: object) =>
  product.api('PATCH', `/v1/proxies/${hostname}`, { client_auth });

const run = promisify(execFile);

interface Curl {
  shows?: Issued;
  args?: readonly string[];
  path?: string;
  port?: number;
}

/** What curl gets: a status, 0 where there is no reply. */
async function curl(hostname: string, { shows, args = [], path = '/', port = product.httpsPort }: Curl = {}) {
  const shown = shows ? ['--cert', shows.certFile, '--key', shows.keyFile] : [];
  const name = ['--cacert', join(product.dataDir, 'ca.pem'), '--resolve', `${hostname}:${port}:127.0.0.1`];
  const all = [
    '-s',
    '-m',
    '20',
    '-w',
    '\n%{http_code}',
    ...name,
    ...shown,
    ...args,
    `https://${hostname}:${port}${path}`,
  ];
  const { stdout } = await run('curl', all).catch((failed: { stdout: string }) => failed);
  const lines = stdout.split('\n');
  return { status: Number(lines.pop()), body: lines.join('\n') };
}

/** Of the record of a refused request, whose page names its trace id. */
async function detailOf(page: string): Promise<unknown> {
  const [, trace = ''] = /Trace id: ([0-9a-f]{32})/.exec(page) ?? [];
  return eventually(async () => {
    const { body } = await product.api('GET', `/v1/logs?kind=access&verbose=true&trace_id=${trace}`);
    return body.records[0]?.detail?.reason;
  }, `the record of ${page}`);
}

function tls(servername: string, options: object = {}): Promise<TLSSocket> {
  const socket = connect({
    port: product.httpsPort,
    host: '127.0.0.1',
    servername,
    ca: product.ca,
    ...options,
  });
  socket.on('error', () => {});
  return new Promise((resolve, reject) => {
    socket.once('secureConnect', () => resolve(socket));
    socket.once('close', () => reject(new Error('no handshake')));
  });
}

/** One reply of a connection, up to the end of its head. */
async function replyOn(socket: Socket, host: string, path = '/', more = ''): Promise<string> {
  let text = '';
  const got = new Promise<void>((resolve) => {
    const read = (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (text.includes('\r\n\r\n')) resolve();
    };
    socket.on('data', read).once('close', () => resolve());
  });
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`);
  await got;
  return text;
}

const statusOf = (reply: string): number => Number(reply.slice(9, 12));
const shown = ({ pem, key }: Issued) => ({ cert: pem, key });

test('incident 17: only a certificate of the CA, for clients, valid and not revoked reaches the target', async () => {
  const deep = intermediate.issue('deep');
  writeFileSync(deep.certFile, deep.pem + intermediate.pem);
  const lonely = intermediate.issue('lonely');
  const expired = root.issue('expired', { from: LONG_PAST, until: PAST });
  const early = root.issue('early', { from: '20450101000000Z', until: '20460101000000Z' });
  const server = root.issue('server', { usage: 'serverAuth' });
  const cases: [what: string, shows: Issued | undefined, reply: RegExp | undefined][] = [
    ['alice', alice, undefined],
    ['one below an intermediate, with it', deep, undefined],
    ['one below an intermediate, alone', lonely, /no CA that is trusted here, or an intermediate is missing/],
    ['nothing', undefined, /needs a client certificate, and none was shown/],
    ['one of another CA', mallory, /no CA that is trusted here/],
    ['an expired one', expired, /it expired at 2020-01-01/],
    ['one of the future', early, /not valid yet/],
    ['one of a server', server, /not for TLS clients/],
  ];
  for (const version of ['1.2', '1.3'])
    for (const [what, shows, reply] of cases) {
      const before = upstream.requests.length;
      const args = ['--tls-max', version, ...(version === '1.3' ? ['--tlsv1.3'] : ['--http1.1'])];
      const { status, body } = await curl(CLOSED, { ...(shows && { shows }), args });
      assert.equal(status, reply ? 403 : 200, `${what}, TLS ${version}: ${body}`);
      assert.match(body, reply ?? /reached/, what);
      assert.equal(upstream.requests.length, before + (reply ? 0 : 1), what);
    }
  for (const [what, shows, status] of [
    ['nothing', undefined, 200],
    ['alice', alice, 200],
    ['another CA', mallory, 403],
    ['expired', expired, 403],
  ] as const)
    assert.equal((await curl(OPTIONAL, shows ? { shows } : {})).status, status, `optional, ${what}`);
  assert.equal((await curl(OPEN, { shows: mallory })).status, 200, 'a host that does not ask is not told');
  const { body } = await curl(CLOSED);
  assert.match(String(await detailOf(body)), /none was shown/);
  const { body: logs } = await product.api('GET', `/v1/logs?hostname=${CLOSED}&lines=200`);
  for (const reason of [/it expired at/, /no CA that is trusted/]) assert.match(JSON.stringify(logs), reason);
});

test('incident 17: every path, protocol and kind of request of the host is under it', async () => {
  const before = upstream.requests.length;
  const credential = ['-H', `Authorization: Bearer ${product.adminToken}`];
  for (const path of ['/', '/mcp', '/.well-known/oauth-protected-resource', '/.ohp/sign-out', '/v1/proxies'])
    for (const protocol of ['--http1.1', '--http2'])
      assert.equal(
        (await curl(CLOSED, { path, args: [protocol, ...credential] })).status,
        403,
        `${path} ${protocol}`,
      );
  const websocket =
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
  const socket = await tls(CLOSED);
  assert.equal(statusOf(await replyOn(socket, CLOSED, '/', websocket)), 403);
  for (const { method, headers, status } of [
    { method: 'GET', headers: {}, status: 308 },
    { method: 'POST', headers: {}, status: 308 },
    { method: 'GET', headers: { 'x-forwarded-proto': 'https' }, status: 308 },
  ]) {
    const answer = await plain(CLOSED, '/', method, headers);
    assert.equal(answer, status, `${method} in the clear`);
  }
  assert.equal(await plain(CLOSED, '/mcp', 'POST', {}), 403);
  await product.api('PATCH', `/v1/proxies/${CLOSED}`, { redirect_to_https: false });
  assert.equal(await plain(CLOSED, '/', 'POST', {}), 403);
  assert.equal(await plain(CLOSED, '/', 'GET', {}), 308);
  await product.api('PATCH', `/v1/proxies/${CLOSED}`, { redirect_to_https: true });
  assert.equal(upstream.requests.length, before);
  assert.equal(
    (await curl(CLOSED, { path: '/.well-known/acme-challenge/none', args: ['--http1.1'] })).status,
    404,
  );
  assert.equal(await plain(CLOSED, '/.well-known/acme-challenge/none', 'GET', {}), 404);
  const tested = await product.api('GET', `/v1/route-test?url=${encodeURIComponent(`https://${CLOSED}/`)}`);
  assert.match(tested.body.reason, /only to clients with a certificate \(client_auth/);
});

async function plain(
  host: string,
  path: string,
  method: string,
  headers: Record<string, string>,
): Promise<number> {
  const socket = connectTcp(product.httpPort, '127.0.0.1');
  const fields = Object.entries({ host, 'content-length': '0', connection: 'close', ...headers });
  socket.write(
    `${method} ${path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  );
  const [reply] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return statusOf(reply.toString('latin1'));
}

test('incident 17: a connection for another host, or one that is shared, does not get there', async () => {
  const before = upstream.requests.length;
  const one = await tls(OPEN, shown(alice));
  assert.equal(statusOf(await replyOn(one, CLOSED)), 421);
  const session = connectHttp2(`https://${OPEN}:${product.httpsPort}`, {
    createConnection: () =>
      connect({
        port: product.httpsPort,
        host: '127.0.0.1',
        servername: OPEN,
        ca: product.ca,
        ALPNProtocols: ['h2'],
        ...shown(alice),
      }),
  });
  const statusFor = async (authority: string) => {
    const stream = session.request({ ':path': '/', ':authority': authority });
    const [headers] = (await once(stream, 'response')) as [{ ':status'?: number }];
    stream.close();
    return headers[':status'];
  };
  assert.equal(await statusFor(OPEN), 200);
  assert.equal(await statusFor(CLOSED), 421);
  session.destroy();
  const back = await tls(CLOSED, shown(alice));
  assert.equal(statusOf(await replyOn(back, OPTIONAL)), 421);
  assert.equal(upstream.requests.length, before + 1);
});

test('incident 17: a wildcard asks for every name below it, but for one that is served by a proxy of its own', async () => {
  await make({ hostname: '*.wild.example.com', client_auth: { mode: 'require', ca_pem: root.pem } });
  const kept = await tls('a.wild.example.com', shown(alice));
  assert.equal(statusOf(await replyOn(kept, 'a.wild.example.com')), 200);
  assert.equal(statusOf(await replyOn(kept, 'b.wild.example.com')), 421);
  assert.equal((await curl('b.wild.example.com')).status, 403);
  const before = await tls('b.wild.example.com', shown(alice));
  await make({ hostname: 'b.wild.example.com', client_auth: { mode: 'require', ca_pem: other.pem } });
  assert.equal(statusOf(await replyOn(before, 'b.wild.example.com')), 421, 'checked by another CA');
  assert.equal((await curl('b.wild.example.com', { shows: mallory })).status, 200);
  await make({ hostname: 'c.wild.example.com' });
  assert.equal((await curl('c.wild.example.com')).status, 200);
});

test('incident 17: who may not change a hostname can not change whom it asks for, nor does who only reads', async () => {
  const secretOf = async (permissions: string[], hostnames?: string[]) => {
    const made = await product.api('POST', '/v1/tokens', {
      name: 'small',
      permissions,
      ...(hostnames && { hostnames }),
    });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return { authorization: `Bearer ${made.body.secret}` };
  };
  const off = { client_auth: { mode: 'off' } };
  const patch = (headers: Record<string, string>) =>
    product.api('PATCH', `/v1/proxies/${CLOSED}`, off, headers);
  assert.equal((await patch(await secretOf(['proxies:read']))).status, 403);
  assert.equal((await patch(await secretOf(['proxies:write'], ['other.example.com']))).status, 404);
  assert.equal((await curl(CLOSED)).status, 403);
});

test('incident 17: a hello in pieces, over several records, is asked for a certificate all the same', async () => {
  const server = createServer((near) => {
    const far = connectTcp(product.httpsPort, '127.0.0.1');
    near.once('data', (hello: Buffer) => {
      // One record becomes many of 40 bytes (RFC 8446 §5.1).
      for (let at = 5; at < hello.length; at += 40) {
        const part = hello.subarray(at, at + 40);
        far.write(
          Buffer.concat([hello.subarray(0, 3), Buffer.of(part.length >> 8, part.length & 255), part]),
        );
      }
      near.pipe(far);
    });
    far
      .on('close', () => near.destroy())
      .on('error', () => near.destroy())
      .pipe(near);
    near.on('error', () => far.destroy());
  });
  const port = await freePort();
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const pieces = { port, args: ['--http1.1'] };
  assert.equal((await curl(CLOSED, { ...pieces, shows: alice })).status, 200);
  assert.equal((await curl(CLOSED, pieces)).status, 403);
  assert.equal((await curl(OPEN, pieces)).status, 200);
  await closed(server);
});

test('incident 17: no session is resumed into a host that asks, nor out of it', async () => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const only = { minVersion: version, maxVersion: version };
    const from = async (servername: string, options: object) => {
      const socket = await tls(servername, { ...only, ...options });
      let session: Buffer | undefined = socket.getSession();
      socket.on('session', (fresh: Buffer) => (session = fresh));
      await replyOn(socket, servername, '/', 'Connection: close\r\n');
      return session;
    };
    const open = await from(OPEN, {});
    const again = await tls(OPEN, { ...only, session: open });
    assert.equal(again.isSessionReused(), true, `${version}: where nobody asks, sessions resume`);
    again.destroy();
    const withAlice = await from(CLOSED, shown(alice));
    for (const [what, session] of Object.entries({ open, withAlice })) {
      const socket = await tls(CLOSED, { ...only, session });
      assert.equal(socket.isSessionReused(), false, `${version}, session of ${what}`);
      assert.equal(statusOf(await replyOn(socket, CLOSED)), 403, `${version}, session of ${what}`);
    }
  }
});

test('a new list of revoked certificates counts at once: for new connections, open ones and open streams', async () => {
  const bob = root.issue('bob');
  await make({ hostname: LISTED, client_auth: { mode: 'require', ca_pem: root.pem, crl_pem: root.list() } });
  const kept = await tls(LISTED, shown(bob));
  assert.equal(statusOf(await replyOn(kept, LISTED)), 200);
  const stream = await tls(LISTED, shown(bob));
  assert.equal(statusOf(await replyOn(stream, LISTED, '/events')), 200);
  root.revoke(bob);
  const ended = once(stream, 'close');
  assert.equal(
    (await change(LISTED, { mode: 'require', ca_pem: root.pem, crl_pem: root.list() })).status,
    200,
  );
  await ended;
  const gone = once(kept, 'close');
  assert.equal(statusOf(await replyOn(kept, LISTED)), 421);
  await gone;
  const { status, body } = await curl(LISTED, { shows: bob });
  assert.equal(status, 403);
  assert.match(body, /its CA has revoked it/);
  assert.equal((await curl(LISTED, { shows: alice })).status, 200);
  const { body: proxy } = await product.api('GET', `/v1/proxies/${LISTED}`);
  assert.equal(proxy.client_auth_facts.problem, null);
  assert.equal(proxy.client_auth_facts.revocation_lists[0].revoked, 1);
  assert.match(proxy.client_auth_facts.authorities[0].subject, /Client Root/);
});

test('to ask for certificates, or to trust another CA, ends what was open without', async () => {
  const hostname = 'later.example.com';
  await make({ hostname });
  const stream = await tls(hostname);
  assert.equal(statusOf(await replyOn(stream, hostname, '/events')), 200);
  const ended = once(stream, 'close');
  assert.equal((await change(hostname, { mode: 'require', ca_pem: root.pem })).status, 200);
  await ended;
  const kept = await tls(hostname, shown(alice));
  assert.equal(statusOf(await replyOn(kept, hostname)), 200);
  assert.equal((await change(hostname, { mode: 'require', ca_pem: other.pem })).status, 200);
  assert.equal(statusOf(await replyOn(kept, hostname)), 421);
  assert.equal((await curl(hostname, { shows: alice })).status, 403);
  assert.equal((await curl(hostname, { shows: mallory })).status, 200);
  assert.equal((await change(hostname, { mode: 'off' })).status, 200);
  assert.equal((await curl(hostname)).status, 200);
});

test('the target learns who it is from here and from nobody else', async () => {
  const lies = [
    'Client-Cert',
    'client_cert',
    'X-Client-Cert-Subject',
    'X_Client_Cert_Fingerprint',
    'X-SSL-Client-Verify',
  ];
  const args = lies.flatMap((name) => ['-H', `${name}: CN=root`]);
  assert.equal((await curl(CLOSED, { shows: alice, args })).status, 200);
  const { headers } = upstream.requests.at(-1)!;
  const der = Buffer.from(alice.pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64');
  assert.equal(headers['client-cert'], `:${der.toString('base64')}:`);
  assert.equal(headers['x-client-cert-subject'], 'CN=alice');
  assert.equal(headers['x-client-cert-san'], 'email:alice@example.com');
  assert.match(String(headers['x-client-cert-fingerprint']), /^[0-9a-f]{64}$/);
  assert.equal((await curl(OPTIONAL, { args })).status, 200);
  const names = Object.keys(upstream.requests.at(-1)!.headers);
  assert.deepEqual(
    names.filter((name) => /cert|ssl/.test(name)),
    [],
  );
});

test('incident 17: CAs and lists that can not be read, or are all over, close their host and no other', async () => {
  const broken = {
    'unreadable.example.com': { ca_pem: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' },
    'empty.example.com': { ca_pem: ' ' },
    'leaf.example.com': { ca_pem: alice.pem },
    'over.example.com': { ca_pem: pki.below(root, 'Over', { from: LONG_PAST, until: PAST }).pem },
    'unlisted.example.com': { ca_pem: root.pem, crl_pem: 'nothing' },
    'stale.example.com': { ca_pem: root.pem, crl_pem: root.list({ until: '20200201000000Z' }) },
    'half-stale.example.com': {
      ca_pem: root.pem + other.pem,
      crl_pem: root.list({ until: '20200201000000Z' }) + other.list(),
    },
    'mode.example.com': { mode: 'sometimes', ca_pem: root.pem },
  };
  for (const hostname of Object.keys(broken))
    await make({ hostname, client_auth: { mode: 'require', ca_pem: root.pem } });
  assert.equal(await product.stop(), 0);
  const db = new BetterSqlite3(join(product.dataDir, 'state.sqlite'));
  for (const [hostname, auth] of Object.entries(broken))
    db.prepare(
      "update proxies set document = json_set(document, '$.client_auth', json(?)) where hostname = ?",
    ).run(JSON.stringify({ mode: 'require', pass_identity: false, ...auth }), hostname);
  db.close();
  product = await product.restart();
  const before = upstream.requests.length;
  for (const hostname of Object.keys(broken)) {
    const expected = hostname === 'half-stale.example.com' ? 403 : 0;
    for (const shows of [alice, undefined])
      assert.equal((await curl(hostname, shows ? { shows } : {})).status, expected, hostname);
  }
  const stale = await curl('half-stale.example.com', { shows: alice });
  assert.match(stale.body, /revocation list of its CA is over/);
  assert.equal(upstream.requests.length, before);
  assert.equal((await curl('half-stale.example.com', { shows: mallory })).status, 200);
  assert.equal((await curl(CLOSED, { shows: alice })).status, 200);
  assert.equal((await curl(OPEN)).status, 200);
  const { body: proxy } = await product.api('GET', '/v1/proxies/stale.example.com');
  assert.match(proxy.client_auth_facts.problem, /Client Root is over since 2020-02-01/);
  const told = await eventually(async () => {
    const { body } = await product.api('GET', '/v1/logs?kind=tls&lines=100');
    return (
      /unreadable\.example\.com is closed: .*certificate 1 can't be read/.test(JSON.stringify(body)) ||
      undefined
    );
  }, 'the record of the closed host');
  assert.ok(told);
});

test('what could check nobody is refused when it is written, with what is wrong', async () => {
  const cases: [auth: object, message: RegExp][] = [
    [{ mode: 'require' }, /ca_pem/],
    [{ mode: 'require', ca_pem: '' }, /ca_pem/],
    [{ mode: 'require', ca_pem: '/etc/ssl/ca.pem' }, /client_auth\.ca_pem: holds nothing/],
    [{ mode: 'require', ca_pem: alice.pem }, /CN=alice is no CA/],
    [{ mode: 'require', ca_pem: intermediate.pem }, /was issued by CN=Client Root, which is missing/],
    [{ mode: 'require', ca_pem: root.pem + alice.key }, /holds a private key/],
    [{ mode: 'require', ca_pem: root.pem.slice(0, -30) }, /is cut/],
    [
      { mode: 'require', ca_pem: pki.below(root, 'Gone', { from: LONG_PAST, until: PAST }).pem + root.pem },
      /Gone expired at 2020-01-01/,
    ],
    [{ mode: 'require', ca_pem: root.pem, crl_pem: other.list() }, /list 1 is not signed by a CA of ca_pem/],
    [{ mode: 'require', ca_pem: root.pem + other.pem, crl_pem: root.list() }, /no list of CN=Other Root/],
    [
      { mode: 'require', ca_pem: root.pem, crl_pem: root.list({ until: PAST, from: LONG_PAST }) },
      /is over since 2020-01-01/,
    ],
    [{ mode: 'require', ca_pem: root.pem, crl_pem: root.pem }, /is CERTIFICATE, not X509 CRL/],
    [{ mode: 'sometimes', ca_pem: root.pem }, /mode/],
  ];
  const mute = pki.root('Mute Root', 'keyCertSign');
  cases.push([{ mode: 'require', ca_pem: mute.pem, crl_pem: mute.list() }, /lacks cRLSign/]);
  for (const [auth, message] of cases) {
    const refused = await change(OPEN, auth);
    assert.equal(refused.status, 400, `${message}: ${JSON.stringify(refused.body)}`);
    assert.match(JSON.stringify(refused.body), message);
  }
  const plainOnly = await product.api('POST', '/v1/proxies', {
    hostname: 'plain.example.com',
    target_url: upstream.url,
    enable_https: false,
    client_auth: { mode: 'require', ca_pem: root.pem },
  });
  assert.match(JSON.stringify(plainOnly.body), /client_auth needs enable_https/);
  assert.equal((await curl(OPEN)).status, 200);
});
