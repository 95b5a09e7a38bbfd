/** A client that listens is told when the tools that its principal may call are others than it was listed. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { principalOf, startHarness, type Harness } from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import {
  envelope,
  modernHeaders,
  openEvents,
  openSession,
  post,
  rpc,
  type Wire,
} from '../../../test/conformance/wire.ts';
import { ManualClock, SECOND } from '../../core/clock.ts';
import type { Permission } from '../../core/permissions.ts';
import { openSqlite } from '../../store/sqlite.ts';

const NEWS = 'notifications/tools/list_changed';
const TTL_MS = 30 * SECOND;
const few: ReadonlySet<Permission> = new Set(['proxies:read']);

const start = (clock: ManualClock, more: object = {}) =>
  startHarness({
    operations: kitchenOperations,
    services: createKitchen(),
    principals: [principalOf('admin'), principalOf('other')],
    clock,
    ...more,
  });

/** The same principal, from now on with these permissions, as after consent to more or less. */
const grant = (harness: Harness, granted?: ReadonlySet<Permission>) =>
  void harness.principals.set('admin', principalOf('admin', granted && { permissions: granted }));

async function subscribe(wire: Wire) {
  const notifications = { toolsListChanged: true };
  const body = rpc('subscriptions/listen', { notifications, _meta: envelope() }, 'sub');
  const headers = modernHeaders('subscriptions/listen');
  const stream = await openEvents(wire, { method: 'POST', headers, body });
  const acknowledged = (await stream.next())?.json;
  assert.deepEqual(acknowledged?.params.notifications, notifications, 'what is declared is honoured');
  return stream;
}

const modernList = (wire: Wire) =>
  post(wire, rpc('tools/list', { _meta: envelope() }), modernHeaders('tools/list'));

test('legacy: other grants are told on the standing stream, once, and again when they change again', async () => {
  const clock = new ManualClock();
  await using harness = await start(clock);
  const session = await openSession(harness, { version: '2025-11-25' });
  const list = async () => (await post(harness, rpc('tools/list'), session)).json.result.tools.length;
  const all = await list();
  const stream = await openEvents(harness, { headers: session });
  await post(harness, rpc('ping'), session);
  for (const granted of [few, undefined]) {
    grant(harness, granted);
    await post(harness, rpc('ping'), session);
    await post(harness, rpc('ping'), session);
    assert.equal((await stream.next())?.json.method, NEWS);
    assert.equal((await list()) === all, granted === undefined);
    clock.advance(TTL_MS);
  }
  await harness.stop();
  assert.equal(await stream.next(), undefined, 'nothing was told twice');
});

test('legacy: who begins to listen later is told then', async () => {
  await using harness = await start(new ManualClock());
  const session = await openSession(harness);
  await post(harness, rpc('tools/list'), session);
  grant(harness, few);
  await post(harness, rpc('ping'), session);
  const stream = await openEvents(harness, { headers: session });
  assert.equal((await stream.next())?.json.method, NEWS);
  await stream.cancel();
});

test('legacy: a session of before a restart is told, because the list may be another one', async () => {
  const clock = new ManualClock();
  await using database = await openSqlite(':memory:', clock);
  const first = await start(clock, { database });
  const session = await openSession(first);
  await first.stop();
  clock.advance(SECOND);
  await using second = await start(clock, { database });
  const stream = await openEvents(second, { headers: session });
  assert.equal((await stream.next())?.json.method, NEWS);
  await stream.cancel();
  const fresh = await openSession(second);
  const quiet = await openEvents(second, { headers: fresh });
  await second.stop();
  assert.equal(await quiet.next(), undefined, 'a new session is not told');
});

test('modern: other grants are told to the subscriptions of that principal and of no other', async () => {
  const clock = new ManualClock();
  await using harness = await start(clock);
  const mine = await subscribe(harness);
  const other = await subscribe({ ...harness, token: 'other' });
  await modernList(harness);
  grant(harness, few);
  await modernList(harness);
  const told = (await mine.next())?.json;
  assert.equal(told?.method, NEWS);
  assert.equal(told?.params._meta['io.modelcontextprotocol/subscriptionId'], 'sub');
  await harness.stop();
  assert.equal((await mine.next())?.json.result.resultType, 'complete');
  assert.equal((await other.next())?.json.result.resultType, 'complete');
});

test('grants that alternate are not told more often than a list may be kept', async () => {
  const clock = new ManualClock();
  await using harness = await start(clock);
  const stream = await subscribe(harness);
  for (let i = 0; i < 10; i += 1) {
    grant(harness, i % 2 === 0 ? few : undefined);
    await modernList(harness);
  }
  clock.advance(TTL_MS);
  await modernList(harness);
  await harness.stop();
  const messages = [];
  for (let event = await stream.next(); event; event = await stream.next())
    messages.push(event.json.method ?? event.json.result.resultType);
  assert.deepEqual(messages, [NEWS, NEWS, 'complete']);
});
