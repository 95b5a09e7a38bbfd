/** Browsers that stay with a target by a cookie: what it says, what it may choose, and when another target takes over. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import test from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { z } from 'zod';
import { ManualClock } from '../core/clock.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import {
  ask,
  ask2,
  caPem,
  type Fixture,
  http2Session,
  proxyOf,
  raw,
  routeOf,
  startGateway,
  startUpstream,
  type Upstream,
} from '../../test/support/gateway.ts';
import { closed } from './protect.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';

const byText = (one: unknown, other: unknown) => String(one).localeCompare(String(other));

const protectionWith = (key: string) => ({
  ...closed,
  mark: (text: string) => createHmac('sha256', key).update(text).digest('base64url'),
});
const protection = protectionWith('key');

/** Answers with its name and the cookies that it got. */
const named = (name: string) =>
  startUpstream((request, response) => response.end(`${name}:${request.headers.cookie ?? ''}`));

type Balancing = Partial<z.input<typeof loadBalancing>>;

function sticking(targets: readonly Upstream[], more: Balancing = {}) {
  const [first, ...others] = targets.map(({ url }) => url);
  return proxyOf(app, first ?? '', {
    redirect_to_https: false,
    load_balancing: loadBalancing.parse({
      targets: others.map((url) => ({ url })),
      sticky: {},
      ...more,
    }),
  });
}

async function visit(gateway: Fixture, cookie?: string, path = '/') {
  const { body, headers, status } = await ask(gateway, { path, headers: cookie ? { cookie } : {} });
  const [by, cookies] = body.split(':');
  const set = headers['set-cookie'];
  return { status, by, cookies, set, cookie: set?.[0]?.split(';')[0] };
}

const put = (gateway: Fixture, proxy: ReturnType<typeof sticking>) =>
  gateway.gateway.publisher.prepare({ putProxies: [proxy] }).publish();

async function stop({ server }: Upstream): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

test('who has the cookie of a target stays there; it is set once, for us alone, and tells nothing of the target', async () => {
  await using one = await named('one');
  await using two = await named('two');
  await using gateway = await startGateway({ protection, proxies: [sticking([one, two])] });
  const first = await visit(gateway);
  assert.match(first.set?.[0] ?? '', /^ohp-target=[\w-]{16}; Path=\/; HttpOnly; SameSite=Lax; Secure$/);
  for (let i = 0; i < 3; i++) {
    const again = await visit(gateway, `theirs=1; ${first.cookie}; other=2`);
    assert.deepEqual([again.by, again.cookies, again.set], ['one', 'theirs=1; other=2', undefined]);
  }
  const second = await visit(gateway);
  assert.equal(second.by, 'two');
  assert.notEqual(second.cookie, first.cookie);
  assert.equal((await visit(gateway, second.cookie)).by, 'two');
  const plain = await raw(gateway.httpPort, `GET / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n\r\n`);
  assert.match(plain, /set-cookie: ohp-target=[\w-]{16}; Path=\/; HttpOnly; SameSite=Lax\r\n/i);
});

test('without sticky no cookie is set, and one that is there chooses nothing', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = sticking([one, two]);
  await using gateway = await startGateway({ protection, proxies: [proxy] });
  const { cookie } = await visit(gateway);
  put(gateway, { ...proxy, load_balancing: loadBalancing.parse({ targets: [{ url: two.url }] }) });
  const got = [await visit(gateway, cookie), await visit(gateway, cookie)];
  assert.deepEqual(got.map(({ by, set }) => [by, set]).toSorted(byText), [
    ['one', undefined],
    ['two', undefined],
  ]);
});

test('a cookie that names no target of this proxy leads nowhere but to a fresh choice, and takes nothing from a good one', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = sticking([one, two]);
  const other = { ...sticking([one, two]), hostname: 'other.example.com' };
  await using gateway = await startGateway({ protection, proxies: [proxy, other] });
  await using elsewhere = await startGateway({ protection: protectionWith('another'), proxies: [proxy] });
  const { headers } = await ask(gateway, { host: 'other.example.com' });
  const ofOther = headers['set-cookie']?.[0]?.split(';')[0];
  const { cookie: ofOtherKey } = await visit(elsewhere);
  for (const forged of [
    'ohp-target=',
    'ohp-target=0',
    `ohp-target=${one.url}`,
    'ohp-target=AAAAAAAAAAAAAAAA',
    ofOther,
    ofOtherKey,
  ]) {
    const got = [await visit(gateway, forged), await visit(gateway, forged)];
    assert.deepEqual(got.map(({ by }) => by).toSorted(byText), ['one', 'two'], String(forged));
    assert.ok(got.every(({ set, cookies }) => set?.length === 1 && cookies === ''));
  }
  const { by, cookie } = await visit(gateway);
  for (let i = 0; i < 3; i++) {
    const again = await visit(gateway, `ohp-target=of-a-sibling; ${cookie}`);
    assert.deepEqual([again.by, again.set], [by, undefined]);
  }
  // The value is good, and the name is near.
  const others = `not-ohp-target=1; ${cookie?.replace('ohp-target', 'ohp-target2')}`;
  const got = [await visit(gateway, others), await visit(gateway, others)];
  assert.deepEqual(got.map((one) => one.by).toSorted(byText), ['one', 'two']);
  assert.ok(got.every(({ set }) => set?.length === 1));
});

test('a session of MCP goes to its own target, and says nothing of where the browser stays', async () => {
  await using one = await named('one');
  await using two = await named('two');
  await using gateway = await startGateway({ protection, proxies: [sticking([one, two])] });
  for (let i = 0; i < 2; i++) {
    const { body, headers } = await ask(gateway, {
      headers: { 'mcp-session-id': 'opened-when-one-was-alone' },
    });
    assert.deepEqual([body, headers['set-cookie']], ['one:', undefined]);
  }
});

test('the cookie outlives a restart, whatever else of the proxy changes', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = sticking([one, two]);
  let cookie: string | undefined;
  {
    await using before = await startGateway({ protection, proxies: [proxy] });
    await visit(before);
    cookie = (await visit(before)).cookie;
  }
  const changed = { ...proxy, version: 2, preserve_host: false };
  await using gateway = await startGateway({ protection, proxies: [changed] });
  for (let i = 0; i < 3; i++) assert.equal((await visit(gateway, cookie)).by, 'two');
});

test('a drained target keeps who was there and gets nobody new', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = sticking([one, two]);
  await using gateway = await startGateway({ protection, proxies: [proxy] });
  await visit(gateway);
  const { cookie } = await visit(gateway);
  const targets = [{ url: two.url, drain: true }];
  put(gateway, { ...proxy, load_balancing: loadBalancing.parse({ targets, sticky: {} }) });
  for (let i = 0; i < 3; i++) {
    assert.equal((await visit(gateway)).by, 'one');
    assert.equal((await visit(gateway, cookie)).by, 'two');
  }
});

test('who was at a target that is away, out or gone gets another at once, and its cookie', async () => {
  const clock = new ManualClock();
  await using one = await named('one');
  await using two = await named('two');
  const proxy = sticking([one, two]);
  await using gateway = await startGateway({ clock, protection, proxies: [proxy] });
  const { cookie: ofOne } = await visit(gateway);
  const { cookie: ofTwo } = await visit(gateway);
  await stop(two);
  for (let i = 0; i < gatewayLimits.failuresUntilOut; i++) {
    const away = await visit(gateway, ofTwo);
    assert.deepEqual([away.status, away.by, away.cookie], [200, 'one', ofOne]);
  }
  assert.equal(gateway.gateway.targets(proxy.id)?.[1]?.state, 'unhealthy');
  const out = await visit(gateway, ofTwo);
  assert.deepEqual([out.by, out.cookie], ['one', ofOne]);
  const record = gateway.records.findLast(({ kind }) => kind === 'access');
  assert.equal(record?.detail?.tries, undefined, 'it was not even asked');
  await using three = await named('three');
  put(gateway, { ...sticking([one, three]), id: proxy.id });
  const gone = await visit(gateway, ofTwo);
  assert.ok(gone.cookie && gone.cookie !== ofTwo);
});

test('a target that its checks find sick loses who was there, drained or not', async () => {
  const clock = new ManualClock();
  let isSick = false;
  await using one = await named('one');
  await using two = await startUpstream((_request, response) => {
    response.statusCode = isSick ? 500 : 200;
    response.end('two:');
  });
  const health_check = { unhealthy_after: 1, interval_ms: 1000 };
  const targets = [{ url: two.url, drain: true }];
  const proxy = sticking([one, two], { health_check });
  await using gateway = await startGateway({ clock, protection, proxies: [proxy] });
  await visit(gateway);
  const { cookie } = await visit(gateway);
  put(gateway, {
    ...proxy,
    load_balancing: loadBalancing.parse({ targets, sticky: {}, health_check }),
  });
  assert.equal((await visit(gateway, cookie)).by, 'two');
  isSick = true;
  clock.advance(1000);
  while (gateway.gateway.targets(proxy.id)?.[1]?.reason === undefined) await new Promise(setImmediate);
  assert.equal((await visit(gateway, cookie)).by, 'one');
});

test('the name and the age of the cookie are what is set, and no target of the hostname sees it', async () => {
  await using one = await named('one');
  await using two = await named('two');
  await using other = await named('other');
  const sticky = { cookie: 'server', max_age_seconds: 3600 };
  await using gateway = await startGateway({
    protection,
    proxies: [sticking([one, two], { sticky })],
    routes: [routeOf(app, '/other', other.url)],
  });
  const { set, cookie } = await visit(gateway);
  assert.match(set?.[0] ?? '', /^server=[\w-]{16}; Path=\/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure$/);
  const again = await visit(gateway, `server2=b; ${cookie}`);
  assert.deepEqual([again.by, again.cookies], ['one', 'server2=b']);
  const elsewhere = await visit(gateway, `a=b; ${cookie}`, '/other');
  assert.deepEqual([elsewhere.by, elsewhere.cookies, elsewhere.set], ['other', 'a=b', undefined]);
});

test('over HTTP/2 too, where each cookie may have a field of its own', async () => {
  await using one = await named('one');
  await using two = await named('two');
  await using gateway = await startGateway({ protection, proxies: [sticking([one, two])] });
  const session = await http2Session(gateway);
  const first = await ask2(session, {});
  const cookie = first.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
  assert.match(cookie, /^ohp-target=/);
  for (let i = 0; i < 3; i++) {
    const again = await ask2(session, { cookie: ['a=b', cookie] as never });
    assert.deepEqual([again.body, again.headers['set-cookie']], ['one:a=b', undefined]);
  }
  session.close();
});

test('the answer to a WebSocket handshake sets the cookie, over HTTP/1.1 and HTTP/2, and one with it stays', async () => {
  await using one = await named('one');
  await using two = await named('two');
  for (const [i, { server }] of [one, two].entries())
    new WebSocketServer({ server }).on('connection', (socket) => socket.send(String(i)));
  await using gateway = await startGateway({ protection, proxies: [sticking([one, two])] });
  const open = async (cookie?: string) => {
    const options = { ca: caPem, headers: { host: app, ...(cookie && { cookie }) }, servername: app };
    const socket = new WebSocket(`wss://127.0.0.1:${gateway.httpsPort}/`, {
      ...options,
      checkServerIdentity: () => undefined as never,
    });
    const upgraded = once(socket, 'upgrade') as Promise<[IncomingMessage]>;
    const [[data], [reply]] = await Promise.all([once(socket, 'message'), upgraded]);
    socket.terminate();
    return { by: String(data), set: reply.headers['set-cookie'] };
  };
  const first = await open();
  assert.match(first.set?.[0] ?? '', /^ohp-target=[\w-]{16}; .*Secure$/);
  const cookie = first.set?.[0]?.split(';')[0] ?? '';
  for (let i = 0; i < 3; i++) assert.deepEqual(await open(cookie), { by: first.by, set: undefined });
  const session = await http2Session(gateway);
  const shake = async (more: Record<string, string> = {}) => {
    const stream = session.request(
      {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':scheme': 'https',
        ':path': '/',
        ':authority': app,
        'sec-websocket-version': '13',
        ...more,
      },
      { endStream: false },
    );
    const [headers] = await once(stream, 'response');
    stream.close();
    return headers as Record<string, string | string[]>;
  };
  const second = await shake();
  assert.deepEqual([second[':status'], String(second['set-cookie']).slice(0, 11)], [200, 'ohp-target=']);
  const stays = await shake({ cookie });
  assert.deepEqual([stays[':status'], stays['set-cookie']], [200, undefined]);
  session.close();
});
