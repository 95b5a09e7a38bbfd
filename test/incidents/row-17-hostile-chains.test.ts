/** Row 17: client certificates that are signed with SHA-1, chains without end, and what was open over HTTP/2 before a change. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { x509 } from '../../src/certificates/peculiar.fixture.ts';
import { DAY } from '../../src/core/clock.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const CLOSED = 'closed.example.com';
const OPEN = 'open.example.com';
/** Below a root; OpenSSL looks at a hundred. */
const LONG = 98;
const TOO_LONG = 104;
/** Its certificate is of more bytes than OpenSSL takes in a chain (100 KiB). */
const MANY_NAMES = 4000;
const EC = { name: 'ECDSA', namedCurve: 'P-256' };

const newPair = () => crypto.subtle.generateKey(EC, true, ['sign', 'verify']);
type Pair = Awaited<ReturnType<typeof newPair>>;

interface Shown {
  cert: string;
  key: string;
}

let product: Product;
let upstream: Upstream;
let root: Authority;

before(async () => {
  root = await newAuthority('Root', undefined);
  upstream = await startUpstream((incoming, response) => {
    if (incoming.url !== '/events') return void response.end('reached');
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: 1\n\n');
  });
  product = await startProduct();
  const ca_pem = root.pem;
  for (const proxy of [{ hostname: OPEN }, { hostname: CLOSED, client_auth: { mode: 'require', ca_pem } }]) {
    const made = await product.api('POST', '/v1/proxies', { target_url: upstream.url, ...proxy });
    assert.equal(made.status, 201, JSON.stringify(made.body));
  }
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

interface Authority {
  readonly name: string;
  readonly pem: string;
  readonly keys: Pair;
}

async function newAuthority(name: string, above: Authority | undefined): Promise<Authority> {
  const keys = await newPair();
  const extensions = [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ];
  const { pem } = await signed({ name, by: above ?? { name, keys }, keys, extensions });
  return { name, pem, keys };
}

interface Wish {
  name: string;
  by: Pick<Authority, 'name' | 'keys'>;
  keys: Pair;
  hash?: string;
  extensions: InstanceType<typeof x509.Extension>[];
}

async function signed({ name, by, keys, hash = 'SHA-256', extensions }: Wish): Promise<{ pem: string }> {
  const made = await x509.X509CertificateGenerator.create({
    subject: `CN=${name}`,
    issuer: `CN=${by.name}`,
    publicKey: keys.publicKey,
    signingKey: by.keys.privateKey,
    signingAlgorithm: { ...EC, hash },
    notBefore: new Date(Date.now() - DAY),
    notAfter: new Date(Date.now() + DAY),
    extensions,
  });
  return { pem: made.toString('pem') };
}

async function client(by: Authority, hash = 'SHA-256', names: string[] = []): Promise<Shown> {
  const keys = await newPair();
  const extensions = [
    new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.2']),
    ...(names.length > 0
      ? [new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'email', value })))]
      : []),
  ];
  const { pem } = await signed({ name: 'client', by, keys, hash, extensions });
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return { cert: pem, key: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n` };
}

/** Status of the reply; 0 where the handshake is refused. */
function ask(servername: string, shown?: Shown): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    let text = '';
    const end = () => resolve({ status: Number(text.slice(9, 12)), text });
    const socket = connect({
      host: '127.0.0.1',
      port: product.httpsPort,
      servername,
      ca: product.ca,
      ...shown,
      // Ours takes everything: what is refused is refused there.
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
    socket.on('error', end).on('close', end);
    socket.write(`GET / HTTP/1.1\r\nHost: ${servername}:${product.httpsPort}\r\nConnection: close\r\n\r\n`);
  });
}

test('incident 17: a certificate that is signed with SHA-1 does not count, whoever signed it, and that is told', async () => {
  assert.equal((await ask(CLOSED, await client(root))).status, 200);
  const before = upstream.requests.length;
  const weak = await ask(CLOSED, await client(root, 'SHA-1'));
  assert.equal(weak.status, 403, weak.text);
  assert.match(weak.text, /signed with SHA-1/);
  assert.equal(upstream.requests.length, before);
});

test('incident 17: a chain longer than any, and one of more bytes, open nothing; others are answered', async () => {
  const chain = [root];
  for (let i = 1; i <= TOO_LONG; i++) chain.push(await newAuthority(`Link ${i}`, chain.at(-1)));
  const upTo = async (links: number): Promise<Shown> => {
    const { cert, key } = await client(chain[links] ?? root);
    const above = chain.slice(1, links + 1).reverse();
    return { key, cert: [cert, ...above.map(({ pem }) => pem)].join('\n') };
  };
  assert.equal((await ask(CLOSED, await upTo(LONG))).status, 200, 'as long as can be');
  const before = upstream.requests.length;
  assert.equal((await ask(CLOSED, await upTo(TOO_LONG))).status, 403);
  const names = Array.from({ length: MANY_NAMES }, (_, i) => `person-${i}@long.example.com`);
  assert.equal((await ask(CLOSED, await client(root, 'SHA-256', names))).status, 0);
  assert.equal(upstream.requests.length, before);
  assert.equal((await ask(OPEN)).status, 200);
  assert.equal((await ask(CLOSED, await client(root))).status, 200);
});

test('incident 17: a change of CAs ends the streams of an HTTP/2 connection, and answers its next request with 421', async () => {
  const hostname = 'streams.example.com';
  const other = await newAuthority('Other Root', undefined);
  const shown = await client(root);
  const client_auth = { mode: 'require', ca_pem: root.pem };
  await product.api('POST', '/v1/proxies', { hostname, target_url: upstream.url, client_auth });
  const session = connectHttp2(`https://${hostname}:${product.httpsPort}`, {
    createConnection: () =>
      connect({
        host: '127.0.0.1',
        port: product.httpsPort,
        servername: hostname,
        ca: product.ca,
        ALPNProtocols: ['h2'],
        ...shown,
      }),
  });
  session.on('error', () => {});
  try {
    assert.equal(await statusOn(session, '/'), 200);
    const events = session.request({ ':path': '/events' });
    events.on('error', () => {}).resume();
    await once(events, 'response');
    const ended = once(events, 'close');
    const changed = await product.api('PATCH', `/v1/proxies/${hostname}`, {
      client_auth: { mode: 'require', ca_pem: other.pem },
    });
    assert.equal(changed.status, 200, JSON.stringify(changed.body));
    await ended;
    const before = upstream.requests.length;
    assert.equal(await statusOn(session, '/'), 421);
    assert.equal(upstream.requests.length, before);
    assert.equal((await ask(hostname, shown)).status, 403);
  } finally {
    session.destroy();
  }
});

async function statusOn(session: ClientHttp2Session, path: string): Promise<number> {
  const stream = session.request({ ':path': path });
  stream.on('error', () => {});
  const [headers] = (await once(stream, 'response')) as [{ ':status': number }];
  stream.resume();
  return headers[':status'];
}
