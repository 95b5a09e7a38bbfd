import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { changesOf } from './collection.ts';
import { AppError } from './errors.ts';
import { limits } from './limits.ts';
import { parseArguments } from './input.ts';

const hostname = z
  .string()
  .max(20)
  .refine((text) => !text.includes(' '), 'has to be a hostname such as app.example.com');
const auth = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({ kind: z.literal('token'), permission: z.enum(['read', 'write']) }),
]);
const headers = z.strictObject({
  remove: z.array(z.string()).default([]),
  set: z.record(
    z.string().refine((name) => name !== 'Host', 'is set by the gateway'),
    z.string(),
  ),
});
const settings = {
  hostname: hostname.nullable().describe('Such as app.example.com; null: all'),
  key: z.string().min(8).max(128).optional().describe('Key'),
  size: z.int().min(0).max(999).default(5).describe('How big'),
  ratio: z.number().multipleOf(5).optional().describe('Ratio'),
  on: z.boolean().optional().describe('Whether it is on'),
  match: z.enum(['prefix', 'exact']).default('prefix').describe('How'),
  methods: z
    .array(z.enum(['GET', 'PUT']))
    .max(2)
    .default([])
    .describe('Which'),
  auth: auth.prefault({ kind: 'none' }).describe('Who'),
  either: z.union([z.string(), z.boolean()]).optional().describe('Either'),
  url: z.url().optional().describe('URL'),
  code: z
    .string()
    .regex(/^[a-z]+$/)
    .optional()
    .describe('Code'),
  headers: headers.optional().describe('Rules').meta({ secret: true }),
  password: z.string().min(4).optional().describe('Secret').meta({ secret: true }),
};
const schema = z.strictObject(settings);

function refusal(raw: unknown, of: z.ZodObject = schema): AppError {
  try {
    parseArguments('make_thing', of, raw);
  } catch (error) {
    if (error instanceof AppError && error.code === 'INVALID_INPUT') return error;
    throw error;
  }
  return assert.fail(`${JSON.stringify(raw)} was accepted`);
}

const faultOf = (raw: object) => refusal({ hostname: 'a', ...raw }).message.replace(/^make_thing: /, '');

const VALID = Object.keys(settings).join(', ');
const table: [string, object, string][] = [
  [
    'a missing argument is named with what it is for',
    { hostname: undefined },
    'hostname: is missing and required (text or null: Such as app.example.com; null: all)',
  ],
  ['a wrong type, with what was found', { on: 'yes' }, 'on: has to be true or false (found text)'],
  ['text where a number belongs', { size: '7' }, 'size: has to be a whole number, 0 to 999 (found text)'],
  [
    'a fraction where a whole number belongs',
    { size: 1.5 },
    'size: has to be a whole number, 0 to 999 (found 1.5)',
  ],
  [
    'a number above its range, with both ends',
    { size: 1000 },
    'size: has to be a whole number, 0 to 999 (found 1000)',
  ],
  [
    'a number below its range, with both ends',
    { size: -1 },
    'size: has to be a whole number, 0 to 999 (found -1)',
  ],
  ['null where it is not allowed', { size: null }, 'size: has to be a whole number, 0 to 999 (found null)'],
  ['a step', { ratio: 7 }, 'ratio: has to be a multiple of 5 (found 7)'],
  ['a text too short, with both ends', { key: 'abc' }, 'key: has to have 8 to 128 characters (found 3)'],
  ['a text too long', { hostname: 'a'.repeat(30) }, 'hostname: has to have at most 20 characters (found 30)'],
  ['a list too long', { methods: ['GET', 'PUT', 'GET'] }, 'methods: has to have at most 2 items (found 3)'],
  ['one of few values', { match: 'glob' }, 'match: has to be one of prefix, exact (found "glob")'],
  [
    'one of few values, not even a text',
    { match: {} },
    'match: has to be one of prefix, exact (found an object)',
  ],
  [
    'text where a list belongs',
    { methods: 'GET' },
    'methods: has to be a list, each item one of GET, PUT (found text)',
  ],
  [
    'items wrong in the same way, said once',
    { methods: ['a', 'b'] },
    'methods.0, methods.1: has to be one of GET, PUT (found "a", "b")',
  ],
  ['a kind that is none', { auth: { kind: 'x' } }, 'auth.kind: has to be one of none, token (found "x")'],
  ['a kind that is missing', { auth: {} }, 'auth.kind: is missing and required (one of none, token)'],
  [
    'a member that the kind calls for',
    { auth: { kind: 'token' } },
    'auth.permission: is missing and required (one of read, write)',
  ],
  [
    'text where one of some objects belongs',
    { auth: 'none' },
    'auth: has to be an object with kind: none or an object with kind: token, permission (found text)',
  ],
  ['none of some types', { either: 5 }, 'either: has to be text or true or false (found 5)'],
  ['a format', { url: 'x' }, 'url: has to be a valid url (found text)'],
  ['a pattern', { code: 'A1' }, 'code: has to match /^[a-z]+$/ (found text)'],
  [
    'the words of the schema itself',
    { hostname: 'a b' },
    'hostname: has to be a hostname such as app.example.com',
  ],
  [
    'an unknown argument, with the valid ones',
    { host: 1 },
    `unknown argument "host" (valid arguments are ${VALID})`,
  ],
  [
    'an unknown member, with the valid ones',
    { headers: { set: {}, add: {} } },
    'headers.add: unknown (valid there: remove, set)',
  ],
  [
    'a name in a map',
    { headers: { set: { Host: 'x' } } },
    'headers.set.Host: the name is set by the gateway',
  ],
  [
    'several faults',
    { size: -1, on: 1 },
    'size: has to be a whole number, 0 to 999 (found -1); on: has to be true or false (found 1)',
  ],
];
for (const [title, raw, expected] of table)
  test(`a fault is worded for a person: ${title}`, () => assert.equal(faultOf(raw), expected));

test('arguments that are no object are refused as that', () => {
  for (const [raw, found] of [
    [[], 'a list'],
    ['x', 'text'],
    [7, 'a number'],
  ])
    assert.equal(refusal(raw).message, `make_thing: arguments: has to be an object (found ${String(found)})`);
});

test('what takes no arguments says so', () => {
  assert.match(
    refusal({ a: 1 }, z.strictObject({})).message,
    /unknown argument "a" \(it takes no arguments\)$/,
  );
});

test('the optional fields of a change are worded like those they come from', () => {
  const changes = z.strictObject(changesOf(settings));
  assert.match(refusal({ size: 'x' }, changes).message, /size: has to be a whole number, 0 to 999/);
  assert.match(
    refusal({ auth: { kind: 'token' } }, changes).message,
    /auth.permission: is missing and required/,
  );
});

test('no value of a secret argument is repeated, whatever is wrong with it', () => {
  for (const raw of [
    { password: 1234567 },
    { headers: { set: { 'X-Key': 1234567 } } },
    { headers: { set: 'canary-1234567', remove: 1234567 } },
    { headers: 'canary-1234567' },
  ])
    assert.doesNotMatch(faultOf(raw), /1234567/);
  assert.equal(faultOf({ password: 'abc' }), 'password: has to have at least 4 characters (found text)');
});

test('the details tell a program which arguments are wrong, and which are valid when one is unknown', () => {
  assert.deepEqual(refusal({ hostname: 'a', size: -1, auth: {} }).details, {
    arguments: ['size', 'auth.kind'],
  });
  assert.deepEqual(refusal({ hostname: 'a', host: 1, url: 1 }).details, {
    arguments: ['url', 'host'],
    valid_arguments: Object.keys(settings),
  });
  assert.deepEqual(refusal({ hostname: 'a', headers: { set: {}, add: 1 } }).details, {
    arguments: ['headers.add'],
  });
});

test('a body that is wrong everywhere is answered in bounded words', () => {
  const members = (count: number, prefix: string) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`${prefix}${i}`, i]));
  const set = members(4000, 'x-');
  for (const raw of [
    { hostname: 'a', headers: { set } },
    { hostname: 'a', ...members(4000, 'n'.repeat(100)) },
    { hostname: 'a', ['k'.repeat(1e6)]: 1 },
  ]) {
    const { message, details } = refusal(raw);
    assert.ok(message.length < 2000, String(message.length));
    assert.ok(JSON.stringify(details).length < 2000);
  }
  assert.match(faultOf({ headers: { set } }), /; and 3992 more$/);
});

test('more values than any operation takes are refused before each is looked at', () => {
  const looked: unknown[] = [];
  const list = z.strictObject({ all: z.array(z.unknown().refine((value) => looked.push(value))) });
  const { jsonValues } = limits;
  for (const all of [Array(jsonValues).fill(1), Array(jsonValues / 2).fill([1])])
    assert.match(
      refusal({ all }, list).message,
      new RegExp(`arguments: more than ${jsonValues} values in all$`),
    );
  assert.deepEqual(looked, []);
});

test('whatever is sent is accepted or refused in words, never a fault', () => {
  const value = fc.anything({ maxDepth: 2, withNullPrototype: true });
  const raw = fc.dictionary(fc.constantFrom(...Object.keys(settings), '__proto__', 'constructor'), value);
  fc.assert(
    fc.property(fc.oneof(raw, value), (input) => {
      try {
        parseArguments('make_thing', schema, input);
      } catch (error) {
        assert.ok(error instanceof AppError && error.code === 'INVALID_INPUT', String(error));
        assert.doesNotMatch(error.message, /: $|undefined|\[object|Invalid input/);
      }
    }),
  );
});
