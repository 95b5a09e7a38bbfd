import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import {
  principalOf,
  startHarness,
  type Harness,
  type HarnessOptions,
} from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import { modernCall, openEvents, openSession, post, rpc } from '../../../test/conformance/wire.ts';
import { ManualClock, MINUTE } from '../../core/clock.ts';
import { createRequestStates } from './request-state.ts';

const capabilities = { elicitation: { form: {} } };
const remove = rpc('tools/call', { name: 'remove_thing', arguments: { name: 'a' } });

interface Kit {
  harness: Harness;
  removed: string[];
}

async function start(options: HarnessOptions = {}): Promise<Kit & AsyncDisposable> {
  const services = createKitchen();
  const principals = [principalOf('admin'), principalOf('other')];
  const harness = await startHarness({ operations: kitchenOperations, services, principals, ...options });
  return {
    harness,
    removed: services.kitchen.removed,
    [Symbol.asyncDispose]: () => harness[Symbol.asyncDispose](),
  };
}

/** Legacy: the question comes on the stream of the call; the answer goes in a POST of its own. */
async function askLegacy({ harness }: Kit, answer: unknown, body: unknown = remove) {
  const session = await openSession(harness, { version: '2025-11-25', capabilities });
  const stream = await openEvents(harness, { method: 'POST', headers: session, body });
  const question = await stream.next();
  assert.equal(question?.json.method, 'elicitation/create');
  await post(harness, { jsonrpc: '2.0', id: question?.json.id, result: answer }, session);
  const result = await stream.next();
  assert.equal(result?.json.id, 1);
  return { question: question?.json.params, result: result?.json.result };
}

const yes = { action: 'accept', content: { confirm: true } };
const noes = [
  { action: 'decline' },
  { action: 'cancel' },
  { action: 'accept', content: { confirm: false } },
  { action: 'accept', content: {} },
  { action: 'accept' },
];

test('legacy: a destructive call asks, and happens after a yes', async () => {
  await using kit = await start();
  const { question, result } = await askLegacy(kit, yes);
  assert.equal(question.message, 'Remove a?');
  assert.deepEqual(Object.keys(question.requestedSchema.properties), ['confirm']);
  assert.deepEqual(result.structuredContent, { removed: 'a' });
  assert.deepEqual(kit.removed, ['a']);
});

test('legacy: anything but a clear yes does nothing', async () => {
  await using kit = await start();
  for (const no of noes) {
    const { result } = await askLegacy(kit, no);
    assert.equal(result.isError, true);
    assert.match(result.content[0].text, /^CONFIRMATION_REQUIRED: /);
  }
  assert.deepEqual(kit.removed, []);
});

test('legacy: call_operation asks for what it calls', async () => {
  await using kit = await start();
  const inner = { name: 'remove_thing', arguments: { name: 'b' } };
  const { question } = await askLegacy(
    kit,
    yes,
    rpc('tools/call', { name: 'call_operation', arguments: inner }),
  );
  assert.equal(question.message, 'Remove b?');
  assert.deepEqual(kit.removed, ['b']);
});

test('legacy: an answer to a question of another session, or of before, confirms nothing', async () => {
  await using kit = await start();
  const { harness } = kit;
  const session = await openSession(harness, { capabilities });
  const stream = await openEvents(harness, { method: 'POST', headers: session, body: remove });
  const question = await stream.next();
  const another = await openSession(harness, { capabilities });
  await post(harness, { jsonrpc: '2.0', id: question?.json.id, result: yes }, another);
  for (const id of [0, 1, '0', `x.${String(question?.json.id).split('.')[1]}`])
    await post(harness, { jsonrpc: '2.0', id, result: yes }, session);
  assert.deepEqual(kit.removed, []);
  await post(harness, { jsonrpc: '2.0', id: question?.json.id, result: yes }, session);
  assert.deepEqual((await stream.next())?.json.result.structuredContent, { removed: 'a' });
});

/** Modern: the call ends with the question and comes again. */
async function askModern({ harness }: Kit, token = 'admin') {
  const { json } = await modernCall({ ...harness, token }, 'remove_thing', { name: 'a' }, { capabilities });
  assert.equal(json.result.resultType, 'input_required');
  const [[key, question]] = Object.entries<any>(json.result.inputRequests) as [[string, any]];
  return { key, question, state: json.result.requestState as string };
}

function answerModern(
  { harness }: Kit,
  { key, state }: { key: string; state: string },
  { answer = yes as unknown, args = { name: 'a' }, token = 'admin', name = 'remove_thing' } = {},
) {
  const params = { requestState: state, inputResponses: { [key]: answer } };
  return modernCall({ ...harness, token }, name, args, { capabilities, params });
}

test('modern: a destructive call asks, and happens once after a yes', async () => {
  await using kit = await start();
  const asked = await askModern(kit);
  assert.equal(asked.question.params.message, 'Remove a?');
  assert.deepEqual(kit.removed, []);
  const { json } = await answerModern(kit, asked);
  assert.deepEqual([json.result.resultType, json.result.structuredContent], ['complete', { removed: 'a' }]);
  const replayed = await answerModern(kit, asked);
  assert.equal(replayed.json.error.code, -32_602);
  assert.deepEqual(kit.removed, ['a']);
});

test('modern: anything but a clear yes does nothing, and burns the question', async () => {
  await using kit = await start();
  for (const no of noes) {
    const asked = await askModern(kit);
    const { json } = await answerModern(kit, asked, { answer: no });
    assert.match(json.result.content[0].text, /^CONFIRMATION_REQUIRED: /);
    assert.equal((await answerModern(kit, asked)).json.error.code, -32_602);
  }
  assert.deepEqual(kit.removed, []);
});

test('modern: a missing answer is asked for again', async () => {
  await using kit = await start();
  const { state } = await askModern(kit);
  for (const inputResponses of [{}, { other: yes }, { confirmation: 5 }]) {
    const params = { requestState: state, inputResponses };
    const { json } = await modernCall(kit.harness, 'remove_thing', { name: 'a' }, { capabilities, params });
    assert.equal(json.result.resultType, 'input_required');
  }
  assert.deepEqual(kit.removed, []);
});

test('modern: a yes is for these arguments, this principal and this operation only', async () => {
  await using kit = await start();
  const asked = await askModern(kit);
  const otherArguments = await answerModern(kit, asked, { args: { name: 'b' } });
  assert.equal(otherArguments.json.result.resultType, 'input_required');
  const otherPrincipal = await answerModern(kit, asked, { token: 'other' });
  assert.equal(otherPrincipal.json.error.code, -32_602);
  const detour = await answerModern(kit, asked, {
    name: 'call_operation',
    args: { name: 'remove_thing', arguments: { name: 'b' } } as never,
  });
  assert.equal(detour.json.result.resultType, 'input_required');
  assert.deepEqual(kit.removed, []);
});

test('modern: a state that was changed, made up or is too old is refused', async () => {
  const clock = new ManualClock();
  await using kit = await start({ clock });
  const { key, state } = await askModern(kit);
  const [version, body = '', mac] = state.split('.');
  const forged = Buffer.from(body, 'base64url').toString().replace('"a', '"b');
  for (const bad of [
    '',
    'x',
    `${version}.${body}.`,
    `${version}.${Buffer.from(forged).toString('base64url')}.${mac}x`,
  ])
    assert.equal((await answerModern(kit, { key, state: bad })).json.error.code, -32_602, bad);
  clock.advance(5 * MINUTE);
  assert.equal((await answerModern(kit, { key, state })).json.error.code, -32_602);
  assert.deepEqual(kit.removed, []);
});

test('a state of before a restart is refused, so that none can be used twice', () => {
  const clock = new ManualClock();
  const secret = randomBytes(32);
  const receipt = { principalId: 'p', operation: 'o', inputDigest: 'd' };
  const state = createRequestStates(secret, clock).issue(receipt);
  clock.advance(1);
  assert.equal(createRequestStates(secret, clock).read(state, 'p'), undefined);
});

test('when-possible: a client that offers no forms is not asked', async () => {
  await using kit = await start();
  const session = await openSession(kit.harness, { capabilities: { elicitation: { url: {} } } });
  assert.deepEqual((await post(kit.harness, remove, session)).json.result.structuredContent, {
    removed: 'a',
  });
  await modernCall(kit.harness, 'remove_thing', { name: 'b' });
  assert.deepEqual(kit.removed, ['a', 'b']);
});

const HANGS_MS = 20_000;

test('a client that takes no event stream cannot be asked, so it is not kept waiting', {
  timeout: HANGS_MS,
}, async () => {
  for (const confirm of ['when-possible', 'always'] as const) {
    await using kit = await start({ settings: { confirm } });
    const session = await openSession(kit.harness, { capabilities });
    const { json } = await post(kit.harness, remove, { ...session, accept: 'application/*' });
    if (confirm === 'always') assert.match(json.result.content[0].text, /^CONFIRMATION_REQUIRED: /);
    assert.deepEqual(kit.removed, confirm === 'always' ? [] : ['a']);
  }
});

test('a question for which there is no stream left is refused, not skipped', {
  timeout: HANGS_MS,
}, async () => {
  await using kit = await start({ settings: { maxEventStreamsPerPrincipal: 1 } });
  const session = await openSession(kit.harness, { capabilities });
  const stream = await openEvents(kit.harness, { headers: session });
  const { json } = await post(kit.harness, remove, session);
  assert.match(json.result.content[0].text, /^RATE_LIMITED: 1 event streams of yours are open/);
  assert.deepEqual(kit.removed, []);
  await stream.cancel();
});

test('always: a client that cannot be asked is refused', async () => {
  await using kit = await start({ settings: { confirm: 'always' } });
  const session = await openSession(kit.harness);
  const replies = [
    await post(kit.harness, remove, session),
    await post(kit.harness, remove),
    await modernCall(kit.harness, 'remove_thing', { name: 'a' }),
  ];
  for (const { json } of replies)
    assert.match(
      json.result.content[0].text,
      /^CONFIRMATION_REQUIRED: .*https:\/\/localhost\/oauth\/confirm\//,
    );
  await askLegacy(kit, yes);
  assert.deepEqual(kit.removed, ['a']);
  const [link = ''] = /[^/]+(?= \. It is good)/.exec(replies[0]?.json.result.content[0].text) ?? [];
  kit.harness.asks.answer(link, true, 'usr_1');
  await modernCall(kit.harness, 'remove_thing', { name: 'a' });
  assert.deepEqual(kit.removed, ['a', 'a'], 'a yes on the page lets it through');
});

test('never: nobody is asked', async () => {
  await using kit = await start({ settings: { confirm: 'never' } });
  const session = await openSession(kit.harness, { capabilities });
  await post(kit.harness, remove, session);
  await modernCall(kit.harness, 'remove_thing', { name: 'b' }, { capabilities });
  assert.deepEqual(kit.removed, ['a', 'b']);
});

test('a question is not asked of who may not do it', async () => {
  const viewer = principalOf('viewer', { permissions: new Set(['proxies:read']) });
  await using kit = await start({ principals: [viewer] });
  const wire = { ...kit.harness, token: 'viewer' };
  const { json } = await modernCall(wire, 'remove_thing', { name: 'a' }, { capabilities });
  assert.equal(json.error.data.code, 'FORBIDDEN');
});

for (const mode of ['legacy', 'auto'] as const) {
  test(`the SDK's client, ${mode}, asks its person and goes on`, async () => {
    await using kit = await start();
    const asked: string[] = [];
    const client = new Client({ name: 'v2', version: '1' }, { capabilities, versionNegotiation: { mode } });
    client.setRequestHandler('elicitation/create', ({ params }) => {
      asked.push(params.message);
      return { action: 'accept', content: { confirm: true } };
    });
    await client.connect(
      new StreamableHTTPClientTransport(new URL(kit.harness.url), {
        requestInit: { headers: { authorization: 'Bearer admin' } },
      }),
    );
    const result = await client.callTool({ name: 'remove_thing', arguments: { name: 'a' } });
    assert.deepEqual(result.structuredContent, { removed: 'a' });
    assert.deepEqual([asked, kit.removed], [['Remove a?'], ['a']]);
    await client.close();
  });
}
