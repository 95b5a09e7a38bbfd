/** Targets that name services: requests go where the service is now, and nowhere else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import { serviceOf, type ServiceTarget, type Stay } from '../proxies/target-url.ts';
import { eventually } from '../../test/support/eventually.ts';
import { ask, proxyOf, routeOf, startGateway, startUpstream } from '../../test/support/gateway.ts';
import { Dialer, TargetAway } from './dialer.ts';
import { LedPlace } from '../services/whereabouts.ts';
import { targetOf } from './target-of.ts';

const app = 'app.example.com';
const plain = { redirect_to_https: false } as const;

/** Answers with its name, the path and what of the request is asked for. */
const named = (name: string) =>
  startUpstream((request, response) =>
    response.end([name, request.url, request.headers.host, request.headers['x-secret']].join(' ')),
  );

/** Services that a test moves. */
function movable() {
  const places = new Map<string, { stay: (Stay & { isOver: boolean }) | undefined; reason: string }>();
  const followed: ServiceTarget[][] = [];
  let serial = 0;
  const placeOf = ({ name }: ServiceTarget) => {
    const place = places.get(name) ?? { stay: undefined, reason: `${name} does not run` };
    places.set(name, place);
    return place;
  };
  return {
    followed,
    whereabouts: { placeOf, follow: (targets: readonly ServiceTarget[]) => void followed.push([...targets]) },
    move(name: string, url: string | undefined) {
      const place = placeOf({ name, port: undefined });
      if (place.stay) place.stay.isOver = true;
      place.stay =
        url === undefined ? undefined : { url, host: `${name}:80`, key: String(++serial), isOver: false };
    },
  };
}

test('requests go where the service is, and get 503 when it is nowhere', async (t) => {
  const services = movable();
  const one = await named('one');
  const two = await named('two');
  const proxy = proxyOf(app, 'service://blog:80/base', { ...plain, preserve_host: false });
  const gateway = await startGateway({ services: services.whereabouts, proxies: [proxy] });
  t.after(() => Promise.all([gateway, one, two].map((each) => each[Symbol.asyncDispose]())));
  const away = await ask(gateway, { path: '/x' });
  assert.equal(away.status, 503);
  assert.equal(away.headers['retry-after'], '1');
  assert.doesNotMatch(away.body, /blog/);
  assert.match(JSON.stringify(await gateway.record(({ status }) => status === 503)), /blog does not run/);
  services.move('blog', one.url);
  assert.equal((await ask(gateway, { path: '/x' })).body, 'one /base/x blog:80 ');
  services.move('blog', `${two.url}/v1/`);
  assert.equal((await ask(gateway, { path: '/x' })).body, 'two /v1/base/x blog:80 ');
  services.move('blog', undefined);
  assert.equal((await ask(gateway)).status, 503);
});

test('no new connection is made to where a service is no more', async () => {
  const stay = { url: 'http://127.0.0.1:9', host: 'blog', key: '1', isOver: false };
  const target = targetOf(new URL(stay.url), {
    proxy: proxyOf(app, 'service://blog:80'),
    isOneOfSeveral: false,
    stay,
  });
  const clock = new ManualClock();
  const dialer = new Dialer(target, { clock, own: () => [] });
  const dial = () =>
    new Promise((resolve) =>
      dialer.dial({ hostname: '127.0.0.1', protocol: 'http:', port: '9', host: '' }, (...[error]) =>
        resolve(error),
      ),
    );
  const waiting = dial();
  let isOver = false;
  void waiting.then(() => (isOver = true));
  stay.isOver = true;
  // It refuses, and is asked again after a moment: by then it is somebody else's.
  await eventually(async () => {
    clock.advance(50);
    return isOver ? true : undefined;
  }, 'the end of the waiting');
  assert.ok((await waiting) instanceof TargetAway);
  assert.ok((await dial()) instanceof TargetAway);
});

test('a connection that was made after the service had gone is not used', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const stay = { url: `http://127.0.0.1:${port}`, host: 'blog', key: '1', isOver: false };
  const proxy = proxyOf(app, 'service://blog:80');
  const dialer = new Dialer(targetOf(new URL(stay.url), { proxy, isOneOfSeveral: false, stay }), {
    clock: new ManualClock(),
    own: () => [],
  });
  const accepted = once(server, 'connection');
  const { promise, resolve } = Promise.withResolvers<unknown>();
  dialer.dial({ hostname: '127.0.0.1', protocol: 'http:', port: String(port), host: '' }, (...[error]) =>
    resolve(error),
  );
  stay.isOver = true;
  assert.ok((await promise) instanceof TargetAway);
  const [socket] = (await accepted) as [Socket];
  socket.on('error', () => {}).resume();
  await once(socket, 'close');
});

test('one of several targets that is nowhere is passed over, and back with its first address', async (t) => {
  const services = movable();
  const one = await named('one');
  const two = await named('two');
  const proxy = proxyOf(app, 'service://blog:80', {
    ...plain,
    load_balancing: loadBalancing.parse({ targets: [{ url: two.url }] }),
  });
  const gateway = await startGateway({ services: services.whereabouts, proxies: [proxy] });
  t.after(() => Promise.all([gateway, one, two].map((each) => each[Symbol.asyncDispose]())));
  const names = async (count: number) => {
    const found: string[] = [];
    for (let i = 0; i < count; i++) found.push((await ask(gateway)).body.split(' ')[0] ?? '');
    return found.sort();
  };
  assert.deepEqual(
    await names(6),
    Array.from({ length: 6 }, () => 'two'),
  );
  services.move('blog', one.url);
  assert.deepEqual(await names(4), ['one', 'one', 'two', 'two']);
  assert.deepEqual(
    gateway.gateway.targets(proxy.id)?.map(({ open_requests }) => open_requests),
    [0, 0],
  );
});

test('a header that the proxy sets goes to its own service, not to another one that a route names', async (t) => {
  const services = movable();
  const one = await named('one');
  const two = await named('two');
  services.move('blog', one.url);
  services.move('shop', two.url);
  const request_headers = { remove: [], set: { 'X-Secret': 'canary' } };
  const proxy = proxyOf(app, 'service://blog:80', { ...plain, request_headers });
  const routes = [routeOf(app, '/shop', 'service://shop:80'), routeOf(app, '/own', 'service://blog:80/own')];
  const gateway = await startGateway({ services: services.whereabouts, proxies: [proxy], routes });
  t.after(() => Promise.all([gateway, one, two].map((each) => each[Symbol.asyncDispose]())));
  assert.match((await ask(gateway, { path: '/' })).body, /^one .*canary$/);
  assert.match((await ask(gateway, { path: '/own' })).body, /^one \/own.*canary$/);
  assert.doesNotMatch((await ask(gateway, { path: '/shop' })).body, /canary/);
});

test('who leads to services is counted as proxies and routes come and go; others cost nothing', async (t) => {
  const { whereabouts, followed } = movable();
  const gateway = await startGateway({
    services: whereabouts,
    proxies: [proxyOf('b.example.com', 'http://127.0.0.1:9')],
  });
  t.after(() => gateway[Symbol.asyncDispose]());
  const { publisher } = gateway.gateway;
  const proxy = proxyOf(app, 'service://blog:80');
  const route = routeOf(null, '/api', 'service://api');
  publisher.prepare({ putProxies: [proxyOf('c.example.com', 'http://127.0.0.1:9')] }).publish();
  assert.deepEqual(followed, []);
  publisher.prepare({ putProxies: [proxy] }).publish();
  publisher.prepare({ putRoutes: [route] }).publish();
  publisher.prepare({ putProxies: [{ ...proxy, target_url: 'http://127.0.0.1:9' }] }).publish();
  publisher.prepare({ removeRoutes: [route.id] }).publish();
  assert.deepEqual(followed, [
    [serviceOf('service://blog:80')],
    [serviceOf('service://blog:80'), serviceOf('service://api')],
    [serviceOf('service://api')],
    [],
  ]);
});

test('of a service with replicas each gets its turn, a browser that is to stay gets one, and a check asks all', async (t) => {
  const clock = new ManualClock();
  const sick = new Set<string>();
  const checked = await Promise.all(
    ['one', 'two'].map((name) =>
      startUpstream((request, response) => {
        response.statusCode = sick.has(name) && request.url === '/health' ? 500 : 200;
        response.end(name);
      }),
    ),
  );
  const place = new LedPlace({ name: 'blog', port: 80 }, undefined);
  const leadTo = (those: readonly { url: string }[]) => {
    const ports = those.map(({ url }) => ({
      containerPort: 80,
      protocol: 'tcp',
      hostAddress: '127.0.0.1',
      hostPort: Number(new URL(url).port),
    }));
    const replicas = { wanted: those.length, running: those.length };
    place.leadTo({ id: 'svc', generation: 1 }, { id: 'svc', ports, networks: [], replicas }, '');
  };
  leadTo(checked);
  const services = { placeOf: () => place, follow: () => {} };
  const several = (url: string, more: object) => loadBalancing.parse({ targets: [{ url }], ...more });
  const inTurn = proxyOf(app, 'service://blog:80', plain);
  const staying = proxyOf('stay.example.com', 'service://blog:80', {
    ...plain,
    load_balancing: several('service://blog:80', { sticky: {} }),
  });
  const asked = proxyOf('checked.example.com', 'service://blog:80', {
    ...plain,
    load_balancing: several('http://127.0.0.1:9', {
      health_check: { path: '/health', unhealthy_after: 1, healthy_after: 1 },
    }),
  });
  const gateway = await startGateway({ clock, services, proxies: [inTurn, staying, asked] });
  t.after(() => Promise.all([gateway, ...checked].map((each) => each[Symbol.asyncDispose]())));
  const bodies = async (host: string) => {
    const found: string[] = [];
    for (let i = 0; i < 4; i++) found.push((await ask(gateway, { host })).body);
    return found.sort();
  };
  assert.deepEqual(await bodies(app), ['one', 'one', 'two', 'two']);
  const [first] = await bodies('stay.example.com');
  assert.deepEqual(await bodies('stay.example.com'), [first, first, first, first]);
  const state = () => gateway.gateway.targets(asked.id)?.[0]?.state;
  const check = async (becomes: string) => {
    const before = checked.map(({ requests }) => requests.length);
    clock.advance(10_000);
    await eventually(
      async () => checked.every(({ requests }, i) => requests.length > (before[i] ?? 0)) || undefined,
      'each is asked',
    );
    await eventually(async () => state() === becomes || undefined, becomes);
    // A check that is still under way would leave out the next one.
    const isQuiet = () => gateway.gateway.upstreams().every((upstream) => upstream.requests === 0);
    await eventually(async () => isQuiet() || undefined, 'every answer');
  };
  sick.add('one');
  await check('healthy');
  sick.add('two');
  await check('unhealthy');
  sick.delete('one');
  await check('healthy');
});
