/** Resources, read and followed by the clients of both eras. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { Client, type McpSubscription, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { type Harness, principalOf, startHarness } from '../../../test/conformance/harness.ts';
import {
  BOTH,
  envelope,
  modernHeaders,
  openEvents,
  openSession,
  post,
  rpc,
} from '../../../test/conformance/wire.ts';
import { eventually } from '../../../test/support/eventually.ts';
import { AppError } from '../../core/errors.ts';
import { defineOperation } from '../../core/operation.ts';
import { mayTouch, type Principal } from '../../core/principal.ts';
import { openSqlite } from '../../store/sqlite.ts';
import { ManualClock } from '../../core/clock.ts';
import { MAX_FOLLOWED } from './resources.ts';
import { UNTRUSTED_NOTICE } from './results.ts';

const URI = 'ohp://news';
const OTHER = 'ohp://other';

const readNews = defineOperation({
  name: 'list_news',
  title: 'List news',
  description: 'News of strangers.',
  permission: 'alerts:read',
  confinement: 'filters',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  resource: URI,
  resourceBy: {
    argument: 'of',
    check(of) {
      if (of === 'none') throw new AppError('INVALID_INPUT', 'of: none is nothing');
    },
  },
  toolset: 'alerts',
  http: { method: 'GET', path: '/v1/news' },
  input: z.object({ of: z.string().max(10).default('all').describe('Which') }),
  output: z.object({ of: z.string(), caller: z.string() }),
  handler: async ({ of }, { principal }) => {
    if (principal.id === 'unlucky') throw new AppError('UNAVAILABLE', 'the news is away');
    return { of, caller: principal.id };
  },
});

const principals = [
  principalOf('admin'),
  principalOf('unlucky'),
  principalOf('confined', { hostnames: ['a.example.com'] }),
  principalOf('stranger', { permissions: new Set(['proxies:read'] as const) }),
];

const start = () => startHarness({ operations: [readNews], principals, quiet: true });

const about =
  (...hostnames: string[]) =>
  (principal: Principal): boolean =>
    principal.hostnames === undefined || hostnames.some((hostname) => mayTouch(principal, hostname));

interface Follower {
  /** URIs that it was told of. */
  readonly told: string[];
  list(): Promise<string[]>;
  read(uri: string): Promise<string[]>;
  follow(uri: string): Promise<unknown>;
  leave(uri: string): Promise<unknown>;
}

const headersOf = (token: string) => ({ requestInit: { headers: { authorization: `Bearer ${token}` } } });

/** A client of our own days; `pinned`: it speaks the modern era and no other. */
async function clientV2(
  t: TestContext,
  { url }: Harness,
  token: string,
  mode: 'legacy' | 'auto',
): Promise<Follower> {
  const told: string[] = [];
  const client = new Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } });
  client.setNotificationHandler(
    'notifications/resources/updated',
    ({ params }) => void told.push(params.uri),
  );
  await client.connect(new StreamableHTTPClientTransport(new URL(url), headersOf(token)));
  t.after(() => client.close());
  let subscription: McpSubscription | undefined;
  return {
    told,
    list: async () => (await client.listResources()).resources.map(({ uri }) => uri),
    read: async (uri) =>
      (await client.readResource({ uri })).contents.map((one) => ('text' in one ? one.text : '')),
    async follow(uri) {
      if (mode === 'legacy') return client.subscribeResource({ uri });
      return (subscription = await client.listen({ resourceSubscriptions: [uri] }));
    },
    leave: async (uri) => (mode === 'legacy' ? client.unsubscribeResource({ uri }) : subscription?.close()),
  };
}

async function clientV1(t: TestContext, { url }: Harness, token: string): Promise<Follower> {
  const told: string[] = [];
  const client = new ClientV1({ name: 'v1', version: '1' });
  client.setNotificationHandler(
    ResourceUpdatedNotificationSchema,
    ({ params }) => void told.push(params.uri),
  );
  // Its types are those of an older TypeScript.
  await client.connect(
    new TransportV1(new URL(url), headersOf(token)) as Parameters<typeof client.connect>[0],
  );
  t.after(() => client.close());
  return {
    told,
    list: async () => (await client.listResources()).resources.map(({ uri }) => uri),
    read: async (uri) =>
      (await client.readResource({ uri })).contents.map((one) => ('text' in one ? one.text : '')),
    follow: (uri) => client.subscribeResource({ uri }),
    leave: (uri) => client.unsubscribeResource({ uri }),
  };
}

const kinds = {
  'the v1 client': clientV1,
  'the v2 client, legacy': (t: TestContext, harness: Harness, token: string) =>
    clientV2(t, harness, token, 'legacy'),
  'the v2 client, modern': (t: TestContext, harness: Harness, token: string) =>
    clientV2(t, harness, token, 'auto'),
};

/** Its standing stream, or its subscription, is open. */
const listening = (harness: Harness, streams: number) =>
  eventually(async () => harness.mcp.stats().streams >= streams || undefined, 'the stream');

for (const [kind, connect] of Object.entries(kinds)) {
  test(`${kind} lists and reads what it may, with the warning before text of strangers`, async (t) => {
    await using harness = await start();
    const admin = await connect(t, harness, 'admin');
    assert.deepEqual(await admin.list(), [URI]);
    assert.deepEqual(await admin.read(URI), [UNTRUSTED_NOTICE, '{"of":"all","caller":"admin"}']);
    await assert.rejects(admin.read(OTHER), /not found/i);
  });

  test(`${kind} is told of what it follows, until it leaves`, async (t) => {
    await using harness = await start();
    const admin = await connect(t, harness, 'admin');
    await listening(harness, kind.endsWith('modern') ? 0 : 1);
    harness.mcp.resourceChanged(URI, () => true);
    await admin.follow(URI);
    await listening(harness, 1);
    harness.mcp.resourceChanged(URI, () => true);
    await eventually(async () => admin.told[0], 'the news');
    await admin.leave(URI);
    harness.mcp.resourceChanged(URI, () => true);
    await admin.list();
    assert.deepEqual(admin.told, [URI], 'neither before it followed nor after it left');
  });

  test(`${kind} without the permission learns of no resource, and can not follow it`, async (t) => {
    await using harness = await start();
    const stranger = await connect(t, harness, 'stranger');
    assert.deepEqual(await stranger.list(), []);
    await assert.rejects(stranger.read(URI), /not found/i);
    if (!kind.endsWith('modern')) await assert.rejects(stranger.follow(URI), /not found/i);
    else await stranger.follow(URI);
    harness.mcp.resourceChanged(URI, () => true);
    await stranger.list();
    assert.deepEqual(stranger.told, []);
  });

  test(`${kind} that is confined hears of its hostnames and of no others`, async (t) => {
    await using harness = await start();
    const confined = await connect(t, harness, 'confined');
    await confined.follow(URI);
    await listening(harness, 1);
    harness.mcp.resourceChanged(URI, about('b.example.com'));
    harness.mcp.resourceChanged(URI, about());
    harness.mcp.resourceChanged(URI, about('b.example.com', 'a.example.com'));
    await eventually(async () => confined.told[0], 'the news');
    await confined.list();
    assert.deepEqual(confined.told, [URI]);
  });

  test(`[incident 30] ${kind} whose credential is gone hears nothing more`, async (t) => {
    await using harness = await start();
    const admin = await connect(t, harness, 'admin');
    await admin.follow(URI);
    await listening(harness, 1);
    harness.principals.delete('admin');
    harness.live.cut('admin');
    harness.mcp.closeSessionsOf('admin');
    harness.mcp.resourceChanged(URI, () => true);
    await eventually(async () => harness.mcp.stats().streams === 0 || undefined, 'the end of the stream');
    assert.deepEqual(admin.told, []);
  });

  test(`${kind} hears why a resource can not be read`, async (t) => {
    await using harness = await start();
    const unlucky = await connect(t, harness, 'unlucky');
    await assert.rejects(unlucky.read(URI), /UNAVAILABLE: the news is away/);
  });
}

test('a subscription of who lacks the permission, or whose credential is over, brings nothing', async () => {
  const clock = new ManualClock();
  const over = principalOf('over', { expiresAt: clock.now() + 1 });
  const all = [...principals, over];
  await using harness = await startHarness({ operations: [readNews], principals: all, quiet: true, clock });
  const streams = [];
  for (const token of ['stranger', 'over', 'admin']) {
    const params = { notifications: { resourceSubscriptions: [URI] }, _meta: envelope() };
    const stream = await openEvents(
      { ...harness, token },
      {
        method: 'POST',
        headers: modernHeaders('subscriptions/listen'),
        body: rpc('subscriptions/listen', params, token),
      },
    );
    assert.equal((await stream.next())?.json.method, 'notifications/subscriptions/acknowledged');
    streams.push(stream);
  }
  clock.advance(1);
  harness.mcp.resourceChanged(URI, () => true);
  // It ends each with its result, behind whatever was said before.
  await harness.mcp.drain();
  const next = await Promise.all(streams.map((stream) => stream.next()));
  assert.deepEqual(
    next.map((event) => event?.json.method ?? event?.json.id),
    ['stranger', 'over', 'notifications/resources/updated'],
  );
});

test('a session that comes back after a restart follows what it followed, and is told that it may have changed', async (t) => {
  const clock = new ManualClock();
  const database = await openSqlite(':memory:', clock);
  t.after(() => database[Symbol.asyncDispose]());
  const options = { operations: [readNews], principals, quiet: true, database };
  const one = await startHarness(options);
  const session = await openSession(one, { version: '2025-11-25' });
  const followed = await post(one, rpc('resources/subscribe', { uri: URI }), session);
  assert.deepEqual(followed.json.result, {});
  await one.stop();
  await using two = await startHarness(options);
  const gone = new AbortController();
  t.after(() => gone.abort());
  const stream = await fetch(two.url, {
    headers: { ...session, authorization: 'Bearer admin', accept: 'text/event-stream' },
    signal: gone.signal,
  });
  assert.ok(stream.body);
  let seen = '';
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  const until = async (count: number) => {
    while (seen.split('notifications/resources/updated').length - 1 < count)
      seen += (await reader.read()).value;
  };
  await until(1);
  two.mcp.resourceChanged(URI, () => true);
  await until(2);
});

test('without a session nothing can be followed, and the answer says what to do', async () => {
  await using harness = await start();
  const { json } = await post(harness, rpc('resources/subscribe', { uri: URI }));
  assert.match(json.error.message, /send initialize/);
});

test('both eras declare that resources can be followed', async () => {
  await using harness = await start();
  const old = await post(harness, rpc('initialize', { protocolVersion: '2025-11-25' }));
  const discovered = await post(harness, rpc('server/discover', { _meta: envelope() }), {
    accept: BOTH,
    ...modernHeaders('server/discover'),
  });
  for (const { json } of [old, discovered])
    assert.deepEqual(json.result.capabilities.resources, { subscribe: true });
});

for (const [kind, connect] of Object.entries(kinds)) {
  test(`${kind} reads and follows a resource by an argument, and is told of that one alone`, async (t) => {
    await using harness = await start();
    const admin = await connect(t, harness, 'admin');
    const uri = `${URI}?of=a%20b`;
    assert.deepEqual(await admin.read(uri), [UNTRUSTED_NOTICE, '{"of":"a b","caller":"admin"}']);
    for (const other of ['?', '?of', '?of=a&of=b', '?of=a&x=b', '?x=a', '/?of=a'])
      await assert.rejects(admin.read(`${URI}${other}`), /not found/i, other);
    const tooLong = `${URI}?of=${'a'.repeat(11)}`;
    await assert.rejects(admin.read(tooLong), { code: -32_602 });
    const read = await admin.read(`${URI}?of=none`);
    assert.equal(read.length, 2, 'what can not be followed can be read');
    if (!kind.endsWith('modern')) await assert.rejects(admin.follow(`${URI}?of=none`), /of: none is nothing/);
    await admin.follow(uri);
    await listening(harness, 1);
    harness.mcp.resourceChanged(URI, () => true);
    const [follower, ...others] = harness.mcp.followersOf(URI);
    assert.deepEqual([follower?.uri, follower?.raw, others], [uri, { of: 'a b' }, []]);
    follower?.tell();
    await eventually(async () => admin.told[0], 'the news');
    assert.deepEqual(admin.told, [uri]);
  });
}

test('who follows and may no more is no follower', async (t) => {
  const clock = new ManualClock();
  const over = principalOf('over', { expiresAt: clock.now() + 1 });
  await using harness = await startHarness({
    operations: [readNews],
    principals: [over],
    quiet: true,
    clock,
  });
  const client = await clientV2(t, harness, 'over', 'legacy');
  await client.follow(URI);
  await listening(harness, 1);
  assert.equal(harness.mcp.followersOf(URI).length, 1);
  clock.advance(1);
  assert.deepEqual(harness.mcp.followersOf(URI), []);
});

for (const [rights, permissions, expected] of [
  ['may still', undefined, [URI]],
  ['may no more', new Set(['proxies:read'] as const), []],
] as const)
  test(`a session that is cut off follows nothing until it listens again; who ${rights} read it is told ${expected.length} times then`, async () => {
    await using harness = await start();
    const session = await openSession(harness, { version: '2025-11-25' });
    const stream = await openEvents(harness, { headers: session });
    await post(harness, rpc('resources/subscribe', { uri: URI }), session);
    const [before] = harness.mcp.followersOf(URI);
    before?.tell();
    const heard = await stream.next();
    assert.equal(heard?.json.method, 'notifications/resources/updated');
    harness.principals.set('admin', principalOf('admin', permissions && { permissions }));
    harness.live.cut('admin');
    assert.equal(await stream.next(), undefined);
    assert.deepEqual(harness.mcp.followersOf(URI), []);
    harness.mcp.resourceChanged(URI, () => true);
    before?.tell();
    const again = await openEvents(harness, {
      headers: { ...session, 'last-event-id': heard?.id ?? '' },
    });
    // So that the end of what is sent again can be seen, in either case.
    harness.principals.set('admin', principalOf('admin'));
    await post(harness, rpc('ping'), session);
    await eventually(async () => harness.mcp.followersOf(URI)[0], 'the stream');
    // A look that was under way when the other stream was cut.
    before?.tell();
    await harness.mcp.drain();
    const told: string[] = [];
    for (let event = await again.next(); event; event = await again.next())
      if (event.json.params?.uri) told.push(event.json.params.uri);
    assert.deepEqual(told, expected);
  });

test('a principal follows twenty resources at most, over all its sessions and subscriptions', async () => {
  await using harness = await start();
  const one = await openSession(harness, { version: '2025-11-25' });
  const other = await openSession(harness, { version: '2025-11-25' });
  const streams = [
    await openEvents(harness, { headers: one }),
    await openEvents(harness, { headers: other }),
  ];
  const follow = (n: number, session: typeof one) =>
    post(harness, rpc('resources/subscribe', { uri: `${URI}?of=${n}` }), session);
  for (let n = 0; n < MAX_FOLLOWED; n++) await follow(n, n % 2 ? one : other);
  assert.match((await follow(MAX_FOLLOWED, one)).json.error.message, /20 resources .* all .* sessions/);
  assert.deepEqual((await follow(0, one)).json.result, {}, 'the same in another session is no other');
  const mine = () => harness.mcp.followersOf(URI).filter(({ principal }) => principal.id === 'admin');
  assert.equal(mine().length, MAX_FOLLOWED + 1);
  const uris = Array.from({ length: MAX_FOLLOWED }, (_, n) => `${URI}?of=m${n}`);
  for (const token of ['admin', 'confined']) {
    const params = { notifications: { resourceSubscriptions: uris }, _meta: envelope() };
    const body = rpc('subscriptions/listen', params, token);
    const init = { method: 'POST', headers: modernHeaders('subscriptions/listen'), body };
    streams.push(await openEvents({ ...harness, token }, init));
  }
  const followed = harness.mcp.followersOf(URI);
  assert.equal(mine().length, MAX_FOLLOWED + 1, 'what is more is not told');
  assert.equal(followed.length - mine().length, MAX_FOLLOWED, 'another principal has its own');
  const own = await openSession({ ...harness, token: 'confined' }, { version: '2025-11-25' });
  const uri = `${URI}?of=more`;
  const { json } = await post({ ...harness, token: 'confined' }, rpc('resources/subscribe', { uri }), own);
  assert.match(json.error.message, /20 resources/);
  for (const stream of streams) await stream.cancel();
});

test('a session follows twenty resources at most', async () => {
  await using harness = await start();
  const session = await openSession(harness, { version: '2025-11-25' });
  const follow = (n: number) => post(harness, rpc('resources/subscribe', { uri: `${URI}?of=${n}` }), session);
  for (let n = 0; n < MAX_FOLLOWED; n++) assert.deepEqual((await follow(n)).json.result, {});
  assert.match((await follow(MAX_FOLLOWED)).json.error.message, /20 resources are followed already/);
  assert.deepEqual((await follow(0)).json.result, {});
});

test('the list of resources has one page, and templates are told to who may read them', async () => {
  await using harness = await start();
  const session = await openSession(harness, { version: '2025-11-25' });
  for (const method of ['resources/list', 'resources/templates/list'])
    assert.equal((await post(harness, rpc(method, { cursor: 'x' }), session)).json.error.code, -32_602);
  const { json } = await post(harness, rpc('resources/templates/list', {}), session);
  assert.deepEqual(
    json.result.resourceTemplates.map((one: { uriTemplate: string }) => one.uriTemplate),
    [`${URI}{?of}`],
  );
  const own = await openSession({ ...harness, token: 'stranger' }, { version: '2025-11-25' });
  const none = await post({ ...harness, token: 'stranger' }, rpc('resources/templates/list', {}), own);
  assert.deepEqual(none.json.result.resourceTemplates, []);
});
