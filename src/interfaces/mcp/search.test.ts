import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { type AnyOperation, defineOperation, type OperationContext } from '../../core/operation.ts';
import { operations as declared } from '../../operations.ts';
import { createFindOperations, MAX_ANSWER_CHARACTERS } from './search.ts';
import { servedByMcp } from './views.ts';

const operations = servedByMcp(declared);

async function find(query: string, { of = operations, limit = 5 } = {}) {
  const operation = createFindOperations(of);
  // It looks at its input and nothing else.
  const answer = await operation.handler({ query, limit }, {} as OperationContext, {});
  const checked = operation.output.parse(answer) as {
    operations: { name: string; description: string; required: string[]; input_schema?: object }[];
    hint?: string;
  };
  const size = JSON.stringify(checked).length;
  assert.ok(size <= MAX_ANSWER_CHARACTERS, `${query}: ${size}`);
  return { ...checked, names: checked.operations.map(({ name }) => name) };
}

test('an exact name, in any of its spellings, finds that operation alone and whole', async () => {
  for (const query of ['rotate_token', 'rotate token', 'Rotate-Token', 'input schema of rotate_token?']) {
    const { operations: found, hint } = await find(query);
    assert.deepEqual(
      found.map(({ name, required }) => [name, required]),
      [['rotate_token', ['id']]],
    );
    const schema = found[0]?.input_schema as { properties: object };
    assert.deepEqual(Object.keys(schema.properties), ['id', 'version']);
    assert.match(found[0]?.description ?? '', /the old secret stops at once\.$/);
    assert.equal(hint, undefined);
  }
});

test('every operation can be found by its name with its schema, within the cap', async () => {
  for (const { name } of operations) assert.ok((await find(name)).operations[0]?.input_schema, name);
});

test('of several only a line and what a call has to have are told, and how to see one whole', async () => {
  const { operations: found, hint } = await find('certificates');
  assert.deepEqual(
    found.map(({ name, required }) => [name, required]),
    [
      ['cancel_certificate_order', ['id']],
      ['delete_certificate', ['id']],
      ['explain_certificate', ['hostname']],
      ['get_certificate', ['id']],
      ['import_certificate', ['certificate_pem', 'private_key_pem']],
    ],
  );
  assert.deepEqual(found[1], {
    name: 'delete_certificate',
    description: 'Deletes a certificate and its key.',
    required: ['id'],
  });
  assert.match(hint ?? '', /exact name/);
});

test('words that every question has decide nothing, and what fits less than half as well is left out', async () => {
  assert.deepEqual((await find('how can I list all of the tokens')).names, ['list_tokens']);
  assert.deepEqual((await find('what is the log level')).names, ['list_log_levels', 'set_log_level']);
  assert.equal((await find('proxies')).names.length, 5);
});

test('an image that is to run behind a hostname is one call, which is found before its parts', async () => {
  for (const query of [
    'run this blog image behind blog.example.com',
    'create app from image with hostname and certificate',
    'publish a container under a domain',
    'deploy image behind hostname',
  ])
    assert.equal((await find(query)).names[0], 'publish_service', query);
  assert.equal((await find('unpublish the blog, take it down')).names[0], 'unpublish_service');
});

test('more matches than are shown are counted, and the cap holds whatever is asked', async () => {
  const { hint, names } = await find('list', { limit: 2 });
  assert.equal(names.length, 2);
  assert.match(hint ?? '', /^\d+ more match: add words, or raise limit/);
  const long = Array.from({ length: 600 }, (_, i) =>
    defineOperation({
      ...(operations[0] as AnyOperation),
      name: `list_thing${i}`,
      description: 'thing '.repeat(40),
      input: z.object({ ['x'.repeat(100)]: z.string().describe('x'.repeat(2000)) }),
    }),
  );
  for (const query of ['thing', 'list_thing7', 'nothing at all']) await find(query, { of: long, limit: 20 });
  assert.deepEqual((await find('list_thing7', { of: long })).names, ['list_thing7']);
});

test('nothing found is answered with the names that there are', async () => {
  const { names, hint } = await find('zebra');
  assert.deepEqual(names, []);
  assert.match(hint ?? '', /^Nothing matches\. There are: .*rotate_token/);
});
