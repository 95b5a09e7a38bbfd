import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import { AppError } from '../core/errors.ts';
import { expandPermissions, type Permission } from '../core/permissions.ts';
import { anonymous, type Principal } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { createHealthService, type HealthStatus, healthCheck, type Probe } from './health.ts';

const giving =
  (status: HealthStatus, message = 'so it is'): Probe =>
  async () => ({ status, message });

function setUp(probes: Record<string, Probe>) {
  const clock = new ManualClock();
  const health = createHealthService({
    probes,
    clock,
    log: silentLog,
    version: '1.2.3',
    startedAt: clock.now(),
  });
  const dispatch = createDispatch({
    services: { health },
    access: 'public',
    log: silentLog,
    clock,
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  const check = (principal: Principal) =>
    dispatch(
      healthCheck,
      {},
      {
        principal,
        signal: new AbortController().signal,
        traceId: '0'.repeat(32),
        surface: 'internal',
        clientAddress: undefined,
      },
    );
  return { clock, health, check };
}

const holder = (granted: Permission[], hostnames?: string[]): Principal => ({
  id: 'tok_1',
  name: 'holder',
  kind: 'token',
  permissions: expandPermissions(granted),
  hostnames,
  expiresAt: undefined,
});

test('without the store or the listeners the whole is down; without another it is degraded; absent is well', async () => {
  const overall = async (statuses: Record<string, HealthStatus>) => {
    const probes = Object.entries(statuses).map(([name, status]) => [name, giving(status)] as const);
    return (await setUp(Object.fromEntries(probes)).health.check()).status;
  };
  assert.equal(await overall({ store: 'ok', listeners: 'ok', container_engine: 'absent' }), 'ok');
  assert.equal(await overall({ store: 'down', listeners: 'ok' }), 'down');
  assert.equal(await overall({ store: 'ok', listeners: 'down' }), 'down');
  assert.equal(await overall({ store: 'degraded', listeners: 'ok' }), 'degraded');
  assert.equal(await overall({ store: 'ok', disk: 'down' }), 'degraded');
  assert.equal(await overall({ store: 'ok', disk: 'degraded', container_engine: 'absent' }), 'degraded');
});

test('a probe that fails is down with its reason, cleaned, and the others still answer', async () => {
  const { health } = setUp({
    store: giving('ok'),
    disk: () => Promise.reject(new Error('no \u001b[31mdisk')),
    container_engine: () => {
      throw new AppError('UNAVAILABLE', 'does not answer');
    },
  });
  const { components } = await health.check();
  assert.deepEqual(
    components.map(({ name, status, message }) => [name, status, message]),
    [
      ['store', 'ok', 'so it is'],
      ['disk', 'down', 'no \ufffd[31mdisk'],
      ['container_engine', 'down', 'does not answer'],
    ],
  );
});

test('a probe that hangs is down after the limit, is not started again, and holds up nobody else', async () => {
  let started = 0;
  const hung = Promise.withResolvers<{ status: HealthStatus; message: string }>();
  const { clock, health } = setUp({
    listeners: giving('ok'),
    disk: () => {
      started += 1;
      return hung.promise;
    },
  });
  const statusesAfterLimit = async () => {
    const pending = health.check();
    await new Promise(setImmediate); // Whatever does not hang has answered.
    clock.advance(2 * SECOND);
    return (await pending).components.map(({ status, message }) => `${status}: ${message}`);
  };
  assert.deepEqual(await statusesAfterLimit(), ['ok: so it is', 'down: no answer within 2000 ms']);
  assert.deepEqual(await statusesAfterLimit(), ['ok: so it is', 'down: no answer within 2000 ms']);
  assert.equal(started, 1);
  hung.resolve({ status: 'ok', message: 'at last' });
  assert.deepEqual(await statusesAfterLimit(), ['ok: so it is', 'ok: at last']);
});

test('however many ask, each probe runs once a second', async () => {
  let runs = 0;
  const { clock, health } = setUp({
    store: async () => {
      runs += 1;
      return { status: 'ok', message: '' };
    },
  });
  await Promise.all(Array.from({ length: 100 }, () => health.check()));
  clock.advance(SECOND - 1);
  await health.check();
  assert.equal(runs, 1);
  clock.advance(1);
  await health.check();
  assert.equal(runs, 2);
});

test('each component tells its latency, and the whole its version and age', async () => {
  const { clock, check } = setUp({
    store: async () => {
      clock.advance(7);
      return { status: 'ok', message: 'fine' };
    },
  });
  assert.deepEqual(await check(holder(['system:read'])), {
    status: 'ok',
    version: '1.2.3',
    uptime_ms: 7,
    components: [{ name: 'store', status: 'ok', message: 'fine', latency_ms: 7 }],
  });
});

test('details are for system:read without confinement; everyone else gets statuses only', async (t: TestContext) => {
  const { check } = setUp({ store: giving('ok'), disk: giving('degraded', '3 MiB free') });
  const brief = {
    status: 'degraded',
    components: [
      { name: 'store', status: 'ok' },
      { name: 'disk', status: 'degraded' },
    ],
  };
  const few = [anonymous, holder(['proxies:write']), holder(['system:read'], ['*.dev.example.com'])];
  for (const principal of few) t.assert.deepEqual(await check(principal), brief);
});
