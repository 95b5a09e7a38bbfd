/** With `commands.mode: any` a model can start any program, so a person is asked over MCP, whichever way the call comes. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { modernCall, openEvents, openSession, post, rpc } from '../conformance/wire.ts';
import { type Product, startProduct } from '../support/product.ts';

const capabilities = { elicitation: { form: {} } };
const yes = { action: 'accept', content: { confirm: true } };
const ways = ['run_command', 'call_operation'] as const;

/** The product, a program that leaves a trace, and whether it did. */
async function start(confirm: 'when-possible' | 'always') {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-confirmed-'));
  const config = join(folder, 'config.yaml');
  writeFileSync(config, JSON.stringify({ commands: { mode: 'any' }, mcp: { confirm } }));
  const product = await startProduct({ env: { OHP_CONFIG: config } });
  let count = 0;
  return {
    wire: { url: `http://localhost:${product.httpPort}/mcp`, token: product.adminToken },
    trace() {
      const file = join(folder, `${(count += 1)}`);
      return { command: `touch ${file}`, hasRun: () => existsSync(file) };
    },
    async [Symbol.asyncDispose]() {
      await product[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

type Wire = { url: string; token: Product['adminToken'] };

const callOf = (way: (typeof ways)[number], command: string) =>
  way === 'run_command'
    ? { name: way, arguments: { command } }
    : { name: way, arguments: { name: 'run_command', arguments: { command } } };

test('always refuses whom it cannot ask, in both eras and by both ways, and the program is not run', async () => {
  await using kit = await start('always');
  for (const way of ways) {
    const { command, hasRun } = kit.trace();
    const { name, arguments: args } = callOf(way, command);
    const body = rpc('tools/call', { name, arguments: args });
    const replies = [
      await modernCall(kit.wire, name, args),
      await post(kit.wire, body),
      await post(kit.wire, body, await openSession(kit.wire)),
    ];
    for (const { json } of replies) {
      assert.equal(json.result.isError, true, way);
      assert.match(json.result.content[0].text, /^CONFIRMATION_REQUIRED: run_command has to be confirmed/);
    }
    assert.equal(hasRun(), false, way);
  }
});

test('who can be asked is asked for exactly this, in both eras and by both ways, and a yes runs it', async () => {
  await using kit = await start('when-possible');
  for (const ask of [askLegacy, askModern])
    for (const way of ways) {
      const { command, hasRun } = kit.trace();
      const { question, answer } = await ask(kit.wire, callOf(way, command));
      assert.equal(hasRun(), false, 'before the answer');
      assert.match(question, /^Run this on the machine, .*\["touch",/);
      const result = await answer();
      assert.equal(result.structuredContent?.exit_code, 0, JSON.stringify(result));
      assert.equal(hasRun(), true, way);
    }
});

test('when-possible runs it for a client that cannot be asked', async () => {
  await using kit = await start('when-possible');
  const { command, hasRun } = kit.trace();
  const { json } = await post(kit.wire, rpc('tools/call', callOf('run_command', command)));
  assert.equal(json.result.structuredContent.exit_code, 0);
  assert.equal(hasRun(), true);
});

async function askLegacy(wire: Wire, call: object) {
  const session = await openSession(wire, { version: '2025-11-25', capabilities });
  const stream = await openEvents(wire, { method: 'POST', headers: session, body: rpc('tools/call', call) });
  const asked = await stream.next();
  assert.equal(asked?.json.method, 'elicitation/create', JSON.stringify(asked?.json));
  return {
    question: asked?.json.params.message,
    async answer() {
      await post(wire, { jsonrpc: '2.0', id: asked?.json.id, result: yes }, session);
      return (await stream.next())?.json.result;
    },
  };
}

async function askModern(wire: Wire, call: { name: string; arguments: object }) {
  const { json } = await modernCall(wire, call.name, call.arguments, { capabilities });
  assert.equal(json.result.resultType, 'input_required', JSON.stringify(json));
  const [[key, asked]] = Object.entries<any>(json.result.inputRequests) as [[string, any]];
  const params = { requestState: json.result.requestState, inputResponses: { [key]: yes } };
  return {
    question: asked.params.message,
    answer: async () =>
      (await modernCall(wire, call.name, call.arguments, { capabilities, params })).json.result,
  };
}
