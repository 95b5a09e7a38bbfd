import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { changesIn, decodeCursor, encodeCursor, pageOf, takeOneMore } from './collection.ts';
import { AppError } from './errors.ts';
import { limits } from './limits.ts';
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

test('pages follow each other without a gap or a repetition, and the last one says that it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(12), fc.integer({ min: 1, max: 5 }), async (size, limit) => {
      const all = Array.from({ length: size }, (_, i) => i);
      async function* behind(after: number) {
        yield* all.filter((item) => item > after);
      }
      const seen: number[] = [];
      let cursor: string | undefined = '-1';
      for (let pages = 0; cursor !== undefined; pages += 1) {
        assert.ok(pages <= size / limit);
        const found: number[] = await takeOneMore(behind(Number(cursor)), limit);
        const page: ReturnType<typeof pageOf<number>> = pageOf(found, limit, String);
        seen.push(...page.items);
        cursor = page.next_cursor;
      }
      assert.deepEqual(seen, all);
    }),
  );
});

test('a page fits into a result: a default one into a default one, and never has none of some', () => {
  const rows = (count: number, size: number) =>
    Array.from({ length: count }, (_, i) => ({ i, text: 'x'.repeat(size) }));
  const sizeOf = (limit: number | undefined, found: object[]) => {
    const { items, next_cursor: cursor } = pageOf(found, limit, () => 'more');
    assert.equal(cursor, items.length < found.length ? 'more' : undefined);
    return [items.length, JSON.stringify({ items, cursor }).length] as const;
  };
  for (const size of [0, 100, 500, 2000]) {
    const [count, characters] = sizeOf(undefined, rows(300, size));
    assert.ok(count > 0 && count <= limits.pageSizeDefault && characters <= limits.resultCharactersDefault);
    assert.ok(sizeOf(200, rows(300, size))[1] <= limits.resultCharacters);
  }
  assert.equal(sizeOf(undefined, rows(2, 100_000))[0], 1);
  assert.equal(sizeOf(200, rows(201, 10))[0], 200);
});

test('a page is measured by what is shown of it', () => {
  const found = Array.from({ length: 10 }, () => 'x'.repeat(5000));
  assert.equal(pageOf(found, undefined, String).items.length, 1);
  assert.equal(pageOf(found, undefined, String, (text) => text[0]).items.length, 10);
});

test('a change is what it names: null takes off, what is left out stays, and nothing at all is a mistake', () => {
  assert.deepEqual(Object.entries(changesIn('update_thing', { a: false, b: null, c: undefined })), [
    ['a', false],
    ['b', undefined],
  ]);
  assert.throws(() => changesIn('update_thing', { c: undefined }), {
    code: 'INVALID_INPUT',
    message: 'update_thing: name at least one setting to change',
  });
});

test('text of strangers keeps no control, bidirectional or invisible character and no length of its own', () => {
  const hostile = 'a\u001b[31m\r\n\u202eb\u200bc\u0000\u{e0041}\ud800\u2028\u2029\u061c\ufffa';
  assert.doesNotMatch(
    cleanText(hostile),
    /[\p{Cc}\p{Zl}\p{Zp}\u202e\u200b\u{e0041}\u061c\ufffa]|\p{Surrogate}/u,
  );
  assert.match(cleanText(hostile), /^a.*b.*c/u);
  const unseen = [
    '\ufe0f',
    '\u3164',
    '\u115f',
    '\u1160',
    '\uffa0',
    '\u034f',
    '\u17b4',
    '\u180b',
    '\u{1bca0}',
    '\u{1d173}',
    '\u{e0100}',
    '\u{e01ef}',
    '\u{e0fff}',
  ];
  for (const char of unseen)
    assert.equal(cleanText(`a${char}b`), 'a\ufffdb', char.codePointAt(0)?.toString(16));
  const seen = 'é ü ß 漢字 👍 👩🏽 ~ « » ’ \u00a0';
  assert.equal(cleanText(seen), seen);
  assert.equal(cleanText('x'.repeat(1000), 10), `${'x'.repeat(10)}…`);
  assert.equal(cleanLines('a\r\nb\tc\u0007', 100), 'a\nb\tc\ufffd');
});
