import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';
import { argumentsOf, fromStrings } from './arguments.ts';

const operation = defineOperation({
  name: 'put_all',
  title: '',
  description: '',
  permission: 'public',
  confinement: 'harmless',
  effect: 'read',
  mcp: 'listed',
  toolset: 'system',
  http: { method: 'GET', path: '/v1/all/{text}/{number}' },
  input: z.object({
    flag: z.boolean().optional().describe('flag'),
    number: z.int().describe('number'),
    text: z.string().describe('text'),
    texts: z.array(z.string()).default([]).describe('texts'),
    numbers: z.array(z.number()).nullable().describe('numbers'),
    choice: z.enum(['a', 'b']).describe('choice'),
    choices: z.array(z.enum(['a', 'b'])).describe('choices'),
    object: z.strictObject({ a: z.int() }).nullable().describe('object'),
    either: z.union([z.string(), z.int()]).describe('either'),
    policy: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('x') }),
        z.strictObject({ kind: z.literal('y'), n: z.int() }),
      ])
      .describe('policy'),
    secret: z.string().meta({ secret: true }).describe('secret'),
  }),
  output: z.object({}),
  handler: async () => ({}),
});
const args = argumentsOf(operation);
const field = (name: string) => args.byName.get(name)!;

test('path parameters come first, in the order of the path', () => {
  assert.deepEqual(args.pathParams, ['text', 'number']);
  assert.deepEqual(
    args.fields.slice(0, 3).map(({ name, place }) => [name, place]),
    [
      ['text', 'path'],
      ['number', 'path'],
      ['flag', 'query'],
    ],
  );
});

test('what is secret, required or a choice is known', () => {
  assert.deepEqual([field('secret').secret, field('text').secret], [true, false]);
  assert.deepEqual(
    [field('flag').required, field('texts').required, field('number').required],
    [false, false, true],
  );
  assert.deepEqual(
    [field('choice').choices, field('choices').choices, field('text').choices],
    [['a', 'b'], ['a', 'b'], undefined],
  );
});

const table: [string, string[], unknown][] = [
  ['flag', ['true'], true],
  ['flag', ['false'], false],
  ['flag', ['yes'], 'yes'],
  ['number', ['-7'], -7],
  ['number', ['0x10'], '0x10'],
  ['number', [' 1'], ' 1'],
  ['number', ['1e3'], '1e3'],
  ['number', [''], ''],
  ['number', ['1', '2'], ['1', '2']],
  ['text', ['7'], '7'],
  ['text', ['null'], 'null'],
  ['text', ['{"a":1}'], '{"a":1}'],
  ['texts', ['a'], ['a']],
  ['texts', ['a', '7'], ['a', '7']],
  ['texts', ['["a","b"]'], ['a', 'b']],
  ['numbers', ['1', '2.5'], [1, 2.5]],
  ['numbers', ['null'], null],
  ['object', ['{"a":1}'], { a: 1 }],
  ['object', ['null'], null],
  ['object', ['{broken'], '{broken'],
  ['policy', ['{"kind":"y","n":1}'], { kind: 'y', n: 1 }],
];
for (const [name, strings, expected] of table)
  test(`${name} from ${JSON.stringify(strings)} is ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(fromStrings(field(name), strings), expected);
  });

test('property: whatever the schema allows arrives unchanged through strings', () => {
  const values = fc.record({
    flag: fc.boolean(),
    number: fc.integer(),
    text: fc.string(),
    choice: fc.constantFrom('a', 'b'),
    object: fc.option(fc.record({ a: fc.integer() }, { noNullPrototype: true })),
    numbers: fc.option(fc.array(fc.integer(), { minLength: 1 })),
  });
  fc.assert(
    fc.property(values, (input) => {
      for (const [name, value] of Object.entries(input)) {
        const strings = [value].flat().map((one) => (typeof one === 'string' ? one : JSON.stringify(one)));
        assert.deepEqual(fromStrings(field(name), strings), value, name);
      }
    }),
  );
});

test('property: no strings make it fail; what does not fit is left for validation', () => {
  fc.assert(
    fc.property(fc.constantFrom(...args.fields), fc.array(fc.string(), { minLength: 1 }), (one, strings) => {
      assert.doesNotThrow(() => operation.input.safeParse({ [one.name]: fromStrings(one, strings) }));
    }),
  );
});
