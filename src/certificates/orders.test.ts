/** Orders in the store: how they are found, and that what is left of a limit is given out once. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import { createSealer } from '../config/secrets.ts';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { createChange } from '../store/change.ts';
import type { Tables } from '../store/database.ts';
import { keysOfOrders } from '../store/migrations.issuance.ts';
import { migrate } from '../store/migrations.ts';
import { openSqlite } from '../store/sqlite.ts';
import { AcmeFault } from './acme/fault.ts';
import { LETS_ENCRYPT_LIMITS, type Limit } from './budget.ts';
import { engine, issuer, NAMES, turn, world } from './engine.fixture.ts';
import { problem, unreachable } from './fake-ca.fixture.ts';
import { Orders } from './orders.ts';

const WANTED = {
  names: ['a.company.io'],
  issuer: 'ca',
  keyType: 'p256',
  reason: 'served',
  profile: undefined,
  owner: undefined,
  replaces: undefined,
  urgency: 1,
} as const;
const limit: Limit = { issuer: 'ca', kind: 'issued', subject: 'a', allowed: 5, withinMs: DAY, what: 'x' };

test('no question to the orders looks at every row, and none sorts', async () => {
  const asked = new Set<string>();
  const connection = new BetterSqlite3(':memory:', { verbose: (text) => asked.add(String(text)) });
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: connection }) });
  await migrate(db);
  asked.clear();
  const clock = new ManualClock();
  const database = {
    read: db,
    change: createChange({ db, clock, log: silentLog }),
    [Symbol.asyncDispose]: () => db.destroy(),
  };
  const orders = new Orders({ database, sealer: createSealer(Buffer.alloc(32, 1)), clock, log: silentLog });
  const order = await orders.open(WANTED);
  await orders.claim(order.id);
  await orders.step(order, { state: 'sending', limits: [limit] });
  await orders.step(order, { state: 'waiting', failedName: 'a.company.io' });
  await orders.release(order.id);
  await orders.turnTo(order, { issuer: undefined, keyType: 'p384' });
  await orders.hurry(order.id, 0);
  await orders.takeOver();
  for (const question of [
    () => orders.due(8),
    () => orders.allOpen(),
    () => orders.countOpen(),
    () => orders.requestedBefore(clock.now()),
    () => orders.ofName('a.company.io', 5),
    () => orders.openOfName('a.company.io'),
    () => orders.latest(5),
    () => orders.ofCertificate('crt_1'),
    () => orders.keyOf(order.id),
    () => orders.knowsUrl('https://ca.test/1'),
    () => orders.roomAt([limit]),
  ])
    await question();
  await orders.claim(order.id);
  await orders.step(order, { state: 'issued', certificateId: 'crt_1' });
  await orders.sweep();
  const questions = [...asked].filter((text) => /^(?:select|update|delete)/.test(text));
  assert.ok(questions.length >= 20, `${questions.length} different questions were seen`);
  for (const text of questions)
    for (const { detail } of connection.prepare<[], { detail: string }>(`explain query plan ${text}`).all()) {
      assert.doesNotMatch(detail, /TEMP B-TREE/, `${detail}\n${text}`);
      // To look at all open ones in their turn, or from the newest on, is the question.
      assert.doesNotMatch(
        detail,
        /^SCAN (?!.* USING (?:COVERING )?INDEX certificate_orders_(?:turn|age))/,
        text,
      );
    }
  await db.destroy();
});

const limits = {
  failedValidationsPerNameAndHour: 5,
  ordersPerThreeHours: 3,
  certificatesPerDomainAndWeek: 50,
  duplicatesPerWeek: 5,
};
const names = (count: number) => Array.from({ length: count }, (_, i) => `n${i}.company.io`);

test('two engines at once send no order past what the CA allows: each place is given out once', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const second = await openSqlite(join(folder, 'state.db'), clock);
  t.after(() => second[Symbol.asyncDispose]());
  const options = {
    clock,
    ca: () => ca,
    isAlone: false,
    wanted: names(12),
    issuers: [{ ...issuer, limits }],
  };
  await using a = await engine(folder, { ...options, database });
  await using b = await engine(folder, { ...options, database: second });
  await Promise.all([turn(a), turn(b)]);
  assert.equal(ca.orders.size, 3);
  clock.advance(3 * HOUR + MINUTE);
  await Promise.all([turn(a), turn(b)]);
  assert.ok(ca.orders.size > 3 && ca.orders.size <= 6, `${ca.orders.size} orders`);
});

test('certificates of a domain and failed validations are counted while they are under way, and given back when nothing comes of them', async (t) => {
  let isRefusing = true;
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (isRefusing && what === 'finalize') throw problem('badCSR', 400);
    },
  });
  const tight = { ...limits, ordersPerThreeHours: 300, certificatesPerDomainAndWeek: 2 };
  const issuers = [{ ...issuer, limits: tight }];
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: names(5), issuers });
  await turn(one);
  assert.equal(ca.certificates().length, 0);
  isRefusing = false;
  clock.advance(DAY);
  await turn(one);
  assert.equal(ca.certificates().length, 2, 'what was refused has cost nothing');
  clock.advance(7 * DAY);
  await turn(one);
  assert.ok(ca.certificates().length > 2 && ca.certificates().length <= 4);
});

test('a certificate that the CA signed is counted when it can not be used, too', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (what === 'certificate')
        throw new AcmeFault('wrong_certificate', 'another one', { consequence: 'order' });
    },
  });
  const tight = { ...limits, ordersPerThreeHours: 300, duplicatesPerWeek: 2 };
  const issuers = [{ ...issuer, limits: tight }];
  await using one = await engine(folder, {
    clock,
    ca: () => ca,
    database,
    wanted: ['a.company.io'],
    issuers,
  });
  for (let hours = 0; hours < 6 * 24; hours++) {
    await turn(one);
    clock.advance(HOUR);
  }
  assert.equal(ca.orders.size, 2);
});

test('whoever is confined has a budget of orders: it holds off theirs, nobody else’s, and no renewal', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const owner = (name: string) => (name.startsWith('n') ? 'tok_confined' : undefined);
  const wanted = [...names(6), 'admin.company.io'];
  const ownerBudget = { perDay: 2, perWeek: 5 };
  await using one = await engine(folder, {
    clock,
    ca: () => ca,
    database,
    wanted,
    ownerBudget,
    payerOf: owner,
  });
  await turn(one);
  assert.ok(one.serving('admin.company.io'));
  assert.equal(ca.certificates().length, 3);
  const held = (await one.issuance.orders.latest(10)).find(({ state }) => state === 'waiting');
  assert.match(
    held?.document.events.at(-1)?.text ?? '',
    /no more than 2 orders in the name of the owner in a day .* room again at 2026-01-02T00:00/,
  );
  for (let days = 0; days < 14; days++) {
    clock.advance(DAY + MINUTE);
    await turn(one);
  }
  assert.equal(ca.certificates().length, 7, 'all have theirs when there was room again');
  clock.advance(75 * DAY);
  await turn(one);
  assert.equal(ca.certificates().length, 14, 'renewals are not held off');
});

test('no owner gets more than half of what the CA gives out for a registered domain in a week; others get theirs', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  const limits = { ...LETS_ENCRYPT_LIMITS, certificatesPerDomainAndWeek: 5 };
  const wanted = [...names(4), 'other.company.io', 'admin.company.io', 'n.elsewhere.io'];
  await using one = await engine(folder, {
    clock,
    ca: () => ca,
    database,
    wanted,
    issuers: [{ ...issuer, limits }],
    ownerBudget: { perDay: 100, perWeek: 100 },
    payerOf: (name) =>
      name.startsWith('n') ? 'tok_greedy' : name.startsWith('other') ? 'tok_other' : undefined,
  });
  await turn(one);
  const served = wanted.filter((name) => one.serving(name));
  assert.equal(served.filter((name) => name.startsWith('n') && name.endsWith('company.io')).length, 2);
  for (const name of ['other.company.io', 'admin.company.io', 'n.elsewhere.io'])
    assert.ok(one.serving(name), name);
  const held = (await one.issuance.orders.latest(10)).find(({ state }) => state === 'waiting');
  const text = held?.document.events.at(-1)?.text ?? '';
  assert.match(text, /no more than 2 certificates for company\.io in a week in the name of the owner/);
  assert.doesNotMatch(text, /tok_/);
});

test('the key of an order that is over is with its certificate alone, whenever it was made', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  await turn(one);
  const keys = () => database.read.selectFrom('certificate_orders').select('key_sealed').execute();
  assert.deepEqual(await keys(), [{ key_sealed: '' }]);
  // As they were stored before.
  await database.change({}, (tx) =>
    tx.updateTable('certificate_orders').set({ key_sealed: 'sealed' }).executeTakeFirst(),
  );
  await database.change({}, (tx) => keysOfOrders.up(tx));
  assert.deepEqual(await keys(), [{ key_sealed: '' }]);
});

test('orders that can not be read are left alone, and the others go on', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    trouble: () => {
      if (isAway) throw unreachable();
    },
  });
  let isAway = true;
  const wanted = names(12);
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted });
  await turn(one);
  // As a newer version may write it; more of them than are worked on at once.
  await database.change({}, (tx) =>
    tx
      .updateTable('certificate_orders')
      .set({ document: '{"reason":"of-tomorrow"}' })
      .where('open_for', 'in', wanted.slice(0, 10))
      .executeTakeFirst(),
  );
  isAway = false;
  clock.advance(HOUR);
  await turn(one);
  assert.deepEqual(wanted.filter((name) => one.serving(name)).sort(), ['n10.company.io', 'n11.company.io']);
  const again = { names: ['n0.company.io'], issuer: 'ca', owner: undefined, reason: 'requested' } as const;
  await assert.rejects(one.issuance.request(again), { code: 'CONFLICT', message: /can't be read/ });
});

test('a key that the CA refused is not used again', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (what === 'finalize') throw problem('badCSR', 400);
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  const { id } = await one.issuance.orders.open(WANTED);
  const key = await one.issuance.orders.keyOf(id);
  await turn(one);
  assert.equal((await one.issuance.orders.get(id))?.state, 'waiting');
  assert.ok(!(await one.issuance.orders.keyOf(id)).equals(key));
});

test('what somebody asked for by hand and can not be had is given up after a week', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (what === 'newOrder') throw problem('rejectedIdentifier', 400);
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: ['a.company.io'] });
  const requested = { issuer: 'ca', owner: undefined, reason: 'requested' } as const;
  const typo = await one.issuance.request({ ...requested, names: ['a.company.io', 'typo.company.io'] });
  await one.issuance.start();
  for (const [days, state] of [
    [6, 'waiting'],
    [2, 'abandoned'],
  ] as const) {
    for (let hours = 0; hours < days * 24; hours += 12) {
      clock.advance(12 * HOUR);
      await one.issuance.settle();
    }
    assert.equal((await one.issuance.orders.get(typo.id))?.state, state);
  }
  await turn(one);
  const [served] = await one.issuance.orders.openOfName('a.company.io');
  assert.equal(served?.document.reason, 'served');
});

test('who asks by hand is told when the budget has room again', async (t) => {
  const { clock, folder, database, ca } = await world(t);
  await using one = await engine(folder, {
    clock,
    ca: () => ca,
    database,
    wanted: [],
    ownerBudget: { perDay: 1, perWeek: 5 },
  });
  assert.equal(await one.issuance.ownerRoomAt('tok_a'), 0);
  await one.issuance.request({ names: [...NAMES], issuer: 'ca', owner: 'tok_a', reason: 'requested' });
  await one.issuance.settle();
  assert.equal(await one.issuance.ownerRoomAt('tok_a'), clock.now() + DAY);
  assert.equal(await one.issuance.ownerRoomAt('tok_b'), 0);
});
