import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import test from 'node:test';
import fc from 'fast-check';
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { parseJson, readBody } from './json-body.ts';

const parse = (text: string) => parseJson(Buffer.from(text));

test('property: any JSON document is read as JSON.parse reads it', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), (text) => {
      assert.deepEqual(parse(text), { ok: true, value: JSON.parse(text) });
    }),
  );
});

test('property: any bytes are JSON or a parse error, never an exception', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const parsed = parseJson(Buffer.from(bytes));
      assert.ok(parsed.ok || parsed.message.startsWith('the body '));
    }),
  );
});

test('property: nesting is counted outside of strings only, up to the limit', () => {
  const inner = fc.string({ unit: fc.constantFrom('[', '{', '"', '\\', 'x') });
  fc.assert(
    fc.property(fc.nat(limits.jsonDepth * 2), inner, (depth, text) => {
      const document = `${'['.repeat(depth)}${JSON.stringify(text)}${']'.repeat(depth)}`;
      assert.equal(parse(document).ok, depth <= limits.jsonDepth);
    }),
  );
});

test('property: items are counted outside of strings only, up to the limit, wherever they are', () => {
  const commas = fc.string({ unit: fc.constantFrom(',', '[', '"', '\\', 'x') });
  fc.assert(
    fc.property(fc.nat(20), fc.nat(limits.jsonDepth - 2), commas, (beyond, depth, text) => {
      const count = limits.jsonItems - 10 + beyond;
      const items = Array.from({ length: count }, (_, i) => (i % 2 === 0 ? '[0,0]' : JSON.stringify(text)));
      const document = `${'['.repeat(depth)}[${items.join()}]${']'.repeat(depth)}`;
      assert.equal(parse(document).ok, count <= limits.jsonItems);
    }),
    { numRuns: 30 },
  );
});

test('property: values are counted over all lists and objects', () => {
  const lists = 10;
  fc.assert(
    fc.property(fc.nat(20), fc.boolean(), (beyond, isObject) => {
      const perList = limits.jsonValues / lists - 10 + beyond;
      const values = Array.from({ length: perList - 1 }, (_, i) => (isObject ? `"${i}":0` : '0')).join();
      const list = isObject ? `{${values}}` : `[${values}]`;
      const document = `[${Array(lists).fill(list).join()}]`;
      // Each list is a value itself, and so is the one around them.
      assert.equal(parse(document).ok, perList * lists <= limits.jsonValues);
    }),
  );
});

test('a body is read whole, and not beyond the limit', async () => {
  const read = (chunks: Buffer[]) => readBody({ body: Readable.from(chunks) });
  const whole = await read([Buffer.from('a'), Buffer.from('b')]);
  assert.deepEqual(whole, { kind: 'bytes', bytes: Buffer.from('ab') });
  const limit = Buffer.alloc(limits.controlBodyBytes);
  assert.equal((await read([limit])).kind, 'bytes');
  assert.equal((await read([limit, Buffer.from('x')])).kind, 'too-large');
  const broken = new Readable({ read() {} });
  const gone = readBody({ body: broken });
  broken.destroy();
  assert.equal((await gone).kind, 'gone');
});

test('a body that the gate ended says why, whether it is being read or was ended before', async () => {
  const error = new AppError('TOO_LARGE', 'too much');
  for (const wait of [true, false]) {
    const body = new Readable({ read() {} }).on('error', () => undefined);
    const reading = wait ? undefined : readBody({ body });
    body.destroy(error);
    await new Promise((resolve) => body.once('close', resolve));
    assert.deepEqual(await (reading ?? readBody({ body })), { kind: 'refused', error });
  }
});

test('a body that was over before anyone asked is gone, or empty', async () => {
  const gone = new Readable({ read() {} });
  gone.destroy();
  assert.deepEqual(await readBody({ body: gone }), { kind: 'gone' });
  const read = Readable.from([]);
  await read.toArray();
  assert.deepEqual(await readBody({ body: read }), { kind: 'bytes', bytes: Buffer.alloc(0) });
});
