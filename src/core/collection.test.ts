import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { decodeCursor, encodeCursor } from './collection.ts';
import { AppError } from './errors.ts';
import { traceIdOf } from './ids.ts';
import { cleanLines, cleanText } from './untrusted.ts';

test('a cursor gives back the key it was made from', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer(), (text, number) => {
      assert.deepEqual(decodeCursor('list', ['string', 'number'], encodeCursor('list', [text, number])), [
        text,
        number,
      ]);
    }),
  );
});

test('any other text is INVALID_INPUT, never a crash or another list', () => {
  const refused = (cursor: string) =>
    assert.throws(
      () => decodeCursor('list', ['string'], cursor),
      (error) => error instanceof AppError && error.code === 'INVALID_INPUT',
    );
  fc.assert(fc.property(fc.oneof(fc.string(), fc.base64String(), fc.json()), refused));
  for (const cursor of [
    '',
    'null',
    encodeCursor('other', ['a']),
    encodeCursor('list', [1]),
    encodeCursor('list', ['a', 'b']),
    encodeCursor('list', []),
  ])
    refused(cursor);
});

test('text of strangers keeps no control, bidirectional or invisible character and no length of its own', () => {
  const hostile = 'a\u001b[31m\r\n\u202eb\u200bc\u0000\u{e0041}\ud800';
  assert.doesNotMatch(cleanText(hostile), /[\p{Cc}\u202e\u200b\u{e0041}]|\p{Surrogate}/u);
  assert.match(cleanText(hostile), /^a.*b.*c/u);
  assert.equal(cleanText('x'.repeat(1000), 10), `${'x'.repeat(10)}…`);
  assert.equal(cleanLines('a\r\nb\tc\u0007', 100), 'a\nb\tc\ufffd');
});

test('only a valid traceparent gives a trace id', () => {
  const id = '0af7651916cd43dd8448eb211c80319c';
  assert.equal(traceIdOf(`00-${id}-b7ad6b7169203331-01`), id);
  assert.equal(traceIdOf(`01-${id}-b7ad6b7169203331-01-more`), id);
  for (const bad of [
    undefined,
    '',
    `ff-${id}-b7ad6b7169203331-01`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${id}-${'0'.repeat(16)}-01`,
    `00-${id.toUpperCase()}-b7ad6b7169203331-01`,
  ])
    assert.equal(traceIdOf(bad), undefined, bad);
});
