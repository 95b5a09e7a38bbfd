/** How much of a model's attention a result takes: at most about 2,000 tokens unasked, never more than 8,000. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { limits } from '../../src/core/limits.ts';
import { operations } from '../../src/operations.ts';
import { modernCall, post, type Reply, rpc, type Wire } from '../conformance/wire.ts';
import { type Product, startProduct } from '../support/product.ts';

const MANY = 60;
/** Says before data of strangers what it is. */
const NOTICE_CHARACTERS = 200;

/** Of an engine, which is not here, or that a setting turns on; of one request; what waits; what is not for models. */
const NOT_ASKED: ReadonlySet<string> = new Set([
  'list_services',
  'list_images',
  'list_proposals',
  'explain_request',
  'tail_logs',
  'export_audit',
]);

const wireOf = ({ httpPort, adminToken }: Product): Wire => ({
  url: `http://localhost:${httpPort}/mcp`,
  token: adminToken,
});

/** Characters of each form of the result, of which a client gives its model one. */
function sizesOf({ json }: Reply) {
  const { content, structuredContent, isError } = json.result;
  assert.equal(isError, undefined, content[0].text);
  const text: number = content.reduce((sum: number, part: { text: string }) => sum + part.text.length, 0);
  return { text, structured: JSON.stringify(structuredContent).length };
}

test('a default answer is at most 2,000 tokens, however much there is, and all of it comes page by page', async () => {
  await using product = await startProduct();
  const wire = wireOf(product);
  for (let i = 0; i < MANY; i += 1) {
    const hostname = `application-${i}.customers.example.com`;
    const target_url = `http://10.0.0.${i + 1}:8080/base`;
    for (const [path, body] of [
      ['proxies', { hostname, target_url }],
      ['routes', { hostname, path: '/api', target_url }],
      ['tokens', { name: `token ${i}`, bundle: 'admin', hostnames: [hostname] }],
    ] as const)
      assert.equal((await product.api('POST', `/v1/${path}`, body)).status, 201, path);
  }
  const lists = operations.filter(({ effect, name }) => effect === 'read' && !NOT_ASKED.has(name));
  const withoutArguments = lists.filter(({ input }) => input.safeParse({}).success);
  assert.ok(withoutArguments.length > 5);
  for (const { name } of withoutArguments) {
    const call = { name: 'call_operation', arguments: { name, arguments: {} } };
    const sizes = sizesOf(await post(wire, rpc('tools/call', call)));
    assert.ok(sizes.structured <= limits.resultCharactersDefault, `${name}: ${sizes.structured}`);
    assert.ok(sizes.text <= limits.resultCharactersDefault + NOTICE_CHARACTERS, `${name}: ${sizes.text}`);
  }
  for (const list of ['proxies', 'routes', 'tokens', 'certificates'])
    assert.ok((await countOf(wire, list)) >= MANY, list);
});

async function countOf(wire: Wire, list: string): Promise<number> {
  let count = 0;
  let cursor: string | undefined;
  do {
    const { json } = await modernCall(wire, `list_${list}`, cursor === undefined ? {} : { cursor });
    count += json.result.structuredContent[list].length;
    cursor = json.result.structuredContent.next_cursor;
  } while (cursor !== undefined);
  return count;
}

test('what run_command shows is at most 8,000 tokens in both forms, says that it is not all and how to ask for less', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-results-'));
  const config = join(folder, 'config.yaml');
  writeFileSync(config, JSON.stringify({ commands: { mode: 'any' } }));
  await using product = await startProduct({ env: { OHP_CONFIG: config } });
  const wire = wireOf(product);
  const call = { name: 'run_command', arguments: { command: 'seq 1000000' } };
  for (const reply of [
    await post(wire, rpc('tools/call', call)),
    await modernCall(wire, call.name, call.arguments),
    await post(wire, rpc('tools/call', { name: 'call_operation', arguments: call })),
  ]) {
    const { text, structured } = sizesOf(reply);
    assert.ok(
      text <= limits.resultCharacters && structured <= limits.resultCharacters,
      `${text} ${structured}`,
    );
    assert.ok(structured > limits.resultCharacters / 2, 'as much as fits');
    const { content, structuredContent: shown } = reply.json.result;
    assert.deepEqual(JSON.parse(content.at(-1).text), shown);
    assert.deepEqual([shown.truncated, shown.exit_code], [true, 0]);
    assert.match(shown.stdout, /^1\n2\n3\n/);
    assert.match(shown.hint, /less/);
  }
  rmSync(folder, { recursive: true });
});
