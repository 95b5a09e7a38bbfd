/** What is `never` for MCP: in no era, by no detour and for nobody is there a trace of it, and `dispatch` refuses it too. */
import { strict as assert } from 'node:assert';
import { after, test } from 'node:test';
import { z } from 'zod';
import { admin, startHarness } from '../../../test/conformance/harness.ts';
import { kitchenOperations } from '../../../test/conformance/operations.ts';
import {
  envelope,
  modernCall,
  modernHeaders,
  openSession,
  post,
  rpc,
} from '../../../test/conformance/wire.ts';
import { createDispatch } from '../../core/dispatch.ts';
import { ManualClock } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { type AnyOperation, defineOperation } from '../../core/operation.ts';
import { silentLog } from '../../core/record.ts';
import { operations as declared } from '../../operations.ts';

let ran = 0;
const hidden = defineOperation({
  name: 'export_canary',
  title: 'Export a canary',
  description: 'Gives out a canary.',
  permission: 'proxies:read',
  confinement: 'harmless',
  effect: 'update',
  mcp: 'never',
  // So that a client that declares tasks would have it begun.
  task: true,
  toolset: 'proxies',
  http: { method: 'POST', path: '/v1/canary' },
  input: z.object({}),
  output: z.object({ sings: z.boolean() }),
  async handler() {
    ran++;
    return { sings: true };
  },
});

const harness = await startHarness({ operations: [...kitchenOperations, hidden] });
after(() => harness[Symbol.asyncDispose]());

const LEGACY = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'];
const named = { name: hidden.name, arguments: {} };
const detour = { name: 'call_operation', arguments: named };
const searches = ['export_canary', 'export canary', 'canary', 'zebra'].map((query) => ({
  name: 'find_operations',
  arguments: { query },
}));

function assertNothing(text: string, label: string): void {
  assert.doesNotMatch(text.replaceAll('Unknown tool: \\"export_canary\\"', ''), /canary|sings/i, label);
}

for (const version of LEGACY)
  test(`${version}: it is not listed, not found and not called, with a session and without`, async () => {
    const session = await openSession(harness, { version, capabilities: { elicitation: {} } });
    for (const headers of [session, {}, { ...session, accept: 'text/event-stream' }]) {
      assertNothing((await post(harness, rpc('tools/list'), headers)).text, 'tools/list');
      for (const call of searches)
        assertNothing((await post(harness, rpc('tools/call', call), headers)).text, call.arguments.query);
      const direct = await post(harness, rpc('tools/call', named), headers);
      assert.match(direct.text, /Unknown tool/);
      assertNothing(direct.text, 'tools/call');
      const inner = await post(harness, rpc('tools/call', detour), headers);
      assert.match(inner.text, /NOT_FOUND/);
      assertNothing(inner.text, 'call_operation');
    }
    if (version === '2025-03-26')
      assertNothing((await post(harness, [rpc('tools/call', named)], session)).text, 'a batch');
    assert.equal(ran, 0);
  });

test('2026-07-28: it is not listed, not found and not called, whatever the client can do', async () => {
  const tasks = { extensions: { 'io.modelcontextprotocol/tasks': {} } };
  for (const capabilities of [{}, { elicitation: { form: {} } }, { unheardOf: {} }, tasks]) {
    const list = rpc('tools/list', { _meta: envelope(capabilities) });
    assertNothing((await post(harness, list, modernHeaders('tools/list'))).text, 'tools/list');
    for (const { name, arguments: args } of searches)
      assertNothing((await modernCall(harness, name, args, { capabilities })).text, args.query);
    const direct = await modernCall(harness, named.name, {}, { capabilities });
    assert.match(direct.text, /Unknown tool/);
    assertNothing(direct.text, 'tools/call');
    const inner = await modernCall(harness, detour.name, detour.arguments, { capabilities });
    assert.match(inner.text, /NOT_FOUND/);
    assertNothing(inner.text, 'call_operation');
  }
  assert.equal(ran, 0);
});

const neverOverMcp = (declared as readonly AnyOperation[]).filter(({ mcp }) => mcp === 'never');

test('dispatch refuses over MCP what is never for it, to whoever may run it elsewhere', async () => {
  const dispatch = createDispatch({
    services: {},
    log: silentLog,
    clock: new ManualClock(),
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  assert.deepEqual(
    neverOverMcp.map(({ name }) => name),
    ['export_certificate', 'export_audit'],
  );
  for (const operation of [hidden, ...neverOverMcp])
    await assert.rejects(
      dispatch(
        operation,
        {},
        {
          principal: admin,
          signal: new AbortController().signal,
          traceId: 't',
          surface: 'mcp',
          clientAddress: undefined,
        },
      ),
      (error: unknown) =>
        error instanceof AppError && error.code === 'FORBIDDEN' && /not for MCP/.test(error.message),
      operation.name,
    );
  assert.equal(ran, 0);
});
