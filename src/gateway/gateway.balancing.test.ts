/** Several targets of one proxy, with real ones: who gets what, what happens when they fail, and what is told of it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from 'node:net';
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
  principalOf,
  proxyOf,
  raw,
  routeOf,
  startGateway,
  startUpstream,
  type Upstream,
} from '../../test/support/gateway.ts';
import { testRequest } from '../routes/test-request.ts';
import { gatewayLimits } from './settings.ts';

const app = 'app.example.com';
const admin = principalOf('tok_admin', ['routes:read']);
const plain = { redirect_to_https: false } as const;

/** Answers with its name, and with the body that it got. */
const named = (name: string) =>
  startUpstream((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => response.end(`${name}${request.url === '/' ? '' : request.url}:${body}`));
  });

type Balancing = Partial<z.input<typeof loadBalancing>>;

const byText = (one = '', other = '') => one.localeCompare(other);

function balanced(targets: readonly { url: string }[], more: Balancing = {}) {
  const [first, ...others] = targets.map(({ url }) => url);
  return proxyOf(app, first ?? '', {
    ...plain,
    load_balancing: loadBalancing.parse({ targets: others.map((url) => ({ url })), ...more }),
  });
}

const get = async (gateway: Fixture, path = '/') => (await ask(gateway, { path })).body.split(':')[0];

const statesOf = (gateway: Fixture, id: string) =>
  gateway.gateway.targets(id)?.map(({ state, open_requests }) => [state, open_requests]);

/** Takes connections, reads a request, and closes without an answer. */
async function startCutter() {
  let requests = 0;
  const server: Server = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      requests++;
      socket.destroy();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: () => requests,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, 'close');
    },
  };
}

async function stop(upstream: Upstream): Promise<number> {
  const { port } = upstream.server.address() as AddressInfo;
  upstream.server.closeAllConnections();
  upstream.server.close();
  await once(upstream.server, 'close');
  return port;
}

async function restart(upstream: Upstream, port: number): Promise<void> {
  upstream.server.listen(port, '127.0.0.1');
  await once(upstream.server, 'listening');
}

test('two targets are enough said: requests go to them in turn, over HTTP/1.1 and HTTP/2, and the record names who answered', async () => {
  await using one = await named('one');
  await using two = await named('two');
  await using gateway = await startGateway({ proxies: [balanced([one, two])] });
  assert.deepEqual(
    [await get(gateway), await get(gateway), await get(gateway), await get(gateway)],
    ['one', 'two', 'one', 'two'],
  );
  const session = await http2Session(gateway);
  assert.equal((await ask2(session, {})).body, 'one:');
  assert.equal((await ask2(session, { ':method': 'POST' }, 'hello')).body, 'two:hello');
  session.close();
  const record = await gateway.record(({ method }) => method === 'POST');
  assert.deepEqual([record.detail?.target, record.detail?.tries], [two.url, undefined]);
});

test('weights share, and each target has its own path in front', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const targets = [
    { url: one.url, weight: 2 },
    { url: `${two.url}/base`, weight: 1 },
  ];
  await using gateway = await startGateway({ proxies: [balanced([one], { targets })] });
  const got = [];
  for (let i = 0; i < 6; i++) got.push(await get(gateway, '/x'));
  assert.deepEqual(got.toSorted(byText), ['one/x', 'one/x', 'one/x', 'one/x', 'two/base/x', 'two/base/x']);
});

test('a route to another target goes there alone; one to the target of the proxy goes to all of them', async () => {
  await using one = await named('one');
  await using two = await named('two');
  await using other = await named('other');
  await using gateway = await startGateway({
    proxies: [balanced([one, two])],
    routes: [routeOf(app, '/other', other.url), routeOf(app, '/same', one.url)],
  });
  for (let i = 0; i < 3; i++) assert.equal(await get(gateway, '/other'), 'other/other');
  assert.deepEqual([await get(gateway, '/same'), await get(gateway, '/same')].toSorted(byText), [
    'one/same',
    'two/same',
  ]);
});

test('headers that the proxy sets reach each of its targets', async () => {
  const seen: unknown[] = [];
  const listen = () =>
    startUpstream((request, response) => {
      seen.push(request.headers['x-key']);
      response.end();
    });
  await using one = await listen();
  await using two = await listen();
  const request_headers = { remove: [], set: { 'x-key': 'k' } };
  await using gateway = await startGateway({ proxies: [{ ...balanced([one, two]), request_headers }] });
  await get(gateway);
  await get(gateway);
  assert.deepEqual(seen, ['k', 'k']);
});

test('by connections, who is busy gets nothing while another is free', async () => {
  const held: (() => void)[] = [];
  await using slow = await startUpstream((_request, response) => {
    held.push(() => response.end('slow:'));
  });
  await using fast = await named('fast');
  const proxy = balanced([slow, fast], { targets: [{ url: fast.url }], policy: 'least_connections' });
  await using gateway = await startGateway({ proxies: [proxy] });
  const waiting = get(gateway);
  while (held.length === 0) await new Promise(setImmediate);
  for (let i = 0; i < 4; i++) assert.equal(await get(gateway), 'fast');
  assert.deepEqual(statesOf(gateway, proxy.id)?.[0], ['healthy', 1]);
  held[0]?.();
  assert.equal(await waiting, 'slow');
});

test('a target killed under traffic: no client of a request that may be repeated sees an error', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = balanced([one, two]);
  await using gateway = await startGateway({ proxies: [proxy] });
  let isKilled = false;
  let afterwards = 0;
  const client = async () => {
    while (afterwards < 60) {
      assert.equal((await ask(gateway)).status, 200);
      if (isKilled) afterwards++;
    }
  };
  const clients = Array.from({ length: 8 }, client);
  while (gateway.records.length < 40) await new Promise(setImmediate);
  await stop(one);
  isKilled = true;
  await Promise.all(clients);
  assert.equal(statesOf(gateway, proxy.id)?.[0]?.[0], 'unhealthy');
  const told = gateway.records.filter(({ kind }) => kind === 'system');
  assert.equal(told.length, 1, 'once');
  assert.match(
    told[0]?.message ?? '',
    /^app\.example\.com: target .* gets no requests for a time: ECONNREFUSED/,
  );
});

test('a body reaches the next target whole when the first refuses the connection, however it is framed', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = balanced([one, two], { targets: [{ url: two.url }] });
  await using gateway = await startGateway({ clock: new ManualClock(), proxies: [proxy] });
  await stop(one);
  const post = `POST / HTTP/1.1\r\nHost: ${app}\r\nConnection: close\r\n`;
  const chunked = 'Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5\r\nhello\r\n0\r\n\r\n';
  assert.match(await raw(gateway.httpPort, `${post}Content-Length: 5\r\n\r\nhello`), / 200 [^]*two:hello/);
  await get(gateway);
  assert.match(await raw(gateway.httpPort, `${post}${chunked}`), / 200 [^]*two:hello/);
  const records = gateway.records.filter(({ method }) => method === 'POST');
  assert.deepEqual(
    records.map(({ detail }) => detail?.tries),
    [2, 2],
    'each was tried first at the one that is away',
  );
});

test('a POST that may have reached a target is never sent twice', async () => {
  await using cutter = await startCutter();
  await using two = await named('two');
  await using gateway = await startGateway({ proxies: [balanced([cutter, two])] });
  const got = [];
  for (let i = 0; i < 4; i++) got.push((await ask(gateway, { method: 'POST', body: 'x' })).status);
  assert.deepEqual(got, [502, 200, 502, 200]);
  assert.deepEqual([cutter.requests(), two.requests.length], [2, 2]);
});

test('when all fail, the budget keeps what is sent twice to a share of the requests', async () => {
  await using one = await startCutter();
  await using two = await startCutter();
  const retries = { tries: 2, budget_percent: 10 };
  const proxy = balanced([one, two], { targets: [{ url: two.url }], retries });
  await using gateway = await startGateway({ proxies: [proxy] });
  const requests = 300;
  let unavailable = 0;
  for (let i = 0; i < requests; i++) {
    if ((await ask(gateway)).status === 503) unavailable++;
  }
  assert.equal(unavailable, 0);
  const sent = one.requests() + two.requests();
  assert.ok(sent <= requests + gatewayLimits.retryReserve + requests / 10, `${sent} sent`);
  assert.ok(sent > requests, 'but some are');
});

test('with none but targets that are out, one request at a time is a trial and the others get 503', async () => {
  const clock = new ManualClock();
  const held: (() => void)[] = [];
  let isHolding = false;
  await using one = await startUpstream((request, response) => {
    if (!isHolding) request.socket.destroy();
    else held.push(() => response.end('one:'));
  });
  await using two = await startCutter();
  const proxy = balanced([one, two], { targets: [{ url: two.url, drain: true }] });
  await using gateway = await startGateway({ clock, proxies: [proxy] });
  for (let i = 0; i < gatewayLimits.failuresUntilOut; i++) assert.equal((await ask(gateway)).status, 502);
  while (gateway.gateway.connections().requests > 0) await new Promise(setImmediate);
  assert.deepEqual(statesOf(gateway, proxy.id), [
    ['unhealthy', 0],
    ['drained', 0],
  ]);
  isHolding = true;
  const trial = get(gateway);
  while (held.length === 0) await new Promise(setImmediate);
  assert.equal(statesOf(gateway, proxy.id)?.[0]?.[0], 'trial');
  const refused = await ask(gateway);
  assert.deepEqual([refused.status, refused.headers['retry-after']], [503, '1']);
  assert.match(refused.body, /None of the targets behind this hostname answers/);
  held[0]?.();
  assert.equal(await trial, 'one');
  assert.equal(statesOf(gateway, proxy.id)?.[0]?.[0], 'healthy');
  assert.equal(two.requests(), 0, 'a drained one gets nothing');
});

test('a target that was out comes back after its time by one request, each time later when that fails', async () => {
  const clock = new ManualClock();
  await using one = await named('one');
  await using two = await named('two');
  const proxy = balanced([one, two]);
  await using gateway = await startGateway({ clock, proxies: [proxy] });
  const state = () => statesOf(gateway, proxy.id)?.[0]?.[0];
  const port = await stop(one);
  for (let i = 0; i < gatewayLimits.failuresUntilOut * 2; i++) assert.equal(await get(gateway), 'two');
  assert.equal(state(), 'unhealthy');
  clock.advance(gatewayLimits.outMs);
  assert.equal(state(), 'trial');
  for (let i = 0; i < 2; i++) assert.equal(await get(gateway), 'two');
  await restart(one, port);
  clock.advance(gatewayLimits.outMs);
  for (let i = 0; i < 4; i++) assert.equal(await get(gateway), 'two', 'twice as long');
  clock.advance(gatewayLimits.outMs);
  const got = new Set([await get(gateway), await get(gateway)]);
  assert.deepEqual([...got].toSorted(byText), ['one', 'two']);
  assert.equal(state(), 'healthy');
});

test('what is known of a target outlives changes of its proxy and of others, and ends with the target', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = balanced([one, two]);
  await using gateway = await startGateway({ clock: new ManualClock(), proxies: [proxy] });
  await stop(one);
  for (let i = 0; i < gatewayLimits.failuresUntilOut * 2; i++) await get(gateway);
  const put = (putProxies: (typeof proxy)[]) => gateway.gateway.publisher.prepare({ putProxies }).publish();
  put([proxyOf('other.example.com', two.url)]);
  put([{ ...proxy, version: 2 }]);
  assert.equal(statesOf(gateway, proxy.id)?.[0]?.[0], 'unhealthy');
  const alone = { ...proxy, load_balancing: undefined };
  put([alone]);
  assert.equal(statesOf(gateway, proxy.id), undefined);
  put([proxy]);
  assert.equal(statesOf(gateway, proxy.id)?.[0]?.[0], 'healthy', 'begun anew');
  gateway.gateway.publisher.prepare({ removeProxies: [proxy.id] }).publish();
  assert.equal(statesOf(gateway, proxy.id), undefined);
});

test('sockets are spread too, go to another target when one is away, and count as open until they close', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const servers = [one, two].map(({ server }) => new WebSocketServer({ server }));
  for (const [i, server] of servers.entries()) server.on('connection', (socket) => socket.send(String(i)));
  const proxy = balanced([one, two]);
  await using gateway = await startGateway({ proxies: [proxy] });
  const open = async () => {
    const options = { ca: caPem, headers: { host: app }, servername: app };
    const socket = new WebSocket(`wss://127.0.0.1:${gateway.httpsPort}/`, {
      ...options,
      checkServerIdentity: () => undefined as never,
    });
    const [data] = await once(socket, 'message');
    return { socket, by: String(data) };
  };
  const first = await open();
  const second = await open();
  assert.deepEqual([first.by, second.by], ['0', '1']);
  assert.deepEqual(statesOf(gateway, proxy.id), [
    ['healthy', 1],
    ['healthy', 1],
  ]);
  first.socket.terminate();
  await gateway.record(({ detail }) => detail?.target === one.url);
  assert.equal(statesOf(gateway, proxy.id)?.[0]?.[1], 0);
  await stop(one);
  const third = await open();
  assert.equal(third.by, '1');
  second.socket.terminate();
  third.socket.terminate();
});

test('test_route tells which targets could get a request, by the state that serves', async () => {
  await using one = await named('one');
  await using two = await named('two');
  const proxy = balanced([one, two]);
  await using gateway = await startGateway({
    clock: new ManualClock(),
    proxies: [proxy],
    routes: [routeOf(app, '/other', 'http://127.0.0.1:9')],
  });
  const told = (path: string) =>
    testRequest(`https://${app}${path}`, 'GET', admin, {
      table: gateway.gateway.snapshot().table,
      controlHosts: new Set(['localhost']),
      mcpHosts: [],
      ports: { http: 80, https: 443 },
      targetStates: (id) => gateway.gateway.targets(id),
      leadingTo: () => ({}),
    }).targets;
  const [first, second] = [one, two].map(({ url }) => ({ url, state: 'healthy' }));
  assert.deepEqual(told('/'), [first, second]);
  assert.equal(told('/other'), undefined);
  await stop(one);
  for (let i = 0; i < gatewayLimits.failuresUntilOut * 2; i++) await get(gateway);
  assert.deepEqual(told('/'), [second]);
});

test('a client that goes away leaves nothing behind, in a trial neither', async () => {
  const clock = new ManualClock();
  let isSilent = false;
  await using one = await startUpstream((request, response) => {
    if (!isSilent) request.socket.destroy();
    else response.on('error', () => {});
  });
  await using two = await startCutter();
  const proxy = balanced([one, two], { targets: [{ url: two.url, drain: true }] });
  await using gateway = await startGateway({ clock, proxies: [proxy] });
  for (let i = 0; i < gatewayLimits.failuresUntilOut; i++) await ask(gateway);
  isSilent = true;
  const before = one.requests.length;
  const socket = connect(gateway.httpPort, '127.0.0.1');
  socket.write(`GET /gone HTTP/1.1\r\nHost: ${app}\r\n\r\n`);
  while (one.requests.length === before) await new Promise(setImmediate);
  assert.deepEqual(statesOf(gateway, proxy.id)?.[0], ['trial', 1]);
  socket.destroy();
  await gateway.record(({ path }) => path === '/gone');
  assert.deepEqual(statesOf(gateway, proxy.id)?.[0], ['unhealthy', 0]);
});
