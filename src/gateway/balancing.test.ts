/** What is known of a target, by itself: whom it lets in, what brings it back, what is forgotten. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import { proxyOf } from '../../test/support/gateway.ts';
import { Endpoint, Group } from './balancing.ts';
import { gatewayLimits } from './settings.ts';

const { outMs, longestOutMs, failuresUntilOut, retryReserve } = gatewayLimits;
const target = { url: 'http://10.0.0.1', weight: 1, drain: false };

function setUp() {
  const clock = new ManualClock();
  const told: LogRecord[] = [];
  const log = { write: (record: LogRecord) => void told.push(record), enabled: () => true };
  const never = () => {
    throw new Error('nobody is asked');
  };
  const options = {
    clock,
    log,
    upstreams: { of: never },
    services: { placeOf: never },
    mark: (text: string) => text,
  };
  const endpoint = new Endpoint(target.url, 'app.example.com', options);
  const fail = (times: number = failuresUntilOut, holder = {}) => {
    for (let i = 0; i < times; i++) endpoint.failed(holder, 'refused');
  };
  const state = () => endpoint.state(target);
  /** One request that decides: it fails. */
  const failTrial = () => {
    const holder = {};
    endpoint.take(holder);
    endpoint.failed(holder, 'still refused');
    endpoint.release(holder);
  };
  /** How long it stays out from now on. */
  const outFor = () => endpoint.outUntil - clock.now();
  return { clock, told, endpoint, fail, state, failTrial, outFor, options };
}

test('only failures in a row take a target out, and the count begins anew after it was out', () => {
  const { endpoint, fail, state, clock } = setUp();
  fail(failuresUntilOut - 1);
  endpoint.succeeded({});
  fail(failuresUntilOut - 1);
  assert.equal(state().state, 'healthy');
  fail(1);
  assert.equal(state().state, 'unhealthy');
  clock.advance(outMs);
  const trial = {};
  endpoint.take(trial);
  endpoint.succeeded(trial);
  fail(failuresUntilOut - 1);
  assert.equal(state().state, 'healthy');
});

test('while a target is out, only the request that decides says whether it is back', () => {
  const { endpoint, fail, state, clock, outFor, told } = setUp();
  const early = {};
  endpoint.take(early);
  fail();
  endpoint.succeeded(early);
  endpoint.failed(early, 'late news');
  assert.deepEqual([state().state, state().reason, outFor()], ['unhealthy', 'refused', outMs]);
  clock.advance(outMs);
  assert.equal(state().state, 'trial', 'it waits for one');
  const trial = {};
  endpoint.take(trial);
  endpoint.succeeded(early);
  endpoint.failed(early, 'late news');
  assert.deepEqual([endpoint.isOnTrial, state().state, outFor()], [true, 'trial', 0]);
  endpoint.release(early);
  assert.equal(endpoint.isOnTrial, true);
  endpoint.succeeded(trial);
  assert.deepEqual([endpoint.isOnTrial, state().state, state().reason], [false, 'healthy', undefined]);
  assert.deepEqual(
    told.map(({ level }) => level),
    ['warn', 'info'],
  );
});

test('a trial that ends without an answer leaves room for the next one', () => {
  const { endpoint, fail, clock } = setUp();
  fail();
  clock.advance(outMs);
  const gone = {};
  endpoint.take(gone);
  endpoint.release(gone);
  assert.deepEqual([endpoint.isOnTrial, endpoint.open], [false, 0]);
});

test('each time out in a row is twice as long, up to the longest, told once and with the newest reason', () => {
  const { fail, failTrial, outFor, clock, state, told } = setUp();
  fail();
  const { since } = state();
  for (let expected = outMs * 2; expected < longestOutMs * 8; expected *= 2) {
    clock.advance(outFor());
    failTrial();
    assert.equal(outFor(), Math.min(longestOutMs, expected));
  }
  assert.deepEqual([state().reason, state().since, told.length], ['still refused', since, 1]);
});

test('times out are forgotten by a target that was well for as long as the first, not before', () => {
  const { endpoint, fail, outFor, clock } = setUp();
  const back = () => {
    clock.advance(outFor());
    const trial = {};
    endpoint.take(trial);
    endpoint.succeeded(trial);
  };
  fail();
  back();
  clock.advance(outMs - 1);
  endpoint.succeeded({});
  fail();
  assert.equal(outFor(), outMs * 2);
  back();
  clock.advance(outMs);
  endpoint.succeeded({});
  fail();
  assert.equal(outFor(), outMs);
});

test('checks count in a row, up and down, and none that were before', () => {
  const { endpoint } = setUp();
  const settings = loadBalancing.parse({
    targets: [target],
    health_check: { path: '/', healthy_after: 2, unhealthy_after: 3 },
  }).health_check;
  assert.ok(settings);
  const check = (...faults: (string | undefined)[]) => {
    for (const fault of faults) endpoint.checked(fault, settings);
    return endpoint.isSick;
  };
  assert.equal(check('a', 'b', undefined, 'a', 'b'), false);
  assert.equal(check('c'), true);
  assert.equal(check(undefined, 'a', undefined), true);
  assert.equal(check(undefined), false);
  assert.equal(check('a', 'b'), false);
  endpoint.unchecked();
  assert.equal(check('c', 'd'), false, 'who checks now begins anew');
  assert.equal(check('e'), true);
  endpoint.unchecked();
  assert.equal(endpoint.isSick, false);
});

test('what is sent a second time is paid before, by whole requests, and no more is saved than the reserve', () => {
  const { options } = setUp();
  const groupOf = (budget_percent: number) => {
    const proxy = proxyOf('app.example.com', target.url, {
      load_balancing: loadBalancing.parse({
        targets: [{ url: 'http://10.0.0.2' }],
        retries: { budget_percent },
      }),
    });
    return new Group(proxy, (url) => new Endpoint(url, 'app.example.com', options), options.mark);
  };
  const spent = (group: Group) => {
    let count = 0;
    while (count <= retryReserve * 2 && group.spend()) count++;
    return count;
  };
  assert.equal(spent(groupOf(0)), 0);
  const group = groupOf(50);
  for (let i = 0; i < 10; i++) group.earn();
  assert.equal(spent(group), retryReserve);
  group.earn();
  assert.equal(spent(group), 0, 'half of one is none');
  group.earn();
  assert.equal(spent(group), 1);
});

test('whom a request is pinned to gets it though it is drained, not while it is out or is no target', () => {
  const { options, clock } = setUp();
  const proxy = proxyOf('app.example.com', target.url, {
    load_balancing: loadBalancing.parse({
      targets: [{ ...target, drain: true }, { url: 'http://10.0.0.2' }],
    }),
  });
  const group = new Group(proxy, (url) => new Endpoint(url, 'app.example.com', options), options.mark);
  const at = group.placeOf(undefined);
  assert.equal(group.takePinned({}, at, clock.now()), at);
  assert.equal(group.takePinned({}, -1, clock.now()), undefined);
  const endpoint = group.slots[at]?.endpoint;
  for (let i = 0; i < failuresUntilOut; i++) endpoint?.failed({}, 'refused');
  assert.equal(group.takePinned({}, at, clock.now()), undefined);
  assert.deepEqual(
    [endpoint?.open, endpoint && endpoint.state({ ...target, drain: true }).state],
    [1, 'drained'],
  );
});
