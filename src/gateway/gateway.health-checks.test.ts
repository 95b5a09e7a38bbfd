/** Health checks of several targets, with real ones and a clock that is moved. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import type { Lookup } from './dialer.ts';
import { gatewayLimits } from './settings.ts';
import type { Proxy } from '../proxies/schema.ts';
import {
  ask,
  type Fixture,
  proxyOf,
  settled,
  startGateway,
  startUpstream,
  type Upstream,
} from '../../test/support/gateway.ts';

const app = 'app.example.com';
const INTERVAL_MS = 10_000;

/** Answers requests with 200 whatever happens, and checks with the status at hand; 0: not at all. */
async function startChecked(name: string) {
  const state = { status: 204, asked: 0 };
  const upstream = await startUpstream((request, response) => {
    if (request.headers['user-agent'] !== 'ohp-health-check') {
      response.end(name);
      return;
    }
    state.asked++;
    response.on('error', () => {});
    if (state.status === 0) return;
    response.statusCode = state.status;
    response.end();
  });
  return Object.assign(upstream, { state });
}

const checkedProxy = (one: Upstream, two: Upstream, health_check: object | undefined) =>
  proxyOf(app, one.url, {
    load_balancing: loadBalancing.parse({ targets: [{ url: two.url }], health_check }),
  });

/** Lets one interval pass, and waits until each target was asked and what it said was heard. */
async function interval(clock: ManualClock, targets: readonly { state: { asked: number } }[]): Promise<void> {
  const before = targets.map(({ state }) => state.asked);
  clock.advance(INTERVAL_MS);
  await until(() => targets.every(({ state }, i) => state.asked > (before[i] ?? 0)));
  await settled(() => targets.reduce((sum, { state }) => sum + state.asked, 0));
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise(setImmediate);
}

const stateOf = (gateway: Fixture, id: string) => gateway.gateway.targets(id)?.[0];

test('a target that its checks find sick gets nothing, and gets requests again when they find it well', async () => {
  const clock = new ManualClock();
  await using one = await startChecked('one');
  await using two = await startChecked('two');
  const proxy = checkedProxy(one, two, { path: '/health?deep', unhealthy_after: 1, healthy_after: 1 });
  await using gateway = await startGateway({ clock, proxies: [proxy] });
  one.state.status = 500;
  await interval(clock, [one, two]);
  await until(() => stateOf(gateway, proxy.id)?.state === 'unhealthy');
  assert.equal(stateOf(gateway, proxy.id)?.reason, 'health check: status 500');
  assert.equal(one.requests[0]?.url, '/health?deep');
  assert.equal(one.requests[0]?.headers.host, app);
  for (let i = 0; i < 3; i++) assert.equal((await ask(gateway)).body, 'two');
  one.state.status = 200;
  await interval(clock, [one, two]);
  await until(() => stateOf(gateway, proxy.id)?.state === 'healthy');
  assert.deepEqual(new Set([(await ask(gateway)).body, (await ask(gateway)).body]), new Set(['one', 'two']));
  assert.equal(gateway.records.filter(({ kind }) => kind === 'system').length, 2, 'each change is told once');
  const answered = gateway.records.filter(({ kind }) => kind === 'access');
  assert.ok(
    answered.every(({ path }) => path === '/'),
    'checks are in no access record',
  );
});

test('it takes as many checks in a row as are set, and a late answer is a failure', async () => {
  const clock = new ManualClock();
  await using one = await startChecked('one');
  await using two = await startChecked('two');
  const proxy = checkedProxy(one, two, { timeout_ms: 1000, unhealthy_after: 2, statuses: [204] });
  await using gateway = await startGateway({ clock, proxies: [proxy] });
  const state = () => stateOf(gateway, proxy.id)?.state;
  one.state.status = 200;
  await interval(clock, [one, two]);
  assert.equal(state(), 'healthy', 'one is not enough');
  one.state.status = 0;
  await interval(clock, [one, two]);
  clock.advance(1000);
  await until(() => state() === 'unhealthy');
  assert.match(stateOf(gateway, proxy.id)?.reason ?? '', /health check: no answer within 1000 ms/);
});

test('with every target sick the answer is 503; without checks only requests tell', async () => {
  const clock = new ManualClock();
  await using one = await startChecked('one');
  await using two = await startChecked('two');
  const proxy = checkedProxy(one, two, { unhealthy_after: 1 });
  await using gateway = await startGateway({ clock, proxies: [proxy] });
  one.state.status = 503;
  two.state.status = 503;
  await interval(clock, [one, two]);
  await until(() => gateway.gateway.targets(proxy.id)?.every(({ state }) => state === 'unhealthy') === true);
  assert.equal((await ask(gateway)).status, 503);
  const unchecked = checkedProxy(one, two, undefined);
  gateway.gateway.publisher.prepare({ putProxies: [{ ...unchecked, id: proxy.id }] }).publish();
  assert.equal((await ask(gateway)).status, 200);
  const before = one.state.asked;
  clock.advance(INTERVAL_MS * 3);
  await ask(gateway);
  await ask(gateway);
  assert.equal(one.state.asked, before, 'nobody asks any more');
});

test('checks end with their proxy and with the gateway', async () => {
  const clock = new ManualClock();
  await using one = await startChecked('one');
  await using two = await startChecked('two');
  const proxy = checkedProxy(one, two, {});
  const gateway = await startGateway({
    clock,
    proxies: [proxy, { ...proxy, id: 'prx_x', hostname: 'x.example.com' }],
  });
  await interval(clock, [one, two]);
  gateway.gateway.publisher.prepare({ removeProxies: [proxy.id] }).publish();
  const before = one.state.asked;
  await interval(clock, [one, two]);
  assert.equal(one.state.asked, before + 1, 'of the other proxy alone');
  await gateway[Symbol.asyncDispose]();
  clock.advance(INTERVAL_MS * 3);
  await new Promise(setImmediate);
  assert.equal(one.state.asked, before + 1);
});

test('a target that has not answered yet is not asked again', async () => {
  const clock = new ManualClock();
  await using one = await startChecked('one');
  await using two = await startChecked('two');
  const proxies = [checkedProxy(one, two, { timeout_ms: 60_000 })];
  await using _gateway = await startGateway({ clock, proxies });
  one.state.status = 0;
  for (let i = 0; i < 3; i++) await interval(clock, [two]);
  assert.deepEqual([one.state.asked, two.state.asked], [1, 3]);
});

test('all checks together have a limit, and those that are over make room', async () => {
  const clock = new ManualClock();
  await using upstream = await startChecked('all');
  upstream.state.status = 0;
  const { port } = new URL(upstream.url);
  const urls = Array.from({ length: gatewayLimits.healthChecks + 4 }, (_, i) => `http://t${i}.test:${port}`);
  const health_check = { timeout_ms: 60_000, unhealthy_after: 1 };
  const proxies: Proxy[] = [];
  for (let i = 0; i < urls.length; i += 4) {
    const [first = '', ...others] = urls.slice(i, i + 4);
    const load_balancing = loadBalancing.parse({ targets: others.map((url) => ({ url })), health_check });
    proxies.push(proxyOf(`h${i}.example.com`, first, { load_balancing }));
  }
  await using gateway = await startGateway({ clock, proxies, lookup: loopback });
  const sick = () =>
    proxies
      .flatMap(({ id }) => gateway.gateway.targets(id) ?? [])
      .filter(({ state }) => state === 'unhealthy').length;
  clock.advance(INTERVAL_MS);
  await until(() => upstream.state.asked === gatewayLimits.healthChecks);
  clock.advance(INTERVAL_MS);
  assert.equal(await settled(() => upstream.state.asked), gatewayLimits.healthChecks);
  upstream.server.closeAllConnections();
  await until(() => sick() === gatewayLimits.healthChecks);
  upstream.state.status = 204;
  clock.advance(INTERVAL_MS);
  await until(() => upstream.state.asked === 2 * gatewayLimits.healthChecks);
});

const loopback: Lookup = (_hostname, _options, done) => done(null, [{ address: '127.0.0.1', family: 4 }]);
