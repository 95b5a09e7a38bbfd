/**
 * Years of one installation and its CA, in seconds and the same for the same seed: a CA that answers one day in seven and
 * fails on it in every way that there is, a store that fails, a process that dies between any two writes. Throws when
 * something does not hold. Run by `simulation.test.ts` with a few seeds and by `bench/issuance.ts` with many.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import type { Database } from '../store/database.ts';
import { openSqlite } from '../store/sqlite.ts';
import { AcmeFault } from './acme/fault.ts';
import { LETS_ENCRYPT_LIMITS } from './budget.ts';
import { type Engine, engine, issuer, turn } from './engine.fixture.ts';
import { FakeCa, problem, unreachable } from './fake-ca.fixture.ts';
import { remedies } from './remedies.ts';

const NAMES = ['a.company.io', 'b.company.io'];
const START = new ManualClock().now();
/** Of a request, on a day on which the CA answers. */
const FAULTS = 0.04;
const DEATHS = 0.005;
const STORE_FAULTS = 0.002;
const CRASH_MOMENTS = ['before', 'after'] as const;
/** At most so long nothing is looked at; the product looks every minute. */
const MOST_STEP_MS = DAY;

export interface Outcome {
  readonly certificates: number;
  readonly orders: number;
  readonly deaths: number;
  readonly requests: number;
}

/** The same numbers for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Crash extends Error {}
class StoreFault extends Error {}

/** @throws AssertionError that names the seed */
export async function simulate(seed: number, years: number): Promise<Outcome> {
  const chance = random(seed);
  const clock = new ManualClock(START);
  const folder = mkdtempSync(join(tmpdir(), 'years-'));
  await using database = await openSqlite(':memory:', clock);
  const store = mortal(database, chance);
  const ca = badCa(seed, { clock, chance });
  const open = () =>
    engine(folder, {
      clock,
      ca: () => ca,
      database: store.seen,
      wanted: NAMES,
      issuers: [{ ...issuer, limits: LETS_ENCRYPT_LIMITS }],
    });
  const had = new Set<string>();
  let deaths = 0;
  try {
    let one = await started(open, store.revive);
    while (clock.now() < START + years * 365 * DAY) {
      await turn(one).catch(passOver);
      if (store.isDead()) {
        deaths++;
        await stopped(one);
        store.revive();
        one = await started(open, store.revive);
      }
      for (const name of NAMES) {
        if (one.serving(name)) had.add(name);
        const at = new Date(clock.now()).toISOString();
        assert.ok(one.serving(name) || !had.has(name), `seed ${seed}: ${name} has expired at ${at}`);
      }
      clock.advance(await nextMoment(one, database, clock));
    }
    await stopped(one);
  } finally {
    rmSync(folder, { recursive: true });
  }
  assert.equal(had.size, NAMES.length, `seed ${seed}: a certificate never came`);
  requireOnce(ca, seed);
  requireRate(ca, seed);
  return {
    certificates: ca.certificates().length,
    orders: ca.orders.size,
    deaths,
    requests: ca.requests,
  };
}

async function stopped(one: Engine): Promise<void> {
  try {
    await one[Symbol.asyncDispose]();
  } catch (cause) {
    passOver(cause);
  }
}

/** What a dead process and a failing store throw; anything else is a fault of the engine. */
function passOver(cause: unknown): void {
  assert.ok(cause instanceof Crash || cause instanceof StoreFault, String(cause));
}

async function started(open: () => Promise<Engine>, revive: () => void): Promise<Engine> {
  for (;;)
    try {
      return await open();
    } catch (cause) {
      passOver(cause);
      revive();
    }
}

/** A store whose process dies before or after some write, and then for all that follows; and that fails now and then. */
function mortal(database: Database, chance: () => number) {
  let isDead = false;
  const seen: Database = {
    ...database,
    read: database.read,
    async change(context, work) {
      if (isDead) throw new Crash('the process is dead');
      if (chance() < STORE_FAULTS) throw new StoreFault('the disk is full');
      const moment = chance() < DEATHS ? CRASH_MOMENTS[Math.floor(chance() * 2)] : undefined;
      if (moment === 'before') isDead = true;
      if (isDead) throw new Crash('the process is dead');
      const result = await database.change(context, work);
      if (moment !== 'after') return result;
      isDead = true;
      throw new Crash('the process is dead, and what it wrote is there');
    },
  };
  return { seen, isDead: () => isDead, revive: () => void (isDead = false) };
}

const AFTER_SIGNING: ReadonlySet<string> = new Set(['order', 'certificate', 'finalize']);
/** Every kind of problem that a CA tells of, and what is none. */
const STATUS = 400;
const problems = Object.keys(remedies);
/** A CA that has lost an account has lost what it signed for it, which is rightly ordered anew. */
const refusals = problems.filter((type) => type !== 'accountDoesNotExist');

function badCa(seed: number, { clock, chance }: { clock: ManualClock; chance: () => number }): FakeCa {
  const day = () => Math.floor((clock.now() - START) / DAY);
  // How it is away differs: silent, an error page, or an answer that says when to come back.
  const away = [
    () => problem('rateLimited', 429, 6 * HOUR),
    () => problem('serverInternal', 500),
    unreachable,
  ][seed % 5 === 0 ? 2 : seed % 2];
  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(chance() * list.length)];
  return new FakeCa({
    clock,
    lifeMs: 90 * DAY,
    reusesOrders: seed % 4 < 2,
    trouble: (what, when) => {
      if (when === 'before' && day() % 7 !== seed % 7) throw (away ?? unreachable)();
      if (chance() >= FAULTS) return;
      // It has acted, and nobody hears of it.
      if (when === 'after') throw unreachable();
      switch (Math.floor(chance() * 4)) {
        case 0:
          throw problem(pick(AFTER_SIGNING.has(what) ? refusals : problems) ?? 'malformed', STATUS);
        case 1:
          throw new AcmeFault('malformed_reply', 'nobody can read this');
        case 2:
          // Slow: the time of everybody goes on, up to past the deadline of the drive.
          clock.advance(Math.floor(chance() * 6) * MINUTE);
          return;
        default:
          throw unreachable();
      }
    },
  });
}

/** Until something can happen: an order's turn, a renewal, an end. */
async function nextMoment(one: Engine, database: Database, clock: ManualClock): Promise<number> {
  const now = clock.now();
  const rows = await database.read
    .selectFrom('certificate_orders')
    .select(['next_attempt_at', 'lease_until'])
    .where('open_for', 'is not', null)
    .execute();
  const turns = rows.map((row) => Math.max(row.next_attempt_at, row.lease_until));
  const entries = NAMES.flatMap((name) => one.certificates.inUse(name) ?? []);
  const renewals = entries.flatMap((entry) => [one.issuance.renewalAt(entry), entry.notAfter]);
  const next = Math.min(...turns, ...renewals.filter((at) => at > now), now + MOST_STEP_MS);
  return Math.max(MINUTE, Math.ceil((next - now) / MINUTE) * MINUTE);
}

/** Of one name no certificate is made while the one before has most of its life. */
function requireOnce(ca: FakeCa, seed: number): void {
  for (const name of NAMES) {
    const made = ca.certificates().filter(({ subjectAltName }) => subjectAltName === `DNS:${name}`);
    const times = made.map(({ validFromDate }) => validFromDate.getTime()).sort((a, b) => a - b);
    for (const [i, at] of times.entries())
      assert.ok(i === 0 || at - (times[i - 1] ?? 0) > 50 * DAY, `seed ${seed}: ${name} was certified twice`);
  }
}

/** By the CA's own count of what it made. */
function requireRate(ca: FakeCa, seed: number): void {
  const times = [...ca.orders.values()].map(({ at }) => at);
  for (const [i, at] of times.entries()) {
    const within = times.slice(i).filter((other) => other - at < 3 * HOUR).length;
    assert.ok(
      within <= LETS_ENCRYPT_LIMITS.ordersPerThreeHours,
      `seed ${seed}: ${within} orders in three hours`,
    );
  }
}
