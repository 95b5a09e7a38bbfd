import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { refusedAs } from './engine.contract.ts';
import { logLines } from './engine.docker.logs.ts';
import type { LogLine } from './engine.ts';

const frame = (kind: number, text: string): Buffer => {
  const body = Buffer.from(text);
  const head = Buffer.alloc(8);
  head[0] = kind;
  head.writeUInt32BE(body.length, 4);
  return Buffer.concat([head, body]);
};

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function read(bytes: Buffer, size = bytes.length, framed = true): Promise<LogLine[]> {
  const found: LogLine[] = [];
  for await (const line of logLines(inPieces(bytes, Math.max(1, size)), { framed })) found.push(line);
  return found;
}

test('property: lines are the same however the bytes are cut, in each stream', async () => {
  const text = fc.stringMatching(/^[a-zé☃ ]{0,20}$/u);
  const lines = fc.array(fc.tuple(fc.constantFrom(1, 2), text), { maxLength: 10 });
  await fc.assert(
    fc.asyncProperty(lines, fc.integer({ min: 1, max: 40 }), async (said, size) => {
      const bytes = Buffer.concat(
        said.map(([kind, words]) => frame(kind, `2026-01-01T00:00:00.5Z ${words}\n`)),
      );
      const found = await read(bytes, size);
      const expected = said.map(([kind, words]) => ({
        stream: kind === 2 ? 'stderr' : 'stdout',
        time: Date.UTC(2026, 0, 1) + 500,
        text: words,
      }));
      assert.deepEqual(found, expected);
    }),
  );
});

test('a line without an end is split, and what is no time is text', async () => {
  const found = await read(frame(1, `${'x'.repeat(40_000)}\nyesterday it rained`), 1000);
  assert.deepEqual(
    found.map(({ text }) => text.length),
    [16_384, 16_384, 7232, 19],
  );
  assert.equal(found.at(-1)?.time, undefined);
});

test('of a terminal the bytes are lines of stdout', async () => {
  const found = await read(Buffer.from('2026-01-01T00:00:00Z one\r\ntwo'), 3, false);
  assert.deepEqual(found, [
    { stream: 'stdout', time: Date.UTC(2026, 0, 1), text: 'one' },
    { stream: 'stdout', text: 'two' },
  ]);
});

test('a frame of another kind is not understood, and one that says it is huge takes no memory', async () => {
  await assert.rejects(read(frame(7, 'x')), refusedAs('UPSTREAM_FAILED', /form/));
  const head = Buffer.from([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
  assert.deepEqual(await read(Buffer.concat([head, Buffer.from('a\n')])), [{ stream: 'stdout', text: 'a' }]);
});
