import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { test } from 'node:test';
import { Client } from '@modelcontextprotocol/client';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import {
  principalOf,
  startHarness,
  type Harness,
  type HarnessOptions,
} from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import {
  envelope,
  modernHeaders,
  notification,
  openEvents,
  openSession,
  post,
  request,
  rpc,
  type Reply,
  type Wire,
} from '../../../test/conformance/wire.ts';
import { eventually } from '../../../test/support/eventually.ts';
import { ManualClock, MINUTE, SECOND, systemClock } from '../../core/clock.ts';
import { openSqlite } from '../../store/sqlite.ts';
import { parseEventId } from './channel.ts';

const operations = kitchenOperations;
const two = [principalOf('admin'), principalOf('other')];

const start = (options: HarnessOptions = {}): Promise<Harness> =>
  startHarness({ operations, services: createKitchen(), principals: two, extend: () => {}, ...options });

/** Of sessions, of their events and of tasks, and the ones after them. */
const CHANGES_OF_A_SWEEP = 6;

const asOther = (harness: Harness) => ({ ...harness, token: 'other' });
const echo = rpc('tools/call', { name: 'echo', arguments: { message: 'x' } });

test('[incident 25] a session answers its principal only; to others it does not exist', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  for (const [method, body] of [
    ['POST', JSON.stringify(rpc('ping'))],
    ['GET', undefined],
    ['DELETE', undefined],
  ] as const) {
    const headers = { ...session, 'content-type': 'application/json' };
    const reply = await request(asOther(harness), { method, headers, ...(body && { body }) });
    assert.deepEqual([reply.status, reply.json.error.code], [404, -32_001], method);
  }
  assert.equal((await post(harness, rpc('ping'), session)).status, 200);
});

test('an unknown session is 404, none at all is 400 where one is needed', async () => {
  await using harness = await start();
  assert.equal((await post(harness, echo, { 'mcp-session-id': 'ses_made-up' })).status, 404);
  assert.equal((await request(harness, { method: 'GET' })).status, 400);
  assert.equal((await request(harness, { method: 'DELETE' })).status, 400);
});

test('DELETE ends a session and its streams', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  const stream = await openEvents(harness, { headers: session });
  assert.equal((await request(harness, { method: 'DELETE', headers: session })).status, 200);
  assert.equal(await stream.next(), undefined);
  assert.equal((await post(harness, echo, session)).status, 404);
});

test('an initialize with a stale session id gets a new session', async () => {
  await using harness = await start();
  const reply = await post(harness, rpc('initialize'), { 'mcp-session-id': 'ses_stale' });
  assert.equal(reply.status, 200);
  assert.notEqual(reply.headers.get('mcp-session-id'), 'ses_stale');
});

test('the version header may be absent, and has to be one that exists', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  assert.equal((await post(harness, echo, session)).status, 200);
  assert.equal((await post(harness, echo, { ...session, 'mcp-protocol-version': '2025-06-18' })).status, 200);
  const wrong = await post(harness, echo, { ...session, 'mcp-protocol-version': '1999-01-01' });
  assert.deepEqual([wrong.status, wrong.json.error.code], [400, -32_000]);
});

test('a session goes on after a restart, with its version, capabilities and client', async () => {
  const database = await openSqlite(':memory:', systemClock);
  const first = await start({ database });
  const capabilities = { elicitation: {} };
  const session = await openSession(first, { version: '2025-11-25', capabilities });
  await first.stop();
  await using second = await start({ database });
  const reply = await post(second, echo, session);
  assert.equal(reply.json.result.structuredContent.message, 'x');
  assert.equal(second.told[0]?.detail.client, 'wire/1');
  assert.equal((await post(asOther(second), echo, session)).status, 404);
  // Asking needs the capabilities of the initialize before the restart; they are on the stream of the call.
  const call = rpc('tools/call', { name: 'remove_thing', arguments: { name: 'a' } });
  const asked = await openEvents(second, { method: 'POST', headers: session, body: call });
  assert.equal((await asked.next())?.json.method, 'elicitation/create');
  await asked.cancel();
  assert.equal((await post(second, [rpc('ping')], session)).status, 400);
  await second.stop();
  await database[Symbol.asyncDispose]();
});

test('a client of the SDK does not notice a restart', async () => {
  const database = await openSqlite(':memory:', systemClock);
  let current = await start({ database });
  const client = new Client({ name: 'v2', version: '1' });
  const transport = new StreamableHTTPClientTransport(new URL('http://localhost/mcp'), {
    requestInit: { headers: { authorization: 'Bearer admin' } },
    fetch: (url, init) => fetch(String(url).replace('http://localhost/mcp', current.url), init),
  });
  await client.connect(transport);
  await client.listTools();
  await current.stop();
  current = await start({ database });
  const result = await client.callTool({ name: 'echo', arguments: { message: 'after' } });
  assert.deepEqual(result.structuredContent, { message: 'after' });
  await client.close();
  await current.stop();
  await database[Symbol.asyncDispose]();
});

test('a GET stream says something at once, and a newer one takes over', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  const older = await openEvents(harness, { headers: session });
  assert.equal(older.headers.get('cache-control'), 'no-cache, no-transform');
  const newer = await openEvents(harness, { headers: session });
  assert.equal(await older.next(), undefined);
  assert.equal(older.raw[0], ': open');
  harness.toolsChanged();
  assert.equal((await newer.next())?.json.method, 'notifications/tools/list_changed');
  assert.deepEqual(harness.mcp.stats(), { sessions: 1, streams: 1 });
  await newer.cancel();
});

test('a stream that says nothing is kept alive', async () => {
  const clock = new ManualClock();
  await using harness = await start({ clock });
  const session = await openSession(harness);
  const stream = await openEvents(harness, { headers: session });
  clock.advance(15 * SECOND);
  harness.toolsChanged();
  await stream.next();
  assert.ok(stream.raw.includes(': keep-alive'), stream.raw.join());
  await stream.cancel();
});

test('a call that takes long becomes a stream, so that nothing on the way cuts it', async () => {
  const clock = new ManualClock();
  const services = createKitchen();
  const release = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<AbortSignal>();
  Object.assign(services.kitchen, { release: release.promise, begun: begun.resolve });
  await using harness = await start({ clock, services });
  const session = await openSession(harness);
  const body = rpc('tools/call', { name: 'run_slowly', arguments: {} });
  const opening = openEvents(harness, { method: 'POST', headers: session, body });
  await begun.promise;
  clock.advance(15 * SECOND);
  const stream = await opening;
  assert.equal(stream.headers.get('content-type'), 'text/event-stream');
  release.resolve();
  assert.equal((await stream.next())?.json.result.structuredContent.aborted, false);
});

test('HEAD answers as GET does, without a stream', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  const reply = await request(harness, {
    method: 'HEAD',
    headers: { ...session, accept: 'text/event-stream' },
  });
  assert.deepEqual([reply.status, reply.headers.get('content-type')], [200, 'text/event-stream']);
  assert.equal(harness.mcp.stats().streams, 0);
  assert.equal((await request(harness, { method: 'HEAD' })).status, 400);
});

test('2025-11-25: streams begin with an event to resume from; older versions get none', async () => {
  await using harness = await start();
  for (const [version, primes] of [
    ['2025-11-25', true],
    ['2025-06-18', false],
  ] as const) {
    const session = await openSession(harness, { version });
    const stream = await openEvents(harness, { headers: session });
    harness.toolsChanged();
    const event = await stream.next();
    assert.equal(
      stream.raw.some((block) => /^id: g[0-9a-f]{16}\.1\nretry: \d+\ndata:/.test(block)),
      primes,
    );
    assert.ok(parseEventId(event?.id ?? ''));
    await stream.cancel();
    await request(harness, { method: 'DELETE', headers: session });
  }
});

test('a standing stream is resumed with what was missed, also after a restart', async () => {
  const database = await openSqlite(':memory:', systemClock);
  const first = await start({ database });
  const session = await openSession(first, { version: '2025-11-25' });
  const stream = await openEvents(first, { headers: session });
  first.toolsChanged();
  const seen = await stream.next();
  await stream.cancel();
  await gone(first);
  first.toolsChanged();
  first.toolsChanged();
  const lastEventId = { 'last-event-id': seen?.id ?? '' };
  const resumed = await openEvents(first, { headers: { ...session, ...lastEventId } });
  const missed = [await resumed.next(), await resumed.next()];
  assert.deepEqual(
    missed.map((event) => event?.json.method),
    Array(2).fill('notifications/tools/list_changed'),
  );
  assert.equal(new Set(missed.map((event) => event?.id)).size, 2);
  await resumed.cancel();
  await first.stop();

  await using second = await start({ database });
  const again = await openEvents(second, { headers: { ...session, ...lastEventId } });
  assert.deepEqual(
    [(await again.next())?.id, (await again.next())?.id],
    missed.map((event) => event?.id),
  );
  second.toolsChanged();
  assert.equal((await again.next())?.json.method, 'notifications/tools/list_changed');
  await again.cancel();
  await second.stop();
  await database[Symbol.asyncDispose]();
});

/** The server has noticed that a client left. */
async function gone(harness: Harness): Promise<void> {
  while (harness.mcp.stats().streams > 0) await new Promise((resolve) => setImmediate(resolve));
}

test('the answer to a call is resumed when the connection broke before it', async () => {
  const services = createKitchen();
  const release = Promise.withResolvers<void>();
  services.kitchen.release = release.promise;
  await using harness = await start({ services });
  const session = await openSession(harness, { version: '2025-11-25' });
  const body = rpc('tools/call', { name: 'run_slowly', arguments: {}, _meta: { progressToken: 1 } }, 'long');
  const broken = await openEvents(harness, { method: 'POST', headers: session, body });
  const seen = await broken.next();
  assert.equal(seen?.json.params.progress, 1);
  await broken.cancel();
  await gone(harness);
  const headers = { ...session, 'last-event-id': seen?.id ?? '' };
  const live = await openEvents(harness, { headers });
  assert.equal((await live.next())?.json.params.progress, 2);
  release.resolve();
  assert.deepEqual((await live.next())?.json.result.structuredContent, { aborted: false });
  assert.equal(await live.next(), undefined);
  const late = await openEvents(harness, { headers });
  await late.next();
  assert.equal((await late.next())?.json.id, 'long');
  assert.equal(await late.next(), undefined);
});

test("[incident 25] another session's event id resumes nothing", async () => {
  await using harness = await start();
  const mine = await openSession(harness, { version: '2025-11-25' });
  const stream = await openEvents(harness, { headers: mine });
  harness.toolsChanged();
  const event = await stream.next();
  await stream.cancel();
  const theirs = await openSession(asOther(harness), { version: '2025-11-25' });
  const zero = (event?.id ?? '').replace(/\d+$/, '0').replace(/^g/, 'p');
  const stolen = await openEvents(asOther(harness), { headers: { ...theirs, 'last-event-id': zero } });
  assert.equal(await stolen.next(), undefined);
  const malformed = await request(harness, {
    method: 'GET',
    headers: { ...mine, 'last-event-id': "x' or 1" },
  });
  assert.equal(malformed.status, 400);
});

test('a principal with too many sessions loses the longest unused; others keep theirs', async () => {
  const clock = new ManualClock();
  await using harness = await start({ clock, settings: { maxSessionsPerPrincipal: 2 } });
  const others = await openSession(asOther(harness));
  const [first, second] = [await openSession(harness), await openSession(harness)];
  clock.advance(SECOND);
  await post(harness, rpc('ping'), first);
  await openSession(harness);
  assert.equal((await post(harness, rpc('ping'), first)).status, 200);
  assert.equal((await post(harness, rpc('ping'), second)).status, 404);
  assert.equal((await post(asOther(harness), rpc('ping'), others)).status, 200);
});

test('with too many sessions in all the longest unused goes', async () => {
  const clock = new ManualClock();
  await using harness = await start({ clock, settings: { maxSessions: 2 } });
  const first = await openSession(harness);
  clock.advance(SECOND);
  await openSession(asOther(harness));
  clock.advance(SECOND);
  const last = await openSession(harness);
  assert.equal((await post(harness, rpc('ping'), first)).status, 404);
  assert.equal((await post(harness, rpc('ping'), last)).status, 200);
  assert.equal(harness.mcp.stats().sessions, 2);
});

test('an idle session ends; one with an open stream does not', async () => {
  const clock = new ManualClock();
  await using harness = await start({ clock, settings: { sessionIdleMs: 30 * MINUTE } });
  const idle = await openSession(harness);
  const open = await openSession(harness);
  const stream = await openEvents(harness, { headers: open });
  for (let i = 0; i < 31; i += 1) {
    clock.advance(MINUTE);
    // The sweep writes to the database; the next one comes after it.
    await post(harness, rpc('ping'));
  }
  assert.equal((await post(harness, rpc('ping'), idle)).status, 404);
  assert.equal((await post(harness, rpc('ping'), open)).status, 200);
  await stream.cancel();
});

test('an idle session leaves memory and comes back when it is used', async () => {
  const clock = new ManualClock();
  await using database = await openSqlite(':memory:', clock);
  await using harness = await start({ clock, database });
  const session = await openSession(harness);
  while (harness.mcp.stats().sessions > 0) {
    clock.advance(MINUTE);
    // A sweep is a few changes, one after the other, and is over before the next one.
    for (let i = 0; i < CHANGES_OF_A_SWEEP; i += 1) await database.change({}, async () => undefined);
  }
  assert.equal((await post(harness, echo, session)).status, 200);
  assert.equal(harness.mcp.stats().sessions, 1);
});

test('a session whose SDK server could not be made tries again, can be cancelled, and leaves memory like any other', async (t) => {
  const lost = t.mock.fn();
  process.on('unhandledRejection', lost);
  t.after(() => process.off('unhandledRejection', lost));
  const clock = new ManualClock();
  let isBroken = false;
  const extend = () => {
    if (isBroken) throw new Error('no server today');
  };
  await using harness = await start({ clock, extend });
  const session = await openSession(harness);
  const other = await openSession(harness);
  isBroken = true;
  const inner = { name: 'remove_thing', arguments: { name: 'a' } };
  const call = rpc('tools/call', { name: 'call_operation', arguments: inner });
  assert.equal((await post(harness, call, session)).status, 500);
  const failed = await post(harness, call, other);
  assert.deepEqual([failed.status, failed.json.error.code], [500, -32_603]);
  const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } };
  assert.equal((await post(harness, cancelled, session)).status, 202);
  isBroken = false;
  assert.equal((await post(harness, call, session)).status, 200);
  while (harness.mcp.stats().sessions > 0) {
    clock.advance(MINUTE);
    await post(harness, rpc('ping'));
  }
  await new Promise(setImmediate);
  assert.equal(lost.mock.callCount(), 0);
});

test('more event streams than allowed are refused with 503', async () => {
  await using harness = await start({ settings: { maxEventStreams: 1 } });
  const session = await openSession(harness);
  const stream = await openEvents(harness, { headers: session });
  const other = await openSession(asOther(harness));
  assert.equal((await request(asOther(harness), { method: 'GET', headers: other })).status, 503);
  await stream.cancel();
});

test('[incident 30] a credential that is gone takes its streams of both eras with it', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  const standing = await openEvents(harness, { headers: session });
  const listening = await openEvents(harness, {
    method: 'POST',
    headers: modernHeaders('subscriptions/listen'),
    body: rpc('subscriptions/listen', { notifications: { toolsListChanged: true }, _meta: envelope() }),
  });
  await listening.next();
  const others = await openSession(asOther(harness));
  const theirs = await openEvents(asOther(harness), { headers: others });
  harness.live.cut('admin');
  assert.equal(await standing.next(), undefined);
  assert.equal(await listening.next(), undefined);
  harness.toolsChanged();
  assert.ok(await theirs.next());
  await theirs.cancel();
});

test('[incident 30] a credential that is gone takes the call that runs with it', async () => {
  const services = createKitchen();
  const begun = Promise.withResolvers<AbortSignal>();
  Object.assign(services.kitchen, { release: new Promise(() => {}), begun: begun.resolve });
  await using harness = await start({ services });
  const body = rpc('tools/call', { name: 'run_slowly', arguments: {}, _meta: envelope() });
  const running = post(harness, body, modernHeaders('tools/call', 'run_slowly'));
  const signal = await begun.promise;
  harness.live.cut('other');
  assert.equal(signal.aborted, false);
  harness.live.cut('admin');
  await assert.rejects(running);
  if (!signal.aborted) await once(signal, 'abort');
});

test('an initialize that says too much about itself is refused, so that nothing big is kept', async () => {
  await using harness = await start();
  const clientInfo = { name: 'x'.repeat(20_000), version: '1' };
  const reply = await post(harness, rpc('initialize', { clientInfo }));
  assert.deepEqual([reply.status, reply.json.error.code], [400, -32_602]);
  const ignored = await post(harness, rpc('initialize', { padding: 'x'.repeat(20_000) }));
  assert.equal(ignored.status, 200);
});

test('what is kept of one session for resuming is bounded; the stream itself is not', async () => {
  await using harness = await start();
  const session = await openSession(harness, { version: '2025-11-25' });
  const accept = 'text/event-stream';
  const message = 'x'.repeat(10_000);
  const call = rpc('tools/call', { name: 'echo', arguments: { message } });
  const ids: string[] = [];
  for (let i = 0; i < 70; i += 1) {
    const reply = await post(harness, call, { ...session, accept });
    assert.ok(reply.text.includes(message));
    ids.push(/^id: (p\w+)\.1$/m.exec(reply.text)?.[1] ?? '');
  }
  const resume = async (id: string | undefined) => {
    const headers = { ...session, accept, 'last-event-id': `${id}.1` };
    return (await request(harness, { method: 'GET', headers })).text.includes(message);
  };
  assert.equal(await resume(ids[0]), true);
  assert.equal(await resume(ids.at(-1)), false);
});

test('closing the sessions of a principal aborts what runs in them', async () => {
  const services = createKitchen();
  const begun = Promise.withResolvers<AbortSignal>();
  Object.assign(services.kitchen, { release: new Promise(() => {}), begun: begun.resolve });
  await using harness = await start({ services });
  const session = await openSession(harness);
  const running = post(harness, rpc('tools/call', { name: 'run_slowly', arguments: {} }), session);
  const signal = await begun.promise;
  harness.mcp.closeSessionsOf('other');
  assert.equal(signal.aborted, false);
  harness.mcp.closeSessionsOf('admin');
  await running;
  assert.equal(signal.aborted, true);
  await eventually(
    async () => (await post(harness, rpc('ping'), session)).status === 404 || undefined,
    'the end of the session',
  );
});

test('requests at once on one session are each answered, also with the same id', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  const messages = Array.from({ length: 20 }, (_, i) => `m${i}`);
  const replies = await Promise.all(
    messages.map((message) =>
      post(harness, rpc('tools/call', { name: 'echo', arguments: { message } }, 'same'), session),
    ),
  );
  assert.deepEqual(
    replies.map(({ json }) => json.result.structuredContent.message),
    messages,
  );
  const relayed = await Promise.all(
    messages.map(() => post(harness, rpc('prompts/list', {}, 'same'), session)),
  );
  assert.ok(relayed.every(({ json }) => json.id === 'same' && json.error.code === -32_601));
});

test('[incident 19] 1,000 interleaved principals never see a byte of another', async () => {
  const principals = Array.from({ length: 1000 }, (_, i) => principalOf(`principal-${i}-`));
  await using harness = await startHarness({
    operations,
    services: createKitchen(),
    principals,
    quiet: true,
  });
  const call = { name: 'list_things', arguments: { limit: 1 } };
  const modern = modernHeaders('tools/call', 'list_things');
  const sessions = new Map<string, Record<string, string>>();
  // Both paths of both eras; every worker takes the next principal, so that no two in a row are the same.
  const rounds: ((wire: Wire) => Promise<Reply>)[] = [
    (wire) => post(wire, rpc('tools/call', call, wire.token), sessions.get(wire.token ?? '')),
    (wire) =>
      post(wire, rpc('tools/call', { ...call, extra: 1 }, wire.token), sessions.get(wire.token ?? '')),
    (wire) => post(wire, rpc('tools/call', { ...call, _meta: envelope() }, wire.token), modern),
    (wire) =>
      post(wire, rpc('tools/call', { ...call, _meta: envelope({ experimental: {} }) }, wire.token), modern),
  ];
  await interleaved(principals, async ({ id }) => {
    sessions.set(id, await openSession({ url: harness.url, token: id }));
  });
  for (const round of rounds)
    await interleaved(principals, async ({ id }) => {
      const { text, json } = await round({ url: harness.url, token: id });
      assert.equal(json.id, id);
      assert.deepEqual([...new Set(text.match(/principal-\d+-/g))], [id]);
    });
});

const WORKERS = 50;

async function interleaved<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
}

test('stopping ends every stream', async () => {
  const harness = await start();
  const session = await openSession(harness);
  const stream = await openEvents(harness, { headers: session });
  const stopping = harness.stop();
  assert.equal(await stream.next(), undefined);
  await stopping;
  await harness.database[Symbol.asyncDispose]();
});

test('a notification of a client that nobody waits for is taken', async () => {
  await using harness = await start();
  const session = await openSession(harness);
  for (const method of ['notifications/roots/list_changed', 'notifications/cancelled', 'notifications/x'])
    assert.equal((await post(harness, notification(method), session)).status, 202);
  assert.equal((await post(harness, { jsonrpc: '2.0', id: 5, result: {} }, session)).status, 202);
});
