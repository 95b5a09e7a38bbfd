/**
 * Years of one installation and its CA, in seconds and the same for the same seed: a CA that answers one day in seven and
 * fails on it in every way that there is, a store that fails, a process that dies between any two writes. Throws when
 * something does not hold. Run by `simulation.test.ts` with a few seeds and by `bench/issuance.ts` with many.
 */
import assert from 'node:assert/strict';
import { seedChance } from './seeded.fixture.ts';
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
const SLOWEST_MS = 5 * MINUTE;
/** What some CAs allow in three hours: less than there are names. */
const FEW_ORDERS = 1;
const CRASH_MOMENTS = ['before', 'after'] as const;
/** At most so long nothing is looked at: where nothing is open or due, a look finds nothing. The product looks every minute. */
const MOST_STEP_MS = 10 * DAY;
const SWEEP_EVERY_MS = DAY;
/** Of a week in which the CA is silent: every failure there is tried again within the hour, which takes its time. */
const SILENCE = 1 / 8;

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
  seedChance(random(-seed));
  const clock = new ManualClock(START);
  const folder = mkdtempSync(join(tmpdir(), 'years-'));
  await using database = await openSqlite(':memory:', clock);
  const store = mortal(database, chance);
  const ca = badCa(seed, { clock, chance });
  const allowed = seed % 2 === 0 ? LETS_ENCRYPT_LIMITS.ordersPerThreeHours : FEW_ORDERS;
  const open = () =>
    engine(folder, {
      clock,
      ca: () => ca,
      database: store.seen,
      wanted: NAMES,
      issuers: [{ ...issuer, limits: { ...LETS_ENCRYPT_LIMITS, ordersPerThreeHours: allowed } }],
    });
  const had = new Set<string>();
  const requireServed = (one: Engine) => {
    for (const name of NAMES) {
      if (one.serving(name)) had.add(name);
      const at = new Date(clock.now()).toISOString();
      assert.ok(one.serving(name) || !had.has(name), `seed ${seed}: ${name} has expired at ${at}`);
    }
  };
  let deaths = 0;
  let sweptAt = START;
  try {
    let one = await started(open, store.revive);
    while (clock.now() < START + years * 365 * DAY) {
      await turn(one).catch(passOver);
      if (clock.now() - sweptAt >= SWEEP_EVERY_MS) {
        sweptAt = clock.now();
        await one.issuance.sweep().catch(passOver);
      }
      if (store.isDead()) {
        deaths++;
        await stopped(one);
        store.revive();
        one = await started(open, store.revive);
      }
      requireServed(one);
      clock.advance(await nextMoment(one, database, clock));
      requireServed(one);
    }
    await stopped(one);
  } finally {
    seedChance(undefined);
    rmSync(folder, { recursive: true });
  }
  assert.equal(had.size, NAMES.length, `seed ${seed}: a certificate never came`);
  requireOnce(ca, seed);
  requireRate(ca, seed, allowed);
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
const WEEKS = 52;
const problems = Object.keys(remedies);
/** A CA that has lost an account has lost what it signed for it, which is rightly ordered anew. */
const refusals = problems.filter((type) => type !== 'accountDoesNotExist');

function badCa(seed: number, { clock, chance }: { clock: ManualClock; chance: () => number }): FakeCa {
  const day = () => Math.floor((clock.now() - START) / DAY);
  // How it is away differs from week to week: silent, an error page, or an answer that says when to come back.
  const weeks = random(~seed);
  const ways = Array.from({ length: WEEKS }, () => {
    if (weeks() < SILENCE) return unreachable;
    return weeks() < 1 / 2
      ? () => problem('rateLimited', 429, 6 * HOUR)
      : () => problem('serverInternal', 500);
  });
  const away = () => (ways[Math.floor(day() / 7) % WEEKS] ?? unreachable)();
  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(chance() * list.length)];
  return new FakeCa({
    clock,
    lifeMs: 90 * DAY,
    reusesOrders: seed % 4 < 2,
    trouble: (what, when) => {
      if (when === 'before' && day() % 7 !== seed % 7) throw away();
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
          clock.advance(Math.floor(chance() * (SLOWEST_MS / MINUTE + 1)) * MINUTE);
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
    .select(['open_for', 'next_attempt_at', 'lease_until'])
    .where('open_for', 'is not', null)
    .execute();
  const turns = rows.map((row) => Math.max(row.next_attempt_at, row.lease_until));
  const entries = NAMES.flatMap((name) => one.certificates.inUse(name) ?? []);
  const ends = entries.map(({ notAfter }) => notAfter).filter((at) => at > now);
  // What is due and has no order, as the store failed, is looked at again as soon as the product would.
  const renewals = entries
    .filter(({ names }) => !rows.some((row) => row.open_for === names.join(' ')))
    .map((entry) => one.issuance.renewalAt(entry));
  const next = Math.min(...turns, ...renewals, ...ends, now + MOST_STEP_MS);
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

/** By the CA's own count of what it made; what was slow on the way is counted there later than here. */
function requireRate(ca: FakeCa, seed: number, allowed: number): void {
  const times = [...ca.orders.values()].map(({ at }) => at);
  for (const [i, at] of times.entries()) {
    const within = times.slice(i).filter((other) => other - at < 3 * HOUR - SLOWEST_MS).length;
    assert.ok(within <= allowed, `seed ${seed}: ${within} orders in three hours`);
  }
}
