/**
 * Who is let in no more is cut off, also where it is connected already (agentgateway#2397): event streams, sockets and
 * downloads end in less than a second after the grant, the client, the user, the session, the token or the policy.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { after, before, test } from 'node:test';
import { type Access, accessTo } from '../support/agent.ts';
import { assertAtOnce } from '../support/at-once.ts';
import { configFile, generous, grant } from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { invite, signInAs, Visitor } from '../support/visitor.ts';

const HOST = 'app.example.com';

let product: Product;
let upstream: Upstream;

before(async () => {
  upstream = await startUpstream((request, response) => {
    response.writeHead(200, {
      'content-type': request.url === '/events' ? 'text/event-stream' : 'text/plain',
    });
    if (request.url === '/page') response.end();
    else response.write(': open\n\n');
  });
  upstream.server.on('upgrade', (request, socket) => {
    const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash('sha1').update(key).digest('base64');
    socket.on('error', () => socket.destroy());
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
  });
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url });
  await protect({ everyone: true });
  await accessTo(product, urlOf());
});
after(async () => {
  for (const one of [product, upstream]) await one?.[Symbol.asyncDispose]();
});

const urlOf = () => `https://${HOST}:${product.httpsPort}/`;
async function protect(allow: object): Promise<void> {
  const { status, body } = await product.api('PUT', `/v1/proxies/${HOST}/protection`, { allow });
  assert.equal(status, 200, JSON.stringify(body));
}

/** Open, and answered. */
interface Stream {
  readonly what: string;
  readonly isOpen: () => boolean;
  close(): void;
}

async function open(what: string, path: string, headers: Record<string, string>): Promise<Stream> {
  const socket: TLSSocket = connect({
    host: '127.0.0.1',
    port: product.httpsPort,
    servername: HOST,
    ca: product.ca,
    ALPNProtocols: ['http/1.1'],
  });
  socket.on('error', () => socket.destroy());
  await once(socket, 'secureConnect');
  const fields = Object.entries({ host: `${HOST}:${product.httpsPort}`, ...headers });
  socket.write(
    `GET ${path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  );
  const [head] = (await once(socket, 'data')) as [Buffer];
  assert.match(head.toString('latin1'), /^HTTP\/1\.1 (?:200|101)/, `${what}: ${head.toString('latin1')}`);
  socket.resume();
  return { what, isOpen: () => !socket.destroyed, close: () => socket.destroy() };
}

const WEBSOCKET = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

/** One of each kind. */
const openAll = (who: string, headers: Record<string, string>): Promise<Stream[]> =>
  Promise.all([
    open(`events of ${who}`, '/events', headers),
    open(`download of ${who}`, '/download', headers),
    open(`socket of ${who}`, '/socket', { ...headers, ...WEBSOCKET }),
  ]);

const bearer = ({ token }: Pick<Access, 'token'>) => ({ authorization: `Bearer ${token}` });

/** A browser that has signed in. Of what never ends only the head is read, so it looks at a page that does. */
async function sessionOf(username: string): Promise<{ visitor: Visitor; headers: Record<string, string> }> {
  const visitor = new Visitor(product);
  const page = await visitor.open(`${urlOf()}page`);
  await signInAs(visitor, page, { adminToken: product.adminToken, username });
  return { visitor, headers: { cookie: `__Host-ohp=${visitor.cookie(HOST, '__Host-ohp')}` } };
}

async function areCut(streams: readonly Stream[], act: () => Promise<unknown>): Promise<void> {
  await act();
  for (const { what, isOpen } of streams) await assertAtOnce(product, () => !isOpen(), `${what} is cut`);
}

function goOn(streams: readonly Stream[]): void {
  for (const { what, isOpen } of streams) assert.ok(isOpen(), `${what} was cut as well`);
  for (const stream of streams) stream.close();
}

const expectOk = async (answer: ReturnType<Product['api']>): Promise<void> => {
  const { status, body } = await answer;
  assert.ok(status < 300, `${status} ${JSON.stringify(body)}`);
};

const grantsOf = async (client: string): Promise<{ id: string; username: string }[]> =>
  (await product.api('GET', `/v1/grants?client=${encodeURIComponent(client)}`)).body.grants;

test('incident 30: a grant that is revoked takes its streams, and no others', async () => {
  const [mine, other] = [await accessTo(product, urlOf()), await accessTo(product, urlOf())];
  const streams = await openAll('the grant', bearer(mine));
  const others = await openAll('another client', bearer(other));
  const [found] = await grantsOf(mine.clientId);
  await areCut(streams, () => expectOk(product.api('DELETE', `/v1/grants/${found?.id}`)));
  goOn(others);
});

test('incident 30: a client that is deleted, and an API token that is revoked', async () => {
  const mine = await accessTo(product, urlOf());
  const streams = await openAll('the client', bearer(mine));
  const id = encodeURIComponent(mine.clientId);
  await areCut(streams, () => expectOk(product.api('DELETE', `/v1/clients/${id}`)));
  const api = await grant(product, { bundle: 'viewer' });
  await protect({ everyone: true, clients: [api.id] });
  const own = await openAll('the API token', bearer({ token: api.secret }));
  await areCut(own, () => expectOk(product.api('DELETE', `/v1/tokens/${api.id}`)));
});

test('incident 30: a user who is turned off, by token and by cookie', async () => {
  const id = await invite(product, 'carol');
  const access = await accessTo(product, urlOf(), { username: 'carol' });
  const others = await openAll('root', bearer(await accessTo(product, urlOf())));
  const streams = await openAll('carol', bearer(access));
  await areCut(streams, () => expectOk(product.api('PATCH', `/v1/users/${id}`, { disabled: true })));
  goOn(others);
});

test('incident 30: a policy that names fewer', async () => {
  await invite(product, 'dave');
  await protect({ everyone: true });
  const dave = await openAll('dave', bearer(await accessTo(product, urlOf(), { username: 'dave' })));
  const root = await openAll('root', bearer(await accessTo(product, urlOf())));
  await areCut(dave, () => protect({ users: ['root'] }));
  goOn(root);
  await protect({ everyone: true });
});

test('incident 30: what was open to anyone ends when it is protected', async () => {
  await expectOk(product.api('DELETE', `/v1/proxies/${HOST}/protection`));
  const streams = await openAll('nobody', {});
  await areCut(streams, () => protect({ everyone: true }));
});

test('incident 30: a session that is signed out of, and no other of the same person', async () => {
  const [one, two] = [await sessionOf('root'), await sessionOf('root')];
  const streams = await openAll('one browser', one.headers);
  const others = await openAll('another browser', two.headers);
  const form = await one.visitor.open(`${urlOf()}.ohp/sign-out`);
  await areCut(streams, () => one.visitor.submit(form, {}));
  goOn(others);
});

test('incident 30: the sign-in itself, when its grant is revoked', async () => {
  const { headers } = await sessionOf('root');
  const streams = await openAll('the browser', headers);
  await areCut(streams, async () => {
    for (const { id } of await grantsOf('ohp-sites'))
      await expectOk(product.api('DELETE', `/v1/grants/${id}`));
  });
});
