/**
 * The engine against a CA that is simulated, years in seconds: what must hold whatever fails. `ISSUANCE_SEEDS` runs more
 * seeds than a usual run.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import { createEvents } from '../core/events.ts';
import type { Log } from '../core/record.ts';
import type { Database } from '../store/database.ts';
import { openSqlite } from '../store/sqlite.ts';
import { FakeCa, type FakeCaOptions, problem, unreachable } from './fake-ca.fixture.ts';
import { Issuance } from './issuance.ts';
import type { Issuer } from './issuers.ts';
import { openCertificates } from './service.ts';

const SEEDS = Number(process.env.ISSUANCE_SEEDS ?? 4);
const NAMES = ['a.company.io', 'b.company.io'];
const issuer: Issuer = { name: 'ca', directoryUrl: 'https://ca.test/dir', contact: [], isPublic: false };
const silent: Log = { write: () => undefined, enabled: () => false };

interface Engine extends AsyncDisposable {
  issuance: Issuance;
  serving(name: string): { id: string; notAfter: number } | undefined;
}

async function folderOf(t: TestContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'engine-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** `database`: as the engine sees it. */
async function engine(
  folder: string,
  {
    clock,
    ca,
    database,
    isAlone = true,
    wanted = NAMES,
    issuers = [issuer],
  }: {
    clock: ManualClock;
    ca: (issuer: Issuer) => FakeCa;
    database: Database;
    isAlone?: boolean;
    wanted?: string[];
    issuers?: Issuer[];
  },
): Promise<Engine> {
  const base = {
    clock,
    log: silent,
    events: createEvents(),
    database,
    sealer: createSealer(Buffer.alloc(32, 1)),
  };
  const certificates = await openCertificates({
    ...base,
    caFile: join(folder, 'ca.pem'),
    controlHosts: ['localhost'],
    servedName: (name) => (wanted.includes(name) ? name : undefined),
    servedHostnames: () => wanted,
  });
  const issuance = new Issuance({
    ...base,
    settings: { issuers, off: undefined },
    shelf: certificates,
    wanted: () => wanted,
    isAlone,
    openClient: (one) => ca(one).client(),
  });
  if (isAlone) await issuance.orders.takeOver();
  return {
    issuance,
    serving: (name) => certificates.serving(name),
    async [Symbol.asyncDispose]() {
      await issuance[Symbol.asyncDispose]();
      await certificates[Symbol.asyncDispose]();
    },
  };
}

async function world(
  t: TestContext,
  options: Omit<FakeCaOptions, 'clock' | 'lifeMs'> & { lifeMs?: number } = {},
) {
  const clock = new ManualClock();
  const folder = await folderOf(t);
  const database = await openSqlite(join(folder, 'state.db'), clock);
  t.after(() => database[Symbol.asyncDispose]());
  return { clock, folder, database, ca: new FakeCa({ lifeMs: 90 * DAY, ...options, clock }) };
}

async function turn({ issuance }: Engine): Promise<void> {
  await issuance.tick();
  await issuance.settle();
}

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
  // One after the other: what is sent at the same moment is counted after it was sent.
  for (const name of wanted) {
    await one.issuance.request({ names: [name], issuer: issuers[0] ?? issuer, keyType: 'p256' });
    await one.issuance.settle();
  }
  assert.equal(ca.orders.size, 3);
  clock.advance(3 * HOUR + MINUTE);
  await turn(one);
  assert.equal(ca.orders.size, 5);
});

/** The same numbers for the same seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Crash extends Error {}

/** A store whose process dies at some write: from then on no write gets through, until it is started again. */
function mortal(database: Database, chance: () => number) {
  let isDead = false;
  const seen: Database = {
    ...database,
    read: database.read,
    async change(context, work) {
      if (isDead || chance() < 0.01) {
        isDead = true;
        throw new Crash('the process is dead');
      }
      return database.change(context, work);
    },
  };
  return { seen, isDead: () => isDead, revive: () => void (isDead = false) };
}

test(`${SEEDS} simulated years with a CA that answers one day in seven and fails on it too, and a process that dies at writes: nothing in use expires, and no order is made twice`, async (t) => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const chance = random(seed);
    const start = new ManualClock().now();
    const faults = [
      unreachable,
      () => problem('serverInternal', 500),
      () => problem('rateLimited', 429, 2 * HOUR),
    ];
    const isDown = (now: number) => Math.floor((now - start) / DAY) % 7 !== seed % 7;
    const { clock, folder, database, ca } = await world(t, {
      trouble: () => {
        if (isDown(clock.now()) || chance() < 0.03)
          throw (faults[Math.floor(chance() * faults.length)] ?? unreachable)();
      },
    });
    const { seen, isDead, revive } = mortal(database, chance);
    let one = await restarted(() => engine(folder, { clock, ca: () => ca, database: seen }), revive);
    const had = new Set<string>();
    for (let hours = 0; hours < 365 * 24; hours += 4) {
      await turn(one).catch((cause: unknown) => assert.ok(cause instanceof Crash, String(cause)));
      if (isDead()) {
        await stopped(one);
        revive();
        one = await restarted(() => engine(folder, { clock, ca: () => ca, database: seen }), revive);
      }
      for (const name of NAMES) {
        if (one.serving(name)) had.add(name);
        assert.ok(one.serving(name) || !had.has(name), `seed ${seed}: ${name} expired after ${hours} hours`);
      }
      clock.advance(4 * HOUR);
    }
    await stopped(one);
    assert.equal(had.size, NAMES.length, `seed ${seed}: no certificate ever came`);
    assertOncePerTime(ca, seed);
  }
});

/** Whatever its store says: it is dead. */
async function stopped(one: Engine): Promise<void> {
  try {
    await one[Symbol.asyncDispose]();
  } catch (cause) {
    assert.ok(cause instanceof Crash, String(cause));
  }
}

async function restarted(start: () => Promise<Engine>, revive: () => void): Promise<Engine> {
  try {
    return await start();
  } catch (cause) {
    if (!(cause instanceof Crash)) throw cause;
    revive();
    return restarted(start, revive);
  }
}

/** Of one name no certificate is made while the one before has most of its life. */
function assertOncePerTime(ca: FakeCa, seed: number): void {
  for (const name of NAMES) {
    const made = ca.certificates().filter(({ subjectAltName }) => subjectAltName === `DNS:${name}`);
    const times = made.map(({ validFromDate }) => validFromDate.getTime()).sort((a, b) => a - b);
    for (const [i, at] of times.entries())
      assert.ok(i === 0 || at - (times[i - 1] ?? 0) > 50 * DAY, `seed ${seed}: ${name} was certified twice`);
  }
}
