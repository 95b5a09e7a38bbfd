import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR, ManualClock } from '../core/clock.ts';
import { createEvents } from '../core/events.ts';
import { system } from '../core/principal.ts';
import { problem, unreachable } from './fake-ca.fixture.ts';
import type { Entry } from './catalog.ts';
import type { Issuance } from './issuance.ts';
import { openWorld, type WorldOptions } from './ordering.fixture.ts';
import { type CertificateAlert, watchOver } from './watch.ts';

const NAME = 'a.company.io';

/** A CA that goes away after the first certificate, and time that passes in steps of `hours`. */
async function abandoned(t: Parameters<typeof openWorld>[0], options: WorldOptions = {}) {
  const state = { isAway: false };
  const world = await openWorld(t, {
    wanted: [NAME],
    trouble: () => {
      if (state.isAway) throw unreachable();
    },
    ...options,
  });
  let engine = await world.start();
  const turn = async () => {
    await engine.issuance.tick();
    await engine.issuance.settle();
    await engine.watch.look();
  };
  await turn();
  state.isAway = true;
  return {
    ...world,
    state,
    turn,
    engine: () => engine,
    async restart() {
      await engine.stop();
      engine = await world.start();
    },
    async pass(ms: number, stepMs: number) {
      for (let gone = 0; gone < ms; gone += stepMs) {
        world.clock.advance(stepMs);
        await turn();
      }
    },
    /** Of alerts, in order. */
    told: (code: string) =>
      world.records
        .filter(({ detail }) => detail?.code === code)
        .map(({ level, detail, time }) => ({
          level,
          status: detail?.status,
          days: detail?.threshold_days,
          time,
        })),
  };
}

test('a certificate in use that is not renewed is told 14, 7, 3 and 1 days before its end, once each, also across restarts, and when it is renewed', async (t) => {
  const world = await abandoned(t);
  const { id, notAfter } = world.engine().certificates.inUse(NAME) ?? assert.fail();
  for (let week = 0; week < 12; week++) {
    await world.pass(7 * DAY, 12 * HOUR);
    await world.restart();
    await world.turn();
  }
  await world.pass(5.5 * DAY, 6 * HOUR);
  const told = world.told('certificate.expiring');
  assert.deepEqual(
    told.map(({ level, status, days }) => [level, status, days]),
    [
      ['warn', 'raised', 14],
      ['warn', 'raised', 7],
      ['error', 'raised', 3],
      ['error', 'raised', 1],
    ],
  );
  for (const { days, time } of told) {
    const left = notAfter - time;
    assert.ok(
      left <= Number(days) * DAY && left > (Number(days) - 1) * DAY,
      `${String(days)} days: ${left / DAY}`,
    );
  }
  const { alert } = await world.engine().ordering.get(id, { principal: system });
  assert.deepEqual(alert, { code: 'certificate.expiring', level: 'error', threshold_days: 1 });
  world.state.isAway = false;
  await world.pass(6 * HOUR, HOUR);
  assert.notEqual(world.engine().certificates.inUse(NAME)?.id, id);
  assert.equal(world.told('certificate.expiring').at(-1)?.status, 'resolved');
  assert.equal((await world.engine().ordering.get(id, { principal: system })).alert, undefined);
});

test('one of six days is told in the last day, in proportion', async (t) => {
  const world = await abandoned(t, { lifeMs: 6 * DAY });
  await world.pass(5 * DAY, 2 * HOUR);
  assert.deepEqual(world.told('certificate.expiring'), []);
  await world.pass(1 * DAY - HOUR, HOUR);
  assert.deepEqual(
    world.told('certificate.expiring').map(({ days }) => days),
    [14, 7, 3, 1],
  );
});

test('what is renewed in time raises nothing in a year', async (t) => {
  const world = await abandoned(t);
  world.state.isAway = false;
  await world.pass(365 * DAY, DAY);
  assert.deepEqual(world.told('certificate.expiring'), []);
  assert.deepEqual(world.told('certificate.failing'), []);
});

test('an order that every CA and challenge refuses raises one alert with the remedy, and its certificate resolves it', async (t) => {
  let isRefused = true;
  const world = await openWorld(t, {
    wanted: [NAME],
    trouble: (what) => {
      if (isRefused && what === 'finalize') throw problem('caa', 403);
    },
  });
  const { issuance, watch } = await world.start();
  const told = () => world.records.filter(({ detail }) => detail?.code === 'certificate.failing');
  for (let hours = 0; hours < 48; hours++) {
    await issuance.tick();
    await issuance.settle();
    await watch.look();
    world.clock.advance(HOUR);
  }
  assert.equal(told().length, 1);
  const [{ level, hostname, message, detail } = assert.fail()] = told();
  assert.deepEqual([level, hostname, detail?.problem], ['error', NAME, 'caa']);
  assert.match(message, /^no certificate for a\.company\.io: the CA refused; .*CAA/);
  isRefused = false;
  for (let hours = 0; hours < 30; hours++) {
    world.clock.advance(HOUR);
    await issuance.tick();
    await issuance.settle();
  }
  await watch.look();
  assert.deepEqual(
    told().map((record) => record.detail?.status),
    ['raised', 'resolved'],
  );
});

test('a CA that does not answer for a minute raises nothing; one that is away for a day does', async (t) => {
  const world = await openWorld(t, {
    wanted: [NAME],
    trouble: () => {
      throw unreachable();
    },
  });
  const { issuance, watch } = await world.start();
  const told = () => world.records.filter(({ detail }) => detail?.code === 'certificate.failing');
  const turn = async () => {
    await issuance.tick();
    await issuance.settle();
    await watch.look();
  };
  await turn();
  assert.equal(told().length, 0);
  for (let hours = 0; hours < 24; hours++) {
    world.clock.advance(HOUR);
    await turn();
  }
  assert.equal(told().length, 1);
});

test('of one certificate for thousands of hostnames the log is told of a thousand, and the message names ten', async () => {
  const clock = new ManualClock();
  const now = clock.now();
  const entry = { id: 'crt_1', notBefore: now - 89 * DAY, notAfter: now + DAY, source: 'imported' };
  const hostnames = Array.from({ length: 5000 }, (_, i) => `n${i}.company.io`);
  const told: CertificateAlert[] = [];
  await using watch = watchOver(
    { clock, log: { write: () => undefined, enabled: () => false }, events: createEvents() },
    {
      issuance: { orders: { stuck: async () => [] } } as unknown as Issuance,
      certificates: { used: () => [[entry as Entry, hostnames]] },
      alerts: { reconcile: async (_source, current) => void told.push(...current) },
    },
  );
  await watch.look();
  assert.equal(told[0]?.lines.length, 1000);
  assert.equal(told[0].summary.match(/company\.io/g)?.length, 10);
});
