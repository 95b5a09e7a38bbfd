import { strict as assert } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sql } from 'kysely';
import { ManualClock } from '../core/clock.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { SessionStore } from '../interfaces/mcp/session-store.ts';
import { createSealer } from '../config/secrets.ts';
import { createSessionStore } from './store.ts';

const KEY = Buffer.alloc(32, 7);

const clock = new ManualClock();
const caps = { perPrincipal: 100, total: 100 };
const initialize = {
  protocolVersion: '2025-06-18',
  capabilities: { elicitation: {} },
  clientInfo: { name: 'x' },
};

const session = (id: string, principalId: string, at: number) => ({
  id,
  principalId,
  initialize,
  version: '2025-06-18',
  createdAt: at,
  lastSeenAt: at,
});

async function open(path = ':memory:') {
  const database = await openSqlite(path, clock);
  // The port of the MCP interface, satisfied by shape.
  const store: SessionStore = createSessionStore(database, createSealer(KEY));
  return { store, [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
}

test('a session is found again as it was kept, also by another process', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sessions-'));
  const path = join(folder, 'state.db');
  {
    await using first = await open(path);
    assert.deepEqual(await first.store.create(session('ses_1', 'a', 1), caps), []);
  }
  {
    await using second = await open(path);
    assert.deepEqual(await second.store.find('ses_1'), session('ses_1', 'a', 1));
    assert.equal(await second.store.find('ses_2'), undefined);
  }
  rmSync(folder, { recursive: true });
});

test('what a session follows is found again with it, and follows nothing for one that is gone', async () => {
  await using opened = await open();
  const { store } = opened;
  await store.create(session('ses_1', 'a', 1), caps);
  await store.follow('ses_1', ['ohp://alerts']);
  await store.follow('ses_2', ['ohp://alerts']);
  assert.deepEqual(await store.find('ses_1'), { ...session('ses_1', 'a', 1), followed: ['ohp://alerts'] });
  await store.follow('ses_1', []);
  assert.deepEqual((await store.find('ses_1'))?.followed, []);
  assert.equal(await store.find('ses_2'), undefined);
});

test('the caps make the longest unused go: first of the principal, then of all', async () => {
  await using opened = await open();
  const { store } = opened;
  await store.create(session('a1', 'a', 1), caps);
  await store.create(session('b1', 'b', 2), caps);
  await store.create(session('a2', 'a', 3), caps);
  await store.touch(new Map([['a1', 4]]));
  assert.deepEqual(await store.create(session('a3', 'a', 4), { perPrincipal: 2, total: 9 }), ['a2']);
  assert.deepEqual(await store.create(session('c1', 'c', 4), { perPrincipal: 9, total: 3 }), ['b1']);
  assert.equal(await store.find('b1'), undefined);
});

test('beyond the total the kind that is named goes first, whoever was used last', async () => {
  await using opened = await open();
  const { store } = opened;
  await store.create(session('a1', 'a', 1), caps);
  await store.create(session('n1', 'nobody 1', 2), caps);
  await store.create(session('n2', 'nobody 2', 3), caps);
  const full = { perPrincipal: 9, total: 3, firstToGo: 'nobody ' };
  assert.deepEqual(await store.create(session('n3', 'nobody 3', 4), full), ['n1']);
  assert.deepEqual(await store.create(session('b1', 'b', 5), { ...full, total: 2 }), ['n2', 'n3']);
  assert.deepEqual(await store.create(session('b2', 'b', 6), { ...full, total: 2 }), ['a1']);
});

test('the new session is never the one that goes', async () => {
  await using opened = await open();
  await opened.store.create(session('new', 'a', 9), caps);
  assert.deepEqual(await opened.store.create(session('a0', 'a', 1), { perPrincipal: 1, total: 1 }), ['new']);
  assert.ok(await opened.store.find('a0'));
});

test('a sweep removes idle sessions, old events, and the events of what it removes', async () => {
  await using opened = await open();
  const { store } = opened;
  await store.create(session('old', 'a', 1), caps);
  await store.create(session('new', 'a', 10), caps);
  const event = (sessionId: string, sequence: number) => ({
    sessionId,
    streamId: 'g',
    sequence,
    message: '{}',
  });
  await store.append([event('old', 1), event('new', 1)], 5);
  await store.append([event('new', 2)], 20);
  assert.deepEqual(await store.sweep(5, 10), ['old']);
  const after = async (sessionId: string) =>
    (await store.eventsAfter({ sessionId, streamId: 'g', sequence: 0 }, 10)).map(({ sequence }) => sequence);
  assert.deepEqual([await after('old'), await after('new')], [[], [2]]);
});

test('a sweep of very many removes them all, and lets others run in between', async () => {
  await using opened = await open();
  const { store } = opened;
  for (let i = 0; i < 120; i += 1) await store.create(session(`s${i}`, `p${i}`, 1), { ...caps, total: 1000 });
  const events = Array.from({ length: 2600 }, (_, i) => ({
    sessionId: 's0',
    streamId: 'g',
    sequence: i,
    message: '{}',
  }));
  await store.append(events, 1);
  let isSwept = false;
  const sweeping = store.sweep(5, 5).finally(() => (isSwept = true));
  let turns = 0;
  while (!isSwept) {
    await new Promise(setImmediate);
    turns += 1;
    if (turns === 2) await store.create(session('new', 'a', 10), { ...caps, total: 1000 });
  }
  assert.equal((await sweeping).length, 120);
  assert.ok(turns > 5, `${turns} turns of the event loop`);
  assert.ok(await store.find('new'));
  assert.deepEqual(await store.eventsAfter({ sessionId: 's0', streamId: 'g', sequence: 0 }, 10), []);
});

test('a sweep finds what is old by an index, however much is kept', async () => {
  await using database = await openSqlite(':memory:', clock);
  for (const [table, column] of [
    ['session_events', 'created_at'],
    ['sessions', 'last_seen_at'],
  ]) {
    const { rows } = await sql<{ detail: string }>`explain query plan select 1 from ${sql.table(table ?? '')}
      where ${sql.ref(column ?? '')} < 5`.execute(database.read);
    assert.match(rows.map(({ detail }) => detail).join(), /SEARCH .* INDEX .*age/);
  }
});

test('events come in order, after a position, of one stream of one session, up to a limit', async () => {
  await using opened = await open();
  const { store } = opened;
  await store.create(session('s', 'a', 1), caps);
  const event = (streamId: string, sequence: number) => ({
    sessionId: 's',
    streamId,
    sequence,
    message: `{"n":${sequence}}`,
  });
  await store.append([event('g', 2), event('g', 1), event('p', 1), event('g', 3)], 1);
  const found = await store.eventsAfter({ sessionId: 's', streamId: 'g', sequence: 1 }, 10);
  assert.deepEqual(found, [event('g', 2), event('g', 3)]);
  assert.equal((await store.eventsAfter({ sessionId: 's', streamId: 'g', sequence: 0 }, 2)).length, 2);
});

test('events of a session that is gone are left out, the others of the batch are kept', async () => {
  await using opened = await open();
  const { store } = opened;
  await store.create(session('s', 'a', 1), caps);
  const events = ['gone', 's'].map((sessionId) => ({ sessionId, streamId: 'g', sequence: 1, message: '{}' }));
  await store.append(events, 1);
  assert.equal((await store.eventsAfter({ sessionId: 's', streamId: 'g', sequence: 0 }, 9)).length, 1);
});

test('the sessions of a principal go together', async () => {
  await using opened = await open();
  const { store } = opened;
  for (const [id, principal] of [
    ['a1', 'a'],
    ['a2', 'a'],
    ['b1', 'b'],
  ] as const)
    await store.create(session(id, principal, 1), caps);
  await store.removeOf('a');
  assert.deepEqual([await store.find('a1'), await store.find('a2')], [undefined, undefined]);
  assert.ok(await store.find('b1'));
  await store.remove('b1');
  assert.equal(await store.find('b1'), undefined);
});
