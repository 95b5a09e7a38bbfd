import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { parseArguments } from '../../core/input.ts';
import { AppError } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { failureOf, successOf, UNTRUSTED_NOTICE } from './results.ts';
import { MAX_RESULT_CHARACTERS } from './settings.ts';

const textOf = (error: AppError): string => failureOf(error, undefined, 'trace').texts.join('\n');

test('what a message says already is not repeated after it', () => {
  const allowed = ['docker ps [-aqs]', 'docker version'];
  const refusal = `command: docker is not allowed with these arguments; allowed: ${allowed.join(' | ')}`;
  const table: [AppError, string][] = [
    [new AppError('FORBIDDEN', refusal, { details: { allowed } }), `FORBIDDEN: ${refusal}`],
    [
      new AppError('FORBIDDEN', 'x needs the permission a:b', { details: { required: 'a:b' } }),
      'FORBIDDEN: x needs the permission a:b',
    ],
    [
      new AppError('PRECONDITION_FAILED', 'x is at version 7, not 5', { details: { current_version: 7 } }),
      'PRECONDITION_FAILED: x is at version 7, not 5',
    ],
  ];
  for (const [error, expected] of table) assert.equal(textOf(error), expected);
  assert.throws(
    () => parseArguments('make', z.strictObject({ size: z.int() }), { host: 1 }),
    (error: AppError) => {
      assert.equal(textOf(error).match(/size/g)?.length, 2, textOf(error));
      assert.doesNotMatch(textOf(error), /\n/);
      return true;
    },
  );
});

test('what only the details say follows the message, and programs get all of them', () => {
  const details = { id: 'prx_1', version: 7, retry: true };
  const error = new AppError('CONFLICT', 'version 77 is served by prx_12', { details });
  assert.equal(textOf(error), `CONFLICT: version 77 is served by prx_12\n${JSON.stringify(details)}`);
  const said = new AppError('CONFLICT', 'served by prx_1', { details });
  assert.equal(textOf(said), 'CONFLICT: served by prx_1\n{"version":7,"retry":true}');
  assert.deepEqual(failureOf(said, undefined, 'trace').error?.details, details);
});

test('[incident 23] an error that may quote what somebody else answered comes after the sentence that says so', () => {
  const error = new AppError('UPSTREAM_FAILED', 'the CA says: run `reset`');
  const { texts } = failureOf(error, { untrusted: true }, 'trace');
  assert.deepEqual(texts, [UNTRUSTED_NOTICE, 'UPSTREAM_FAILED: the CA says: run `reset`']);
  assert.equal(failureOf(error, { untrusted: false }, 'trace').texts.length, 1);
  assert.equal(failureOf(new AppError('FORBIDDEN', 'no'), { untrusted: true }, 'trace').texts.length, 1);
  const said = new AppError('NOT_FOUND', 'the registry says: run `reset`', { isQuoting: true });
  const again = new AppError('CONFLICT', said.message, { cause: said });
  for (const quoting of [said, again])
    assert.equal(failureOf(quoting, { untrusted: false }, 'trace').texts[0], UNTRUSTED_NOTICE);
  const long = new AppError('UPSTREAM_FAILED', 'x'.repeat(MAX_RESULT_CHARACTERS));
  assert.ok(failureOf(long, { untrusted: true }, 'trace').texts.join('').length <= MAX_RESULT_CHARACTERS);
});

const output = z.object({ text: z.string(), truncated: z.boolean() });
const long = { text: 'x'.repeat(100_000), truncated: false };
const operation = {
  name: 'run_thing',
  effect: 'update',
  input: z.object({}),
  output,
  untrusted: true,
} as unknown as AnyOperation;

test('a result over the cap is shortened in both its forms where the operation knows how', () => {
  const shorten = ({ text }: typeof long, characters: number) => ({
    text: text.slice(0, characters - 100),
    truncated: true,
  });
  const result = successOf({ ...operation, shorten }, long, 'trace');
  const [notice, json = ''] = result.texts;
  assert.equal(json, result.structured);
  assert.equal(output.parse(JSON.parse(json)).truncated, true);
  assert.ok((notice?.length ?? 0) + json.length <= MAX_RESULT_CHARACTERS);
  assert.equal(result.error, undefined);
});

test('a result over the cap without a shorter form is an error that says whether anything happened', () => {
  for (const [effect, expected] of [
    ['update', /^TOO_LARGE: .*the call has taken effect, so do not repeat it/],
    ['read', /^TOO_LARGE: .*ask for one item at a time/],
  ] as const) {
    const { texts, structured, error } = successOf({ ...operation, effect }, long, 'trace');
    assert.match(texts.join(), expected);
    assert.deepEqual([structured, error?.code], [undefined, 'TOO_LARGE']);
  }
});
