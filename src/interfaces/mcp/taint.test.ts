/** The taint rule as clients of both eras meet it. What it remembers, and for how long, is in `core/taint.test.ts`. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { z } from 'zod';
import {
  principalOf,
  startHarness,
  type Harness,
  type HarnessOptions,
} from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import { modernCall, openEvents, openSession, post, rpc } from '../../../test/conformance/wire.ts';
import { HOUR, ManualClock } from '../../core/clock.ts';
import { defineOperation } from '../../core/operation.ts';
import type { Principal } from '../../core/principal.ts';

const capabilities = { elicitation: { form: {} } };
const oauth = { userId: 'usr_1', clientId: 'client', grantId: 'grant', scopes: [] };
const agent = principalOf('agent', { kind: 'user', oauth });
const neighbour = principalOf('neighbour', { kind: 'user', oauth: { ...oauth, clientId: 'another' } });
const token = principalOf('token');

const createThing = defineOperation({
  name: 'create_thing',
  title: 'Create a thing',
  description: 'Creates a thing.',
  permission: 'proxies:write',
  confinement: 'harmless',
  effect: 'create',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'POST', path: '/v1/things' },
  input: z.object({}),
  output: z.object({ created: z.boolean() }),
  handler: async () => ({ created: true }),
});

interface Kit extends AsyncDisposable {
  harness: Harness;
  removed: string[];
}

async function start(options: HarnessOptions = {}): Promise<Kit> {
  const services = createKitchen();
  const principals: Principal[] = [agent, neighbour, token];
  const operations = [...kitchenOperations, createThing];
  const harness = await startHarness({ taint: 'oauth', operations, services, principals, ...options });
  return {
    harness,
    removed: services.kitchen.removed,
    [Symbol.asyncDispose]: () => harness[Symbol.asyncDispose](),
  };
}

const as = ({ harness }: Kit, who: Principal) => ({ ...harness, token: who.id });
const call = (kit: Kit, name: string, args: object = {}, who = agent) => modernCall(as(kit, who), name, args);
const ask = (kit: Kit, name: string, args: object, who = agent) =>
  modernCall(as(kit, who), name, args, { capabilities });
const agree = (kit: Kit, name: string, args: object, state: string) => {
  const inputResponses = { confirmation: { action: 'accept', content: { confirm: true } } };
  return modernCall(as(kit, agent), name, args, {
    capabilities,
    params: { requestState: state, inputResponses },
  });
};
const read = (kit: Kit, who = agent) => call(kit, 'get_logs', {}, who);
const turn = { name: 'a' };

test('before anything of strangers was read, nothing is asked that was not asked before', async () => {
  await using kit = await start();
  const inner = { name: 'rotate_thing', arguments: turn };
  assert.deepEqual((await ask(kit, 'call_operation', inner)).json.result.structuredContent, { rotated: 'a' });
  assert.deepEqual((await call(kit, 'remove_thing', turn)).json.result.structuredContent, { removed: 'a' });
});

test('after it, what changes or deletes is refused to a client that can not be asked, which hears why and what to do', async () => {
  await using kit = await start();
  await read(kit);
  const inner = { name: 'rotate_thing', arguments: turn };
  for (const { json } of [await call(kit, 'remove_thing', turn), await call(kit, 'call_operation', inner)]) {
    const text: string = json.result.content[0].text;
    assert.match(text, /^CONFIRMATION_REQUIRED: /);
    for (const said of ['text that strangers wrote', 'get_logs', 'command line', 'mcp.taint'])
      assert.ok(text.includes(said), `${said}: ${text}`);
  }
  assert.deepEqual(kit.removed, []);
  const { outcome, detail } = kit.harness.records.findLast(({ kind }) => kind === 'audit') ?? assert.fail();
  assert.equal(outcome, 'CONFIRMATION_REQUIRED');
  assert.equal((detail as any).asked_because.read_by, 'get_logs');
});

test('the refusal has a link: what a person agrees to there goes through once, with these arguments, and the record says who agreed', async () => {
  await using kit = await start();
  await read(kit);
  const refusal = async (args = turn) => {
    const { content, isError, _meta } = (await call(kit, 'remove_thing', args)).json.result;
    assert.equal(isError, true);
    return { text: String(content[0].text), ...Object(_meta['oauth-https-proxy/error'].details) };
  };
  const { text, confirm_url: url } = await refusal();
  assert.ok(text.includes(url));
  assert.match(text, /Show the person this link.*repeat this call with exactly the same arguments/);
  const id = new URL(url).pathname.split('/').at(-1) ?? '';
  const shown = (await ask(kit, 'remove_thing', turn)).json.result.inputRequests.confirmation.params.message;
  assert.equal(kit.harness.asks.find(id)?.message, shown, 'the page shows what the question shows');
  kit.harness.asks.answer(id, true, 'usr_1');
  assert.equal(
    (await call(kit, 'remove_thing', turn, token)).json.result.isError,
    undefined,
    'who has read nothing',
  );
  kit.removed.pop();
  assert.notEqual((await refusal({ name: 'b' })).confirm_url, url, 'other arguments are another call');
  assert.equal((await call(kit, 'remove_thing', turn)).json.result.isError, undefined);
  const { detail } =
    kit.harness.records.findLast(({ operation }) => operation === 'remove_thing') ?? assert.fail();
  assert.deepEqual(
    [(detail as any).confirmation, (detail as any).agreed_by, (detail as any).asked_because.read_by],
    ['agreed on a page', 'usr_1', 'get_logs'],
  );
  assert.notEqual((await refusal()).confirm_url, url, 'once');
  assert.deepEqual(kit.removed, ['a']);
});

test('what only reads or creates goes on as before', async () => {
  await using kit = await start();
  await read(kit);
  for (const name of ['get_logs', 'list_things', 'create_thing'])
    assert.equal((await call(kit, name)).json.result.isError, undefined, name);
});

test('modern: the question says why it is asked, also where none is asked otherwise; a yes is for that call, once', async () => {
  await using kit = await start();
  await read(kit);
  const inner = { name: 'rotate_thing', arguments: turn };
  const asked = (await ask(kit, 'call_operation', inner)).json.result;
  assert.equal(asked.resultType, 'input_required');
  const { message } = asked.inputRequests.confirmation.params;
  assert.match(message, /^Rotate a thing: rotate_thing \{"name":"a"\}\n\nAsked because this client has read/);
  const other = { name: 'rotate_thing', arguments: { name: 'b' } };
  assert.equal(
    (await agree(kit, 'call_operation', other, asked.requestState)).json.result.resultType,
    'input_required',
    'other arguments are another call',
  );
  const done = (await agree(kit, 'call_operation', inner, asked.requestState)).json.result;
  assert.deepEqual(done.structuredContent, { rotated: 'a' });
  const record =
    kit.harness.records.findLast(({ operation }) => operation === 'rotate_thing') ?? assert.fail();
  assert.equal(record.outcome, 'OK');
  assert.equal((record.detail as any).asked_because.read_by, 'get_logs', 'the audit record says why');
  assert.equal((await ask(kit, 'call_operation', inner)).json.result.resultType, 'input_required', 'again');
});

test('modern: a yes to a question of before the reading is none to what comes after it', async () => {
  await using kit = await start();
  const { requestState } = (await ask(kit, 'remove_thing', turn)).json.result;
  await read(kit);
  const again = (await agree(kit, 'remove_thing', turn, requestState)).json.result;
  assert.equal(again.resultType, 'input_required');
  assert.match(
    again.inputRequests.confirmation.params.message,
    /^Remove a\?\n\nremove_thing \{"name":"a"\}\n\nAsked because/,
  );
  assert.deepEqual(kit.removed, []);
  await agree(kit, 'remove_thing', turn, again.requestState);
  assert.deepEqual(kit.removed, ['a']);
});

test('a setting that skips the asking does not skip this one', async () => {
  await using kit = await start({ settings: { confirm: 'never' } });
  await call(kit, 'remove_thing', turn);
  assert.deepEqual(kit.removed, ['a']);
  await read(kit);
  assert.equal((await ask(kit, 'remove_thing', turn)).json.result.resultType, 'input_required');
  assert.match((await call(kit, 'remove_thing', turn)).json.result.content[0].text, /^CONFIRMATION_REQUIRED/);
  assert.deepEqual(kit.removed, ['a']);
});

test('legacy: the question comes on the stream of the call, and a new session is no new mind', async () => {
  await using kit = await start();
  const wire = as(kit, agent);
  const first = await openSession(wire, { capabilities });
  await post(wire, rpc('tools/call', { name: 'get_logs' }), first);
  const session = await openSession(wire, { version: '2025-11-25', capabilities });
  const inner = { name: 'rotate_thing', arguments: turn };
  const body = rpc('tools/call', { name: 'call_operation', arguments: inner });
  const headers = { ...session, authorization: `Bearer ${agent.id}` };
  const stream = await openEvents(kit.harness, { method: 'POST', headers, body });
  const question = (await stream.next()) ?? assert.fail();
  assert.match(question.json.params.message, /^Rotate a thing: .*\n\nAsked because/);
  const yes = { action: 'accept', content: { confirm: true } };
  await post(wire, { jsonrpc: '2.0', id: question.json.id, result: yes }, session);
  assert.deepEqual((await stream.next())?.json.result.structuredContent, { rotated: 'a' });
  const mute = await openSession(wire);
  const refused = await post(wire, body, mute);
  assert.match(refused.json.result.content[0].text, /^CONFIRMATION_REQUIRED: /);
});

test('it holds for who has read, and for OAuth clients unless the setting says all', async () => {
  await using kit = await start();
  await read(kit);
  await read(kit, token);
  for (const who of [neighbour, token])
    assert.equal((await call(kit, 'remove_thing', turn, who)).json.result.isError, undefined, who.id);
  await using all = await start({ taint: 'all' });
  await read(all, token);
  assert.equal((await call(all, 'remove_thing', turn, token)).json.result.isError, true);
  await using off = await start({ taint: 'off' });
  await read(off);
  assert.equal((await call(off, 'remove_thing', turn)).json.result.isError, undefined);
});

test('a restart forgets nothing that was read; an hour without reading does', async () => {
  const clock = new ManualClock();
  await using kit = await start({ clock });
  await read(kit);
  await kit.harness.mcp[Symbol.asyncDispose]();
  await using again = await start({ clock, database: kit.harness.database });
  assert.equal((await call(again, 'remove_thing', turn)).json.result.isError, true);
  clock.advance(2 * HOUR);
  assert.equal((await call(again, 'remove_thing', turn)).json.result.isError, undefined);
});
