/** What a caller is told whose credential lacks a permission: by HTTP, so that the client can ask for more. */
import { strict as assert } from 'node:assert';
import { after, test } from 'node:test';
import { principalOf, startHarness } from '../../../test/conformance/harness.ts';
import { createKitchen, kitchenOperations } from '../../../test/conformance/operations.ts';
import { modernCall, openSession, post, type Reply, rpc } from '../../../test/conformance/wire.ts';
import { anonymous } from '../../core/principal.ts';

const capabilities = { elicitation: { form: {} } };
const harness = await startHarness({
  operations: kitchenOperations,
  services: createKitchen(),
  principals: [
    principalOf('viewer', { permissions: new Set(['proxies:read', 'logs:read']) }),
    principalOf('confined', { permissions: new Set(['commands:run']), hostnames: ['a.example.com'] }),
    anonymous,
  ],
});
after(() => harness[Symbol.asyncDispose]());
const viewer = { ...harness, token: 'viewer' };

const forbidden = { name: 'rotate_thing', arguments: { name: 'x' } };
const asking = { name: 'remove_thing', arguments: { name: 'x' } };
const detour = { name: 'call_operation', arguments: forbidden };

function assertDenied(reply: Reply, tool: string, label: string): void {
  assert.equal(reply.status, 403, label);
  // What is needed, and what the client has already and must not lose.
  assert.match(
    reply.headers.get('www-authenticate') ?? '',
    /scope="proxies:read proxies:write logs:read"/,
    label,
  );
  const { jsonrpc, id, error } = reply.json;
  assert.deepEqual([jsonrpc, id, error.code, error.data.code], ['2.0', 1, 403, 'FORBIDDEN'], label);
  assert.equal(error.message, `${tool} needs the permission proxies:write`, label);
}

test('legacy: a tool that the credential may not call is 403 with a challenge for all that is needed', async () => {
  const plain = await openSession(viewer);
  const able = await openSession(viewer, { version: '2025-11-25', capabilities });
  for (const call of [forbidden, asking, detour]) {
    const body = rpc('tools/call', call);
    const tool = call === asking ? 'remove_thing' : 'rotate_thing';
    assertDenied(await post(viewer, body), tool, `${call.name} without a session`);
    assertDenied(await post(viewer, body, plain), tool, `${call.name} in a session`);
    assertDenied(await post(viewer, body, able), tool, `${call.name} of a client that can be asked`);
    const events = { ...able, accept: 'text/event-stream' };
    assertDenied(await post(viewer, body, events), tool, `${call.name} of a client that takes events only`);
  }
});

test('modern: a tool that the credential may not call is 403 with a challenge for all that is needed', async () => {
  for (const call of [forbidden, asking, detour])
    for (const offered of [{}, capabilities, { unheardOf: {} }]) {
      const reply = await modernCall(viewer, call.name, call.arguments, { capabilities: offered });
      const tool = call === asking ? 'remove_thing' : 'rotate_thing';
      assertDenied(reply, tool, `${call.name} ${JSON.stringify(offered)}`);
    }
});

test('a batch is answered message by message, whatever is refused in it', async () => {
  const session = await openSession(viewer, { version: '2025-03-26' });
  const allowed = { name: 'list_things', arguments: {} };
  const batch = [rpc('tools/call', forbidden, 1), rpc('tools/call', allowed, 2)];
  const reply = await post(viewer, batch, session);
  assert.equal(reply.status, 200);
  const byId = new Map<number, any>(reply.json.map((message: any) => [message.id, message.result]));
  assert.match(byId.get(1).content[0].text, /^FORBIDDEN: /);
  assert.equal(byId.get(2).structuredContent.caller, 'viewer');
});

test('who has sent no credential is asked for one', async () => {
  const body = JSON.stringify(rpc('tools/call', forbidden));
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const reply = await fetch(harness.url, { method: 'POST', headers, body });
  assert.equal(reply.status, 401);
  assert.match(reply.headers.get('www-authenticate') ?? '', /scope="proxies:write"/);
});

test('what no further permission would change is an error of the tool, for the model to read', async () => {
  const confined = { ...harness, token: 'confined' };
  const reply = await post(confined, rpc('tools/call', { name: 'run_slowly', arguments: {} }));
  assert.equal(reply.status, 200);
  assert.match(
    reply.json.result.content[0].text,
    /^FORBIDDEN: run_slowly is not for credentials that are confined/,
  );
});
