import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { readTraceContext, traceparentOf } from './trace-context.ts';

const id = '0af7651916cd43dd8448eb211c80319c';
const parent = 'b7ad6b7169203331';
const valid = `00-${id}-${parent}-01`;

test('a valid traceparent is read, of this version and of later ones', () => {
  const read = { traceId: id, parentId: parent, isSampled: true, flags: '01', state: undefined };
  assert.deepEqual(readTraceContext(valid, undefined), read);
  assert.deepEqual(readTraceContext(`cc-${id}-${parent}-01`, undefined), read);
  assert.deepEqual(readTraceContext(`01-${id}-${parent}-01-more`, undefined), read);
  assert.equal(readTraceContext(`00-${id}-${parent}-00`, undefined)?.isSampled, false);
  assert.equal(readTraceContext(`00-${id}-${parent}-03`, undefined)?.isSampled, true);
});

test('anything else counts as absent', () => {
  for (const bad of [
    undefined,
    null,
    1,
    [valid],
    { valid },
    '',
    ` ${valid}`,
    `${valid} `,
    `${valid}, ${valid}`,
    `${valid}-more`,
    `ff-${id}-${parent}-01`,
    `00-${'0'.repeat(32)}-${parent}-01`,
    `00-${id}-${'0'.repeat(16)}-01`,
    `00-${id.toUpperCase()}-${parent}-01`,
    `00-${id}-${parent}-0`,
    `00-${id}-${parent}-0g`,
    `01-${id}-${parent}-01more`,
  ])
    assert.equal(readTraceContext(bad, 'a=1'), undefined, JSON.stringify(bad));
});

test('what is written can be read again', () => {
  const hex = (length: number) =>
    fc
      .array(fc.constantFrom(...'0123456789abcdef'.split('')), { minLength: length, maxLength: length })
      .map((digits) => digits.join(''))
      .filter((text) => !/^0+$/.test(text));
  fc.assert(
    fc.property(hex(32), hex(16), hex(2), (traceId, parentId, flags) => {
      const read = readTraceContext(traceparentOf(traceId, parentId, flags), undefined);
      assert.deepEqual([read?.traceId, read?.parentId, read?.flags], [traceId, parentId, flags]);
    }),
  );
});

test('a text of any kind is read or is not, and never throws', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (text, state) => {
      assert.equal(readTraceContext(text, state), undefined);
      const kept = readTraceContext(valid, state)?.state;
      assert.ok(kept === undefined || kept === state);
    }),
  );
});

test('a valid tracestate is kept as it came, one that is not is dropped whole', () => {
  const stateOf = (state: unknown) => readTraceContext(valid, state)?.state;
  const many = (count: number) => Array.from({ length: count }, (_, i) => `k${i}=v`).join(',');
  for (const good of [
    'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE',
    'a=1',
    'a=1, b=2 ,\tc=3',
    'a=1,,b=2',
    'fw529a3039@dt=FfAAAAAA',
    '0tenant@sys=x',
    'a_-*/b=!"#$%&\'()*+-./:;<>?@[\\]^_`{|}~',
    'a=b c',
    many(32),
    `a=${'v'.repeat(256)}`,
  ])
    assert.equal(stateOf(good), good, good);
  for (const bad of [
    undefined,
    ['a=1'],
    '',
    ',',
    'a',
    'a=',
    '=1',
    'A=1',
    '1a=1',
    'a=1,a=2',
    'a=1=2',
    'a=\u00e9',
    'a=1\r\nx: y',
    'a b=1',
    'a=1,b',
    many(33),
    `a=${'v'.repeat(257)}`,
    `${'k'.repeat(257)}=1`,
    `${'t'.repeat(242)}@s=1`,
    `t@${'s'.repeat(15)}=1`,
  ])
    assert.equal(stateOf(bad), undefined, JSON.stringify(bad));
});
