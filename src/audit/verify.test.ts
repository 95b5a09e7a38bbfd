/** Whoever changes the files of a trail is found out, whatever is changed. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import test from 'node:test';
import fc from 'fast-check';
import { offsetOf, withFile } from './files.ts';
import { macOf } from './line.ts';
import { A_DAY, attack, attacker, linesOf, makeTrail } from './trail.fixture.ts';

test('a byte that is changed anywhere, lines taken out, doubled, exchanged or cut, and files removed, exchanged or renamed are found', async (t) => {
  await using world = await makeTrail();
  const { files, texts, verify, restore } = world;
  assert.equal((await verify()).intact, true);
  const run = attacker(files, texts);
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
