/** The engine against a CA that is simulated: what must hold whatever fails. Years of it: `simulation.test.ts`. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR, MINUTE, SECOND } from '../core/clock.ts';
import { openSqlite } from '../store/sqlite.ts';
import { join } from 'node:path';
import { engine, issuer, NAMES, turn, world } from './engine.fixture.ts';
import { FakeCa, problem, unreachable } from './fake-ca.fixture.ts';
import type { Issuer } from './issuers.ts';

test('fifty hostnames at once: each has its certificate by one order, eight at a time', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const wanted = Array.from({ length: 50 }, (_, i) => `n${i}.company.io`);
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted });
  await turn(one);
  for (const name of wanted) assert.ok(one.serving(name), name);
  assert.equal(ca.orders.size, 50);
  assert.equal(ca.accounts, 1);
  assert.ok(ca.mostAtOnce <= 8, `${ca.mostAtOnce} at once`);
});

test('a CA that never answers keeps nobody waiting who is served by another one', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const hangs = new FakeCa({
    clock,
    lifeMs: DAY,
    trouble: (_what, _when, signal) =>
      new Promise((_resolve, reject) =>
        signal?.addEventListener('abort', () => reject(signal.reason as Error)),
      ),
  });
  const first = { ...issuer, name: 'first', directoryUrl: 'https://first.test/100%_dir' };
  const there = Array.from({ length: 30 }, (_, i) => `n${i}.company.io`);
  const wanted = [...there];
  await using one = await engine(folder, {
    clock,
    ca: ({ name }) => (name === 'first' ? hangs : ca),
    database,
    wanted,
    issuers: [first, issuer],
    wishOf: (name) => ({ issuers: [there.includes(name) ? 'first' : 'ca'] }),
  });
  await one.issuance.tick();
  clock.advance(SECOND);
  wanted.push(...NAMES);
  await one.issuance.tick();
  const orders = await Promise.all(NAMES.map((name) => one.issuance.orders.openOfName(name)));
  await Promise.all(
    orders.flat().map(({ id }) => {
      const done = Promise.withResolvers<void>();
      one.issuance.watch(id, done.resolve);
      return done.promise;
    }),
  );
  for (const name of NAMES) assert.ok(one.serving(name), name);
  assert.equal(hangs.orders.size, 0);
});

test('two engines on one store: one order for each name', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const second = await openSqlite(join(folder, 'state.db'), clock);
  t.after(() => second[Symbol.asyncDispose]());
  await using a = await engine(folder, { clock, ca: () => ca, database, isAlone: false });
  await using b = await engine(folder, { clock, ca: () => ca, database: second, isAlone: false });
  await Promise.all([turn(a), turn(b)]);
  assert.equal(ca.orders.size, NAMES.length);
  assert.deepEqual(
    ca
      .certificates()
      .map(({ subjectAltName }) => String(subjectAltName))
      .sort((a, b) => a.localeCompare(b)),
    NAMES.map((n) => `DNS:${n}`),
  );
});

test('a certificate of six days is renewed in time, and tells the CA what it replaces', async (t) => {
  const { clock, folder, database, ca } = await world(t, { lifeMs: 6 * DAY });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  for (let hours = 0; hours < 60 * 24; hours += 6) {
    await turn(one);
    const entry = one.serving('a.company.io');
    assert.ok(entry && entry.notAfter - clock.now() > 1.5 * DAY, `after ${hours} hours`);
    clock.advance(6 * HOUR);
  }
  const all = [...ca.orders.values()];
  assert.ok(all.length >= 14 && all.length <= 17, `${all.length} orders`);
  assert.ok(all.slice(1).every(({ replaces }) => replaces !== undefined));
});

test('when the CA wants it by ARI, a certificate is renewed at once', async (t) => {
  let isUrgent = false;
  const { clock, folder, database, ca } = await world(t, {
    renewalInfo: () =>
      isUrgent
        ? { start: clock.now() - DAY, end: clock.now() - HOUR, explanationUrl: undefined, checkAgainMs: HOUR }
        : undefined,
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  await turn(one);
  await turn(one);
  isUrgent = true;
  clock.advance(7 * HOUR);
  await turn(one);
  assert.equal(ca.orders.size, 2);
});

test('a CA that never suggests a time is asked two questions at once, and holds off neither looks nor orders', async (t) => {
  let asked = 0;
  let isAway = true;
  const asking = Promise.withResolvers<void>();
  const { clock, folder, database, ca } = await world(t, {
    renewalInfo: (_pem, signal) => {
      if (!isAway) return undefined;
      if (++asked === 2) asking.resolve();
      return new Promise((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      );
    },
  });
  const wanted = Array.from({ length: 12 }, (_, i) => `n${i}.company.io`);
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted });
  await turn(one);
  await one.issuance.tick();
  await asking.promise;
  clock.advance(SECOND);
  wanted.push('new.company.io');
  await one.issuance.tick();
  const [order] = await one.issuance.orders.openOfName('new.company.io');
  const done = Promise.withResolvers<void>();
  if (order) one.issuance.watch(order.id, done.resolve);
  await done.promise;
  assert.ok(one.serving('new.company.io'));
  assert.equal(asked, 2);
  // The time for an answer is over: the others of this round are left, and looking at everything goes on.
  clock.advance(15 * SECOND);
  await one.issuance.settle();
  assert.equal(asked, 2);
  isAway = false;
  clock.advance(61 * DAY);
  await turn(one);
  assert.equal(ca.orders.size, 2 * wanted.length);
});

test('what is served no more is not ordered any more', async (t) => {
  let isAway = true;
  const { clock, folder, database, ca } = await world(t, {
    trouble: () => {
      if (isAway) throw unreachable();
    },
  });
  const wanted = ['a.company.io'];
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted });
  await turn(one);
  wanted.pop();
  isAway = false;
  clock.advance(DAY);
  await turn(one);
  assert.equal(ca.orders.size, 0);
  assert.equal((await one.issuance.orders.latest(1))[0]?.state, 'abandoned');
});

test('a CA that refuses the account is left for the next one at once', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const refusing = new FakeCa({
    clock,
    lifeMs: DAY,
    trouble: () => {
      throw problem('userActionRequired', 403);
    },
  });
  const first = { ...issuer, name: 'first', directoryUrl: 'https://first.test/dir' };
  const at = ({ name }: Issuer) => (name === 'first' ? refusing : ca);
  await using one = await engine(folder, { clock, ca: at, database, issuers: [first, issuer] });
  await turn(one);
  for (const name of NAMES) assert.ok(one.serving(name), name);
});

test('no order is sent past a limit of the CA, and it is sent when there is room again', async (t) => {
  const limits = {
    failedValidationsPerNameAndHour: 5,
    ordersPerThreeHours: 3,
    certificatesPerDomainAndWeek: 50,
    duplicatesPerWeek: 5,
  };
  const { clock, folder, database, ca } = await world(t);
  const wanted = Array.from({ length: 5 }, (_, i) => `n${i}.company.io`);
  const issuers = [{ ...issuer, limits }];
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted, issuers });
  await turn(one);
  assert.equal(ca.orders.size, 3);
  clock.advance(3 * HOUR + MINUTE);
  await turn(one);
  assert.equal(ca.orders.size, 5);
});

test('a preferred chain that the CA does not have is told, and costs nobody the certificate', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const issuers = [{ ...issuer, preferredChain: 'No such root' }];
  await using one = await engine(folder, {
    clock,
    ca: () => ca,
    database,
    wanted: ['a.company.io'],
    issuers,
  });
  await turn(one);
  const [order] = await one.issuance.orders.latest(1);
  assert.equal(order?.state, 'issued');
  assert.match(order.document.events.at(-1)?.text ?? '', /none that it has leads to No such root/);
});

test('what a wildcard certificate serves is renewed though nobody wants the wildcard, and so is everything beside it', async (t) => {
  const dns01 = { serves: () => true, comesFirst: () => false };
  const { clock, folder, database, ca } = await world(t);
  const wanted = ['a.company.io', 'z.other.io'];
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted, dns01 });
  await one.issuance.request({
    names: ['*.company.io'],
    issuer: 'ca',
    reason: 'requested',
    owner: undefined,
  });
  await one.issuance.settle();
  await turn(one);
  assert.equal(ca.orders.size, 2);
  clock.advance(61 * DAY);
  await turn(one);
  for (const name of wanted) assert.ok((one.serving(name)?.notAfter ?? 0) > clock.now() + 80 * DAY, name);
});

test('a certificate that came is not ordered again, though it lives shorter than the one before', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  await turn(one);
  clock.advance(61 * DAY);
  ca.lifeMs = 6 * DAY;
  for (let minutes = 0; minutes < 10; minutes++) {
    await turn(one);
    clock.advance(MINUTE);
  }
  assert.equal(ca.asked.length, 2);
  assert.ok((one.serving('a.company.io')?.notAfter ?? 0) < clock.now() + 6 * DAY);
});

test('a CA that wants every certificate renewed at once is asked at most once an hour', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    renewalInfo: () => ({
      start: clock.now() - DAY,
      end: clock.now() - HOUR,
      explanationUrl: undefined,
      checkAgainMs: HOUR,
    }),
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  for (let minutes = 0; minutes < 90; minutes += 10) {
    await turn(one);
    clock.advance(10 * MINUTE);
  }
  assert.equal(ca.asked.length, 2);
});

for (const aheadMs of [3 * HOUR, -20 * HOUR])
  test(`a CA whose clock is ${aheadMs / HOUR} hours before ours gives one certificate, which is served`, async (t) => {
    const { clock, folder, database, ca } = await world(t);
    ca.aheadMs = aheadMs;
    await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
    for (let minutes = 0; minutes < 300; minutes += 10) {
      await turn(one);
      clock.advance(10 * MINUTE);
    }
    assert.equal(ca.asked.length, 1);
    assert.ok(one.serving('a.company.io'));
  });

test('an attempt that took too long says so, and is gone on with', async (t) => {
  let isSlow = true;
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what, when) => {
      if (isSlow && what === 'finalize' && when === 'before') clock.advance(5 * MINUTE);
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  await turn(one);
  const [order] = await one.issuance.orders.latest(1);
  assert.match(order?.document.events.at(-1)?.text ?? '', /not through in 240 s, and is gone on with later/);
  isSlow = false;
  clock.advance(5 * MINUTE);
  await turn(one);
  assert.ok(one.serving('a.company.io'));
  assert.equal(ca.orders.size, 1);
});
