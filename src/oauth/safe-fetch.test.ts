import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import * as oauth from 'oauth4webapi';
import { makeCa, makeLeaf } from '../certificates/openssl.fixture.ts';
import { authorize, browse, discover, question, REDIRECT_URI, refresh } from './oauth-client.fixture.ts';
import { addressFault, createSafeFetch, type Resolve } from './safe-fetch.ts';
import { startAuthorizationServer } from './server.fixture.ts';

const HOST = 'client.internal.example';
const authority = makeCa('/CN=Test authority');
const leaf = makeLeaf([HOST, 'public.example'], authority);

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close().closeAllConnections();
});

async function serve(listener: RequestListener): Promise<number> {
  const server = createServer({ key: leaf.keyPem, cert: leaf.certificatePem }, listener);
  servers.push(server.listen(0, '127.0.0.1'));
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** Every name has these addresses, one answer after the other. */
const resolving = (...answers: string[][]): Resolve => {
  let turn = 0;
  return (_hostname, answer) => {
    const addresses = answers[Math.min(turn++, answers.length - 1)] ?? [];
    answer(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  };
};

const open = (resolve: Resolve, privateHosts: string[] = []) =>
  createSafeFetch({ privateHosts, authorities: authority.certificatePem, resolve });

/** What a failed fetch says, with its causes. */
async function faultOf(fetching: Promise<unknown>): Promise<string> {
  const thrown: unknown = await fetching.then(
    () => assert.fail('it was fetched'),
    (cause: unknown) => cause,
  );
  const messages: string[] = [];
  for (let one = thrown; one instanceof Error; one = one.cause) messages.push(one.message);
  return messages.join(' < ');
}

test('a host of one’s own network is fetched from when it is named, over TLS that is verified', async () => {
  const port = await serve((_request, response) => response.end('hello'));
  await using fetch = open(resolving(['127.0.0.1']), [HOST]);
  const response = await fetch(`https://${HOST}:${port}/`);
  assert.equal(await response.text(), 'hello');
  await using untrusting = createSafeFetch({ privateHosts: [HOST], resolve: resolving(['127.0.0.1']) });
  assert.match(await faultOf(untrusting(`https://${HOST}:${port}/`)), /certificate/);
});

test('a host that is not named is not fetched from when it is in a private network', async () => {
  const port = await serve((_request, response) => response.end('secret'));
  await using fetch = open(resolving(['127.0.0.1']), ['other.example']);
  assert.match(await faultOf(fetch(`https://${HOST}:${port}/`)), /no address to fetch from \(loopback\)/);
});

test('one private address among public ones condemns the answer', async () => {
  await using fetch = open(resolving(['8.8.8.8', '10.0.0.1']));
  assert.match(await faultOf(fetch('https://public.example/')), /10\.0\.0\.1/);
  await using none = open(resolving([]));
  assert.match(await faultOf(none('https://public.example/')), /no address/);
});

test('the address that was judged is the one that is connected to: the name is asked for once', async () => {
  const port = await serve((_request, response) => response.end('secret'));
  let asked = 0;
  const answers = resolving(['192.0.2.1'], ['127.0.0.1']);
  const counting: Resolve = (...question) => {
    asked++;
    answers(...question);
  };
  await using fetch = open(counting);
  // A documentation address, which the first answer is, is refused as well: nothing is ever connected to.
  assert.match(await faultOf(fetch(`https://public.example:${port}/`)), /192\.0\.2\.1/);
  assert.equal(asked, 1);
});

test('no spelling of a private address is public', async () => {
  await using fetch = open(resolving(['8.8.8.8']));
  for (const host of [
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '0.0.0.0',
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '169.254.169.254',
    '[::1]',
    '[::]',
    '[::ffff:127.0.0.1]',
    '[::ffff:a9fe:a9fe]',
    '[64:ff9b::7f00:1]',
    '[2002:7f00:1::]',
    '[fe80::1]',
    '[fd00::1]',
    '224.0.0.1',
    '255.255.255.255',
  ])
    assert.match(await faultOf(fetch(`https://${host}/`)), /no address to fetch from/, host);
});

test('a name that is trusted may be in one’s own network, but never at the metadata service of a cloud', () => {
  for (const address of ['127.0.0.1', '10.1.2.3', 'fd00::1', '100.64.0.1', '8.8.8.8'])
    assert.equal(addressFault(address, true), undefined, address);
  for (const address of ['169.254.169.254', '::ffff:169.254.169.254', 'fe80::1', '0.0.0.0', '::'])
    assert.ok(addressFault(address, true), address);
});

test('only https is fetched', async () => {
  await using fetch = open(resolving(['8.8.8.8']));
  for (const url of [
    'http://public.example/',
    'file:///etc/passwd',
    'data:text/plain,x',
    'ftp://public.example/',
  ])
    assert.match(await faultOf(fetch(url)), /is not https/);
});

test('a redirect is not followed', async () => {
  const port = await serve((_request, response) => response.writeHead(302, { location: '/elsewhere' }).end());
  await using fetch = open(resolving(['127.0.0.1']), [HOST]);
  const response = await fetch(`https://${HOST}:${port}/`, { redirect: 'follow' });
  assert.equal(response.status, 302);
  await response.body?.cancel();
});

interface Document extends Record<string, unknown> {
  status?: number;
}

/** An authorization server, and a client whose id is the URL of what it says of itself. */
async function withMetadata(change: (url: string) => Document | 'silence' = () => ({})) {
  let asked = 0;
  const port = await serve((request, response) => {
    asked++;
    const url = `https://${HOST}:${port}${request.url}`;
    const changed = change(url);
    if (changed === 'silence') return;
    const { status = 200, ...more } = changed;
    const document = { client_id: url, client_name: 'A client', redirect_uris: [REDIRECT_URI], ...more };
    response.writeHead(status, { 'content-type': 'application/json', location: '/other' });
    response.end(JSON.stringify(document));
  });
  const safeFetch = open(resolving(['127.0.0.1']), [HOST]);
  const fixture = await startAuthorizationServer({ fetch: safeFetch });
  return {
    fixture,
    as: await discover(fixture.issuer),
    client: { client_id: `https://${HOST}:${port}/client.json` },
    asked: () => asked,
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      await safeFetch[Symbol.asyncDispose]();
    },
  };
}

test('a client whose id is the URL of its metadata is let in, and its document is kept for a while', async () => {
  await using world = await withMetadata();
  const { as, client, fixture } = world;
  const { redeem } = await authorize(as, client);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, await redeem());
  assert.equal(fixture.principal(tokens.access_token)?.oauth?.clientId, client.client_id);
  assert.equal((await refresh(as, client, tokens.refresh_token)).status, 200);
  assert.equal(world.asked(), 1);
});

const documents: Record<string, (url: string) => Document | 'silence'> = {
  'names another client': () => ({ client_id: 'https://client.internal.example/other' }),
  'has no redirect URI': () => ({ redirect_uris: [] }),
  'has a redirect URI that runs code': () => ({ redirect_uris: ['javascript:alert(1)'] }),
  'has a secret': () => ({ client_secret: 'x' }),
  'wants to act for itself': () => ({ grant_types: ['client_credentials'] }),
  redirects: () => ({ status: 302 }),
  'is not there': () => ({ status: 404 }),
  'is too large': () => ({ client_name: 'x'.repeat(6000) }),
  'never comes': () => 'silence',
};

for (const [name, change] of Object.entries(documents))
  test(`a client whose document ${name} is not let in, and nobody is sent anywhere`, async () => {
    await using world = await withMetadata(change);
    const { url } = await question(world.as, world.client);
    const response = await fetch(url, { redirect: 'manual' });
    assert.equal(response.headers.get('location'), null);
    assert.ok(response.status >= 400 && response.status < 500, String(response.status));
  });

test('a client whose document names scopes may ask for these and for others', async () => {
  await using world = await withMetadata(() => ({ scope: 'viewer' }));
  const { redeem } = await authorize(world.as, world.client, { scope: 'operator' });
  assert.equal((await redeem()).status, 200);
});

test('a client may be sent only where its document says', async () => {
  await using world = await withMetadata();
  const { url } = await question(world.as, world.client, { redirect_uri: 'https://evil.example/cb' });
  const response = await fetch(url, { redirect: 'manual' });
  assert.equal(response.headers.get('location'), null);
  const back = await browse((await question(world.as, world.client)).url);
  assert.ok(back.searchParams.get('code'));
});
