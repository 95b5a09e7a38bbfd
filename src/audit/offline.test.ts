/** Whoever has only files finds out what was changed in them, as far as can be known without the process, and without the key. */
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { verifyExports, verifyFolder } from './offline.ts';
import { attack, attacker, linesOf, makeTrail } from './trail.fixture.ts';

const signal = new AbortController().signal;
const noKey = { key: undefined, known: undefined, signal };

async function makeFiles() {
  const world = await makeTrail();
  const { trail, texts } = world;
  await trail.close();
  const exported = join(trail.folder, 'audit.ndjson');
  const lines = texts.flatMap(linesOf);
  /** What is said of an export of these lines. */
  const ofLines = async (
    some: readonly string[],
    more: { known?: string; key?: Buffer; end?: string } = {},
  ) => {
    writeFileSync(exported, some.join('\n') + (more.end ?? '\n'), 'latin1');
    const verdict = await verifyExports([exported], { ...noKey, ...more });
    rmSync(exported);
    return verdict;
  };
  const head = `12.${JSON.parse(lines.at(-1) ?? '').hash}`;
  return { ...world, lines, ofLines, head, withKey: { key: trail.key, known: undefined, signal } };
}

test('of a folder, what the running process would find is found without it, and all but forged MACs without the key', async () => {
  await using world = await makeFiles();
  const { trail, files, texts, restore, withKey, head } = world;
  const expected = { intact: true, records: 12, from_seq: 1, to_seq: 12, gaps: [], lost_records: 0, head };
  for (const wish of [withKey, noKey]) assert.deepEqual(await verifyFolder(trail.folder, wish), expected);
  const run = attacker(files, texts);
  await fc.assert(
    fc.asyncProperty(attack, async (one) => {
      const undo = run(one);
      const { intact } = await verifyFolder(trail.folder, withKey);
      const withoutKey = await verifyFolder(trail.folder, noKey);
      undo?.();
      restore();
      assert.equal(intact, false, JSON.stringify(one));
      if (one.what !== 'byte') assert.equal(withoutKey.intact, false, JSON.stringify(one));
    }),
    { numRuns: 300 },
  );
});

test('a folder in use may hold more than its head knows, and a record that is being written', async () => {
  await using world = await makeTrail();
  const { trail } = world;
  const record = { kind: 'audit', level: 'info', component: 'audit', message: 'a call', time: 0 } as const;
  await (await trail.begin({ ...record })).end({ ...record });
  trail.write({ ...record });
  const { last, file } = trail.extent() ?? assert.fail();
  const look = () => verifyFolder(trail.folder, { key: trail.key, known: undefined, signal });
  assert.deepEqual([(await look()).intact, (await look()).to_seq], [true, last.seq]);
  appendFileSync(join(trail.folder, file), '{"seq":');
  assert.deepEqual([(await look()).intact, (await look()).to_seq], [true, last.seq]);
  appendFileSync(join(trail.folder, file), '\n');
  assert.match((await look()).fault?.message ?? '', /is no record of this trail/);
});

test('a trail without its head, or with one of another system, is not called whole', async () => {
  await using world = await makeFiles();
  const { trail, withKey } = world;
  const head = join(trail.folder, 'head');
  const other = { ...withKey, key: Buffer.alloc(32, 2) };
  assert.match((await verifyFolder(trail.folder, other)).fault?.message ?? '', /another|master key/);
  const kept = readFileSync(head);
  writeFileSync(head, 'nothing');
  const damaged = await verifyFolder(trail.folder, noKey);
  assert.deepEqual([damaged.intact, damaged.fault?.file], [false, 'head']);
  rmSync(head);
  const gone = await verifyFolder(trail.folder, withKey);
  assert.match(gone.fault?.message ?? '', /is gone: where the trail has to end is not known/);
  writeFileSync(head, kept);
  assert.equal((await verifyFolder(trail.folder, withKey)).intact, true);
});

test('of an export, without a key, what was changed, taken out, exchanged or cut is found, and where', async () => {
  await using world = await makeFiles();
  const { lines, ofLines, head } = world;
  assert.deepEqual(await ofLines(lines), {
    intact: true,
    records: 12,
    from_seq: 1,
    to_seq: 12,
    gaps: [],
    lost_records: 0,
    head,
  });
  assert.equal((await ofLines(lines.slice(4, 9))).intact, true, 'a part of it');
  const [fifth = '', sixth = ''] = lines.slice(4);
  const offset = lines.slice(0, 4).join('\n').length + 1;
  const fault = async (...asked: Parameters<typeof ofLines>) => {
    const { intact, fault: found } = await ofLines(...asked);
    assert.equal(intact, false);
    return found;
  };
  const file = 'audit.ndjson';
  assert.deepEqual(await fault(lines.with(4, fifth.replace('call 1.0', 'call 9.9'))), {
    file,
    offset,
    seq: undefined,
    message: 'was changed since it was written: it has another hash',
  });
  assert.deepEqual(await fault(lines.toSpliced(4, 1)), {
    file,
    offset,
    seq: 6,
    message: 'follows record 4: those between them are gone, or out of order',
  });
  assert.deepEqual((await fault(lines.toSpliced(4, 2, sixth, fifth)))?.seq, 6);
  assert.equal((await fault(lines, { end: '' }))?.message, 'is not whole');
  assert.equal(
    (await fault([...lines.slice(0, -1), lines.at(-1)?.slice(0, 100) ?? '']))?.offset,
    lines.slice(0, -1).join('\n').length + 1,
  );
  assert.equal((await ofLines(lines.slice(0, 9))).intact, true, 'nobody knows that there was more');
  assert.match(
    (await fault(lines.slice(0, 9), { known: head }))?.message ?? '',
    /^record 12, of which you have the hash/,
  );
});

test('who has the key sees who made an export, and who has a head that it was not made anew', async () => {
  await using world = await makeFiles();
  await using other = await makeFiles();
  const { trail, lines, ofLines, head } = world;
  assert.equal((await ofLines(lines, { key: trail.key, known: head })).intact, true);
  const strange = await ofLines(lines, { key: Buffer.alloc(32, 2) });
  assert.match(strange.fault?.message ?? '', /not written under this master key/);
  const anew = head.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
  assert.match((await ofLines(other.lines, { known: anew })).fault?.message ?? '', /was written anew/);
});

test('files of a trail that were copied are verified in the order in which they are named', async () => {
  await using world = await makeFiles();
  const paths = world.files.map(({ path }) => path);
  assert.deepEqual(
    [(await verifyExports(paths, noKey)).intact, (await verifyExports(paths, noKey)).records],
    [true, 12],
  );
  assert.equal((await verifyExports(paths.toReversed(), noKey)).intact, false);
  const [first = '', , third = ''] = paths;
  assert.match((await verifyExports([first, third], noKey)).fault?.message ?? '', /follows record 4/);
});

test('nothing is not called whole: a folder without a trail, an export without a record', async () => {
  await using world = await makeFiles();
  const { trail, files, ofLines, withKey } = world;
  await assert.rejects(verifyFolder(join(trail.folder, '..'), withKey), { code: 'NOT_FOUND' });
  await assert.rejects(verifyFolder(join(trail.folder, 'nowhere'), withKey), { code: 'NOT_FOUND' });
  await assert.rejects(ofLines([], { end: '' }), { code: 'NOT_FOUND' });
  for (const { path } of files) rmSync(path);
  assert.match(
    (await verifyFolder(trail.folder, withKey)).fault?.message ?? '',
    /^record 12, up to which the head says/,
  );
});

test('files that the process deletes for their age while they are read are no fault', async () => {
  await using world = await makeTrail();
  const { trail, files, texts } = world;
  const [, second = Buffer.alloc(0)] = texts;
  const { seq, hash } = JSON.parse(linesOf(second).at(-1) ?? '');
  const isRetired = { is: false };
  const whileRead = Object.assign(new AbortController().signal, {
    throwIfAborted() {
      if (!isRetired.is) trail.retire(files.slice(0, 2), { seq, hash });
      isRetired.is = true;
    },
  });
  const verdict = await verifyFolder(trail.folder, { key: trail.key, known: undefined, signal: whileRead });
  // With the record of the deletion.
  assert.deepEqual([verdict.intact, verdict.from_seq, verdict.to_seq], [true, 9, 13]);
});
