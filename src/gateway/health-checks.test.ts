import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { loadBalancing } from '../proxies/load-balancing.ts';
import { noServices, type Place } from '../proxies/target-url.ts';
import { proxyOf } from '../../test/support/gateway.ts';
import type { Target } from './dialer.ts';
import { startChecks } from './health-checks.ts';
import { gatewayLimits } from './settings.ts';
import type { Upstreams } from './upstream.ts';

const INTERVAL = 10 * SECOND;
const TIMEOUT = SECOND;
const checked = { path: '/health', interval_ms: INTERVAL, timeout_ms: TIMEOUT };

interface Asked {
  target: Target;
  path: string;
  signal: AbortSignal;
  answer: (status: number) => void;
  fail: (reason: Error) => void;
}

/** Checks of targets that the test answers for; what each is found to be. */
function start(urls: readonly string[], { place }: { place?: Place } = {}) {
  const clock = new ManualClock();
  const asked: Asked[] = [];
  const found: { url: string; fault: string | undefined }[] = [];
  const underWay = { count: 0 };
  const upstreams = {
    of: (target: Target) => ({
      inFlight: 0,
      usedAt: 0,
      pool: {
        request({ path, signal }: { path: string; signal: AbortSignal }) {
          const { promise, resolve, reject } = Promise.withResolvers<object>();
          signal.addEventListener('abort', () => reject(signal.reason));
          const answer = (statusCode: number) => resolve({ statusCode, body: { dump: async () => {} } });
          asked.push({ target, path, signal, answer, fail: reject });
          return promise;
        },
      },
    }),
    // Of an upstream, asking takes its pool and what it counts.
  } as unknown as Pick<Upstreams, 'of'>;
  const targets = urls.map((url) => ({ url, weight: 1, drain: false }));
  const proxy = proxyOf('app.example.com', urls[0] ?? '', {
    load_balancing: loadBalancing.parse({ targets, health_check: checked }),
  });
  const slots = targets.map((target) => ({
    target,
    endpoint: {
      checked: (fault: string | undefined) => void found.push({ url: target.url, fault }),
      unchecked: () => assert.fail('it is checked'),
    },
  }));
  const checks = startChecks(
    { proxy, slots },
    { clock, upstreams, underWay, services: place ? { placeOf: () => place } : noServices },
  );
  assert.ok(checks);
  return { clock, asked, found, underWay, checks };
}

/** What is settled has been looked at. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const one = 'http://10.0.0.1:8080';
const two = 'http://10.0.0.2:8080';

test('a status below 400 is well, and 400 is not', async () => {
  const { clock, asked, found } = start([one]);
  for (const [n, status] of [399, 400].entries()) {
    clock.advance(INTERVAL);
    asked[n]?.answer(status);
    await settled();
  }
  assert.deepEqual(
    found.map(({ fault }) => fault),
    [undefined, 'status 400'],
  );
  assert.equal(asked[0]?.path, '/health');
});

test('it is asked as one of several targets are: another one is there, so that nothing is waited for', () => {
  const { clock, asked } = start([one]);
  clock.advance(INTERVAL);
  assert.deepEqual(
    asked.map(({ target }) => [target.origin, target.isOneOfSeveral]),
    [[one, true]],
  );
});

test('who is stopped asks no target any more, hangs up, and tells nothing of what it had asked', async () => {
  const { clock, asked, found, underWay, checks } = start([one, two]);
  clock.advance(INTERVAL);
  assert.equal(asked.length, 2);
  checks.stop();
  assert.deepEqual(
    asked.map(({ signal }) => signal.aborted),
    [true, true],
  );
  await settled();
  assert.deepEqual([found, underWay.count], [[], 0]);
  clock.advance(10 * INTERVAL);
  assert.equal(asked.length, 2);
});

test('what comes in behind the stop, such as an answer that was there already, is nobody’s', async () => {
  const { clock, asked, found, checks } = start([one]);
  clock.advance(INTERVAL);
  asked[0]?.answer(500);
  checks.stop();
  await settled();
  assert.deepEqual(found, []);
});

test('the time for an answer ends with the answer, and without one it is what is told', async () => {
  const { clock, asked, found } = start([one]);
  clock.advance(INTERVAL);
  asked[0]?.answer(200);
  await settled();
  clock.advance(TIMEOUT);
  assert.equal(asked[0]?.signal.aborted, false);
  clock.advance(INTERVAL - TIMEOUT);
  clock.advance(TIMEOUT);
  await settled();
  assert.equal(asked[1]?.signal.aborted, true);
  assert.deepEqual(
    found.map(({ fault }) => fault),
    [undefined, `no answer within ${TIMEOUT} ms`],
  );
});

test('a service is well while one of its replicas is, and where none is, all that is wrong is told', async () => {
  const stayOf = (n: number) => ({ url: `http://10.0.0.${n}:80`, host: 'blog', key: `${n}`, isOver: false });
  const stays = [stayOf(1), stayOf(2)];
  const { clock, asked, found } = start(['service://blog:80/'], {
    place: { stay: stays[0], stays, reason: '' },
  });
  const round = async (...statuses: number[]) => {
    clock.advance(INTERVAL);
    for (const [n, { answer }] of asked.splice(0).entries()) answer(statuses[n] ?? 0);
    await settled();
  };
  await round(503, 200);
  await round(503, 500);
  assert.deepEqual(
    found.map(({ fault }) => fault),
    [undefined, 'status 503 | status 500'],
  );
});

test('no question is asked while as many are under way as may be', () => {
  const { clock, asked, underWay } = start([one, two]);
  underWay.count = gatewayLimits.healthChecks - 1;
  clock.advance(INTERVAL);
  assert.deepEqual(
    asked.map(({ target }) => target.origin),
    [one],
  );
});
