/**
 * Incident row 28, ACME abuse, by route: whatever the upstream of a hostname would say, it answers no challenge and never
 * hears of one. That several processes on one store order once is shown in src/certificates/issuance.test.ts, budgets of
 * owners in src/certificates/orders.test.ts, challenges of a CA that are pending in test/acme/issuance.test.ts.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { text } from 'node:stream/consumers';
import { configFile, generous } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const PATH = '/.well-known/acme-challenge/';
const TOKEN = 'LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0';

/** Hostname → how its proxy is set. */
const hosts: Record<string, object> = {
  'plain.example.com': {},
  'clear.example.com': { redirect_to_https: false },
  'routed.example.com': {},
  'protected.example.com': { auth: { kind: 'token', permission: 'proxies:read' } },
  'no-http.example.com': { enable_http: false },
  'no-https.example.com': { enable_https: false },
  '*.wild.example.com': {},
  'disabled.example.com': { enabled: false },
};
const asked = Object.keys(hosts).map((hostname) => hostname.replace('*', 'any'));

/** What some readers of URLs take for the path of a challenge. */
const spellings = [
  PATH + TOKEN,
  `${PATH}${TOKEN}?query=1`,
  `/${PATH}${TOKEN}`,
  `/%2ewell-known/acme-challenge/${TOKEN}`,
  `/.well-known/acme%2dchallenge/${TOKEN}`,
  `/.well-known//acme-challenge/${TOKEN}`,
  `/.well-known/./acme-challenge/${TOKEN}`,
  `/x/..${PATH}${TOKEN}`,
  `/x/%2e%2e${PATH}${TOKEN}`,
  `/.well-known/acme-challenge%2f${TOKEN}`,
  `/.well-known\\acme-challenge/${TOKEN}`,
  `${PATH}deeper/${TOKEN}`,
  `${PATH}..;/acme-challenge/${TOKEN}`,
  PATH,
];

let product: Product;
let upstream: Upstream;

before(async () => {
  // It would answer any challenge, as whoever wants a certificate for a hostname that only leads through it does.
  upstream = await startUpstream((_request, response) => response.end(`${TOKEN}.stolen`));
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  for (const [hostname, settings] of Object.entries(hosts)) {
    const made = await product.api('POST', '/v1/proxies', {
      hostname,
      target_url: upstream.url,
      ...settings,
    });
    assert.equal(made.status, 201, JSON.stringify(made.body));
  }
  for (const path of ['/.well-known/acme-challenge', '/.well-known']) {
    const route = { hostname: 'routed.example.com', path, target_url: upstream.url, priority: 1000 };
    const made = await product.api('POST', '/v1/routes', route);
    assert.ok([201, 400].includes(made.status), JSON.stringify(made.body));
  }
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

async function clear(hostname: string, path: string, method = 'GET') {
  const asking = request({
    host: '127.0.0.1',
    port: product.httpPort,
    path,
    method,
    headers: { host: hostname },
  });
  asking.end();
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, headers: response.headers, body: await text(response) };
}

test('no hostname’s upstream is asked for a challenge, in no spelling, on either port, and no redirect leads away from it', async () => {
  const check = (where: string, { status, body }: { status: number; body: string }) => {
    assert.ok([400, 404, 421].includes(status), `${where}: ${status}`);
    assert.doesNotMatch(body, /stolen/);
  };
  const secure = asked.filter((name) => !/^(?:disabled|no-https)\./.test(name));
  await Promise.all([
    ...asked.flatMap((hostname) =>
      spellings.map(async (path) => check(hostname + path, await clear(hostname, path))),
    ),
    ...spellings.map(async (path) => check(`https ${path}`, await product.get('plain.example.com', path))),
    ...secure.map(async (name) => check(`https ${name}`, await product.get(name, PATH + TOKEN))),
  ]);
  assert.deepEqual(upstream.requests, []);
  // It is there, and is asked for everything else.
  await clear('clear.example.com', '/');
  assert.equal(upstream.requests.length, 1);
});

test('a token that is not pending is not found, on every hostname that is served, whatever protects it', async () => {
  for (const hostname of asked.filter((name) => !/^(?:disabled|no-http\.)/.test(name)))
    assert.equal((await clear(hostname, PATH + TOKEN)).status, 404, hostname);
});

test('only reading is served there', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
    assert.equal((await clear('plain.example.com', PATH + TOKEN, method)).status, 405, method);
});

test('who asks for acme-tls/1 while no challenge is pending gets no connection by that protocol', async () => {
  for (const servername of asked.filter((name) => name !== 'disabled.example.com')) {
    const socket = connect({
      host: '127.0.0.1',
      port: product.httpsPort,
      servername,
      ALPNProtocols: ['acme-tls/1'],
      rejectUnauthorized: false,
    });
    const outcome = await Promise.race([
      once(socket, 'secureConnect').then(() => socket.alpnProtocol),
      once(socket, 'error').then(() => 'refused'),
    ]).catch(() => 'refused');
    socket.destroy();
    assert.notEqual(outcome, 'acme-tls/1', servername);
  }
});
