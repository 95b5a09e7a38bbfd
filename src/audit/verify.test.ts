/** Whoever changes the files of a trail is found out, whatever is changed. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { DAY, ManualClock } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { listFiles, offsetOf, withFile } from './files.ts';
import { macOf } from './line.ts';
import { AuditService } from './service.ts';
import { Trail } from './trail.ts';

const DAYS = 3;
const A_DAY = 4;

async function makeTrail() {
  const parent = mkdtempSync(join(tmpdir(), 'verify-'));
  const clock = new ManualClock();
  const trail = new Trail({ folder: join(parent, 'audit'), key: Buffer.alloc(32, 1), clock, log: silentLog });
  for (let day = 0; day < DAYS; day++, clock.advance(DAY))
    for (let i = 0; i < A_DAY; i++)
      trail.write({
        time: clock.now(),
        kind: 'audit',
        level: 'info',
        component: 'audit',
        message: `call ${day}.${i}`,
        outcome: 'OK',
        principal: 'tok_1',
      });
  const service = new AuditService(trail, clock);
  const verify = () => service.verify({}, { signal: new AbortController().signal });
  const files = listFiles(trail.folder);
  const texts = files.map(({ path }) => readFileSync(path));
  const restore = () => files.forEach(({ path }, i) => writeFileSync(path, texts[i] ?? ''));
  return {
    trail,
    service,
    verify,
    files,
    texts,
    restore,
    async [Symbol.asyncDispose]() {
      await trail.close();
      rmSync(parent, { recursive: true });
    },
  };
}

const linesOf = (bytes: Buffer) => bytes.toString('latin1').split('\n').slice(0, -1);

test('a byte that is changed anywhere, lines taken out, doubled, exchanged or cut, and files removed, exchanged or renamed are found', async (t) => {
  await using world = await makeTrail();
  const { files, texts, verify, restore } = world;
  assert.equal((await verify()).intact, true);
  const path = (i: number) => files[i]?.path ?? '';
  const bytesOf = (i: number) => texts[i] ?? Buffer.alloc(0);
  const inFile = fc.nat(DAYS - 1);
  const line = fc.nat(A_DAY - 1);
  const attack = fc.oneof(
    fc.record({
      what: fc.constant('byte' as const),
      file: inFile,
      at: fc.nat(2000),
      by: fc.integer({ min: 1, max: 255 }),
    }),
    fc.record({ what: fc.constant('remove line' as const), file: inFile, at: line }),
    fc.record({ what: fc.constant('double line' as const), file: inFile, at: line }),
    fc.record({ what: fc.constant('exchange lines' as const), file: inFile, at: fc.nat(A_DAY - 2) }),
    fc.record({ what: fc.constant('cut' as const), file: inFile, at: fc.nat(2000) }),
    fc.record({ what: fc.constant('remove file' as const), file: inFile }),
    fc.record({ what: fc.constant('exchange files' as const), file: fc.nat(DAYS - 2) }),
    fc.record({ what: fc.constant('empty file' as const), file: inFile }),
    fc.record({ what: fc.constant('rename file' as const), file: inFile }),
  );
  const write = (file: number, lines: readonly string[]) =>
    writeFileSync(path(file), lines.map((one) => `${one}\n`).join(''), 'latin1');
  const run = (one: typeof attack extends fc.Arbitrary<infer A> ? A : never): (() => void) | void => {
    const bytes = Buffer.from(bytesOf(one.file));
    const lines = linesOf(bytes);
    switch (one.what) {
      case 'byte': {
        const at = one.at % bytes.length;
        bytes[at] = ((bytes[at] ?? 0) + one.by) % 256;
        return writeFileSync(path(one.file), bytes);
      }
      case 'remove line':
        return write(one.file, lines.toSpliced(one.at, 1));
      case 'double line':
        return write(one.file, lines.toSpliced(one.at, 0, lines[one.at] ?? ''));
      case 'exchange lines':
        return write(one.file, lines.toSpliced(one.at, 2, lines[one.at + 1] ?? '', lines[one.at] ?? ''));
      case 'cut':
        return writeFileSync(path(one.file), bytes.subarray(0, one.at % bytes.length));
      case 'remove file':
        return rmSync(path(one.file));
      case 'empty file':
        return writeFileSync(path(one.file), '');
      case 'exchange files':
        writeFileSync(path(one.file), bytesOf(one.file + 1));
        return writeFileSync(path(one.file + 1), bytes);
      case 'rename file': {
        const other = path(one.file).replace(/\d{12}\.ndjson$/, '000000000050.ndjson');
        renameSync(path(one.file), other);
        return () => rmSync(other);
      }
    }
  };
  await fc.assert(
    fc.asyncProperty(attack, async (one) => {
      const undo = run(one);
      const { intact } = await verify();
      undo?.();
      restore();
      assert.equal(intact, false, JSON.stringify(one));
    }),
    { numRuns: 400 },
  );
  assert.equal((await verify()).intact, true, 'put back, it is whole again');
  t.diagnostic(`${texts.reduce((sum, text) => sum + text.length, 0)} bytes`);
});

test('a folder or a file that the system does not let us read is told as that, without its path', async () => {
  await using world = await makeTrail();
  const { trail, verify, service, files } = world;
  const refused = { code: 'UNAVAILABLE', message: /can not be read now \(\w+: ELOOP\)/ };
  const loops = [trail.folder, files[1]?.path ?? ''];
  for (const path of loops) {
    renameSync(path, `${path}.aside`);
    symlinkSync(path, path);
    await assert.rejects(verify(), refused);
    await assert.rejects(service.export({ limit: 100 }), refused);
    rmSync(path);
    renameSync(`${path}.aside`, path);
  }
  assert.equal((await verify()).intact, true);
});

test('a MAC is HMAC-SHA-256', () => {
  const ascii = fc.string({ unit: 'binary-ascii', maxLength: 300 });
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  fc.assert(
    fc.property(ascii, key, (text, bytes) => {
      const expected = createHmac('sha256', bytes).update(text).digest('base64url');
      assert.equal(macOf(text, Buffer.from(bytes)), expected);
    }),
  );
});

test('a place is found by its number, and pages hold every record once', async () => {
  await using world = await makeTrail();
  const { files, texts, service } = world;
  for (const [i, { path, first }] of files.entries())
    withFile(path, (file, size) => {
      const lines = linesOf(texts[i] ?? Buffer.alloc(0));
      lines.reduce((offset, line, n) => {
        assert.equal(offsetOf(file, size, first + n), offset);
        return offset + line.length + 1;
      }, 0);
      assert.equal(offsetOf(file, size, first + A_DAY), size);
    });
  for (const limit of [1, 3, 5, 100]) {
    let [after, all] = [0, ''];
    for (;;) {
      const page = await service.export({ after, limit });
      all += page.ndjson;
      if (page.complete || page.last_seq === undefined) break;
      after = page.last_seq;
    }
    assert.equal(all, Buffer.concat(texts).toString('latin1'));
  }
  const since = await service.export({ limit: 100, since: Date.UTC(2026, 0, 3) });
  assert.equal(since.records, A_DAY);
  const until = await service.export({ limit: 100, until: Date.UTC(2026, 0, 2) });
  assert.equal(until.records, A_DAY);
});
