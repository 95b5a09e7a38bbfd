import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { DAY, ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { LogRecord } from '../core/record.ts';
import { TrailDisk } from './disk.ts';
import { listFiles } from './files.ts';
import { AuditService } from './service.ts';
import { Trail } from './trail.ts';

const KEY = Buffer.alloc(32, 7);

function world(t: TestContext) {
  const folder = join(mkdtempSync(join(tmpdir(), 'trail-')), 'audit');
  t.after(() => rmSync(join(folder, '..'), { recursive: true, force: true }));
  const clock = new ManualClock();
  const logged: LogRecord[] = [];
  const log = { write: (record: LogRecord) => void logged.push(record), enabled: () => true };
  const open = (key = KEY) => {
    const trail = new Trail({ folder, key, clock, log });
    const service = new AuditService(trail, clock);
    t.after(() => trail.close());
    const verify = (wish: Parameters<AuditService['verify']>[0] = {}) =>
      service.verify(wish, { signal: new AbortController().signal });
    return { trail, service, verify };
  };
  const lines = () =>
    listFiles(folder).flatMap(({ path }) =>
      readFileSync(path, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    );
  return { folder, clock, logged, open, lines };
}

const record = (more: Partial<LogRecord> = {}): LogRecord => ({
  time: Date.UTC(2026, 0, 1),
  kind: 'audit',
  level: 'info',
  component: 'audit',
  message: 'tester create_proxy: OK',
  principal: 'tok_1',
  operation: 'create_proxy',
  outcome: 'OK',
  ...more,
});

test('a record is in the file when write returns, in a folder and a file that only their owner can read', (t) => {
  const { folder, open, lines, logged } = world(t);
  const { trail } = open();
  trail.write(record());
  trail.write(record({ kind: 'access', message: 'no matter of the trail' }));
  const [line, ...more] = lines();
  assert.deepEqual(more, []);
  assert.deepEqual(
    {
      seq: line.seq,
      event: line.event,
      principal: line.principal,
      operation: line.operation,
      outcome: line.outcome,
    },
    { seq: 1, event: 'event', principal: 'tok_1', operation: 'create_proxy', outcome: 'OK' },
  );
  assert.equal(logged.length, 2, 'both go on to the log');
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  for (const name of readdirSync(folder)) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600);
});

test('what is told in one turn is in the file when it resolves, in its order and before what comes later', async (t) => {
  const { open, lines } = world(t);
  const { trail, verify } = open();
  await trail.tell(record({ message: 'alone' }));
  const told = Array.from({ length: 300 }, (_, i) => trail.tell(record({ message: `read ${i}` })));
  trail.write(record({ message: 'written' }));
  const late = trail.tell(record({ message: 'late' }));
  const begun = await trail.begin(record({ message: 'begun' }));
  await Promise.all([...told, late, begun.end(record({ message: 'ended' }))]);
  const wanted = ['alone', ...told.map((_, i) => `read ${i}`), 'written', 'late', 'begun', 'ended'];
  assert.deepEqual(
    lines().map(({ message }) => message),
    wanted,
  );
  assert.equal((await verify()).intact, true);
});

test('what is told is written before the end of the trail is looked at, and before it is closed', async (t) => {
  const { open, lines } = world(t);
  const { trail } = open();
  const first = trail.tell(record({ message: 'first' }));
  assert.equal(trail.extent()?.last.seq, 1);
  const second = trail.tell(record({ message: 'second' }));
  await Promise.all([trail.close(), first, second]);
  assert.deepEqual(
    lines().map(({ message }) => message),
    ['first', 'second'],
  );
});

test('what changes something has a record before it, and its result behind it', async (t) => {
  const { open, lines, logged } = world(t);
  const { trail, verify } = open();
  const begun = await trail.begin(record({ outcome: undefined }));
  assert.deepEqual(logged, [], 'a beginning is no news for the log');
  await begun.end(record());
  assert.deepEqual(
    lines().map(({ event, of }) => [event, of]),
    [
      ['begun', undefined],
      ['ended', 1],
    ],
  );
  assert.equal(logged.length, 1);
  assert.equal((await verify()).intact, true);
});

test('after a kill the trail goes on where it ended, and tells of what had begun that no result is known', async (t) => {
  const { open, lines, logged } = world(t);
  const one = open();
  one.trail.write(record());
  await one.trail.begin(record({ outcome: undefined, trace_id: 'abc', hostname: 'app.example.com' }));
  one.trail.write(record({ operation: 'list_proxies' }));
  const two = open();
  const last = lines().at(-1);
  assert.deepEqual(
    {
      event: last.event,
      of: last.of,
      trace_id: last.trace_id,
      hostname: last.hostname,
      outcome: last.outcome,
    },
    { event: 'interrupted', of: 2, trace_id: 'abc', hostname: 'app.example.com', outcome: 'INTERNAL' },
  );
  assert.match(logged.at(-1)?.message ?? '', /interrupted, no result is known/);
  assert.deepEqual(await two.verify().then(({ intact, records, gaps }) => ({ intact, records, gaps })), {
    intact: true,
    records: 4,
    gaps: [],
  });
  await two.trail.close();
  open();
  assert.equal(lines().length, 4, 'told once');
});

test('a record that was not written to its end is cut off and told', async (t) => {
  const { folder, open, lines } = world(t);
  const { trail } = open();
  trail.write(record());
  await trail.close();
  const [file] = listFiles(folder);
  assert.ok(file);
  writeFileSync(file.path, '{"seq":2,"time":"20', { flag: 'a' });
  const { verify } = open();
  assert.deepEqual(
    lines().map(({ seq, event }) => [seq, event]),
    [
      [1, 'event'],
      [2, 'torn'],
    ],
  );
  assert.equal((await verify()).intact, true);
});

test('a day has a file, and days that are too old are deleted without a gap', async (t) => {
  const { folder, clock, open, lines } = world(t);
  const one = open();
  for (let day = 0; day < 5; day++) {
    one.trail.write(record({ message: `day ${day}` }));
    one.trail.write(record());
    clock.advance(DAY);
  }
  assert.equal(listFiles(folder).length, 5);
  assert.equal((await one.verify({ since: clock.now() - 3 * DAY })).records, 6);
  one.service.sweep(3);
  assert.deepEqual(
    lines().map(({ seq, event }) => [seq, event]),
    [5, 6, 7, 8, 9, 10].map((seq) => [seq, 'event']).concat([[11, 'retired']]),
  );
  assert.equal((await one.verify()).intact, true);
  await one.trail.close();
  const two = open();
  assert.equal((await two.verify()).intact, true);
  const [oldest] = listFiles(folder);
  assert.ok(oldest);
  rmSync(oldest.path);
  const { fault } = await two.verify();
  assert.match(fault?.message ?? '', /follows record 4: those between them are gone/);
});

test('a head that was kept is found in it, and one of another history is not', async (t) => {
  const { open } = world(t);
  const { trail, verify } = open();
  trail.write(record());
  const { head } = await verify();
  trail.write(record());
  assert.equal((await verify({ known: head })).intact, true);
  const other = await verify({ known: `1.${'a'.repeat(64)}` });
  assert.match(other.fault?.message ?? '', /another hash than the one you kept/);
  const later = await verify({ known: `99.${'a'.repeat(64)}` });
  assert.match(later.fault?.message ?? '', /not among those/);
});

test('the same under another master key is nobody knows whose', async (t) => {
  const { open } = world(t);
  const { trail } = open();
  trail.write(record());
  await trail.close();
  const { verify, trail: other } = open(Buffer.alloc(32, 8));
  assert.match((await verify()).fault?.message ?? '', /not written under this master key/);
  assert.equal(other.state().gap?.suspect, true);
});

test('secrets and what moves a cursor are not in it, and a long record is cut', (t) => {
  const { folder, open, lines } = world(t);
  const { trail } = open();
  trail.write(
    record({ detail: { header: 'Authorization: Bearer abcdefghijkl', name: '\u202eevil\u001b[2J\u009b' } }),
  );
  trail.write(record({ message: 'x'.repeat(50_000), detail: { a: 'y'.repeat(50_000), b: 10n } }));
  const [{ path } = { path: '' }] = listFiles(folder);
  const text = readFileSync(path, 'utf8');
  assert.match(text, /^[\n -~]*$/);
  assert.doesNotMatch(text, /abcdefghijkl/);
  assert.ok(text.length < 20_000);
  assert.equal(lines().length, 2);
});

test('of refusals of strangers some of a minute are told one by one and the others in sum', async (t) => {
  const { clock, open, lines } = world(t);
  const { trail, verify } = open();
  const refused = record({ principal: 'anonymous', outcome: 'UNAUTHENTICATED' });
  for (let i = 0; i < 1000; i++) trail.write(refused);
  trail.write(record());
  clock.advance(MINUTE);
  assert.equal(lines().length, 32);
  assert.deepEqual(lines().at(-1).detail, { count: 970, by: { 'create_proxy: UNAUTHENTICATED': 970 } });
  assert.equal((await verify()).intact, true);
});

test('where it can not be written nothing begins, others go on and are counted, and it recovers by itself', async (t) => {
  const { folder, clock, open, lines, logged } = world(t);
  const { trail, verify } = open();
  trail.write(record());
  writeFileSync(join(folder, '../moved'), '');
  // A file in the place of the folder: nothing can be made in it.
  clock.advance(DAY);
  rmSync(folder, { recursive: true });
  writeFileSync(folder, '');
  trail.write(record());
  await assert.rejects(
    trail.begin(record()),
    (cause) => cause instanceof AppError && cause.code === 'UNAVAILABLE',
  );
  assert.match(trail.state().problem ?? '', /can't be written/);
  assert.equal(trail.state().lost > 0, true);
  const { lost } = trail.state();
  await Promise.all([trail.tell(record()), trail.tell(record())]);
  assert.equal(trail.state().lost, lost + 2);
  rmSync(folder);
  clock.advance(10 * SECOND);
  trail.write(record({ message: 'after it' }));
  assert.ok(existsSync(folder));
  assert.ok(
    lines().some(({ event }) => event === 'lost'),
    JSON.stringify(lines()),
  );
  await (await trail.begin(record())).end(record());
  assert.equal(trail.state().problem, undefined);
  assert.ok(logged.some(({ message }) => /can be written again/.test(message)));
  const { fault, lost_records } = await verify();
  assert.ok(lost_records > 0 || fault);
});

test('a record of which no line can be made costs no other one its place, is counted, and is no trouble of the disk', async (t) => {
  const { open, lines } = world(t);
  const { trail, verify } = open();
  const bad = record({ time: Number.NaN, message: 'bad' });
  await Promise.all(['a', 'b'].flatMap((message) => [trail.tell(record({ message })), trail.tell(bad)]));
  assert.deepEqual([trail.state().lost, trail.state().problem], [2, undefined]);
  await assert.rejects(trail.begin(bad), { code: 'UNAVAILABLE' });
  await (await trail.begin(record({ message: 'c' }))).end(bad);
  trail.write(record({ message: 'd' }));
  assert.deepEqual(
    lines().map(({ event, message, detail }) => [message, event === 'lost' ? detail.count : event]),
    [
      ['a', 'event'],
      ['b', 'event'],
      ['2 audit records could not be written', 2],
      ['1 audit records could not be written', 1],
      ['c', 'begun'],
      ['1 audit records could not be written', 1],
      ['d', 'event'],
    ],
  );
  const [, , lost, , , result] = lines();
  assert.match(lost.detail.why, /^no line could be made of a record: /);
  assert.equal(result.detail.results, 1);
  const verdict = await verify();
  assert.deepEqual([verdict.intact, verdict.lost_records, trail.state().problem], [true, 4, undefined]);
});

test('a file that is deleted or cut while it is written is found', async (t) => {
  const { folder, clock, open } = world(t);
  const { trail, verify } = open();
  for (let i = 0; i < 10; i++) trail.write(record());
  const [file] = listFiles(folder);
  assert.ok(file);
  truncateSync(file.path, 1000);
  assert.equal((await verify()).intact, false);
  rmSync(file.path);
  assert.equal((await verify()).intact, false);
  trail.write(record());
  clock.advance(2 * SECOND);
  trail.write(record());
  assert.equal(listFiles(folder).length, 1);
  assert.match((await verify()).fault?.message ?? '', /deleted or replaced while it was written/);
});

test('a folder that can not be looked into is told by the state, and ends no timer', async (t) => {
  const { folder, clock, open } = world(t);
  const { trail } = open();
  trail.write(record());
  renameSync(folder, `${folder}-moved`);
  symlinkSync(folder, folder);
  clock.advance(2 * SECOND);
  assert.match(trail.state().problem ?? '', /can't be written: ELOOP/);
  rmSync(folder);
  renameSync(`${folder}-moved`, folder);
  await (await trail.begin(record())).end(record());
  assert.equal(trail.state().problem, undefined);
});

/** Of the next sync, which is under way until it is let go; the others are real. */
function failingSync(t: TestContext) {
  const gate = Promise.withResolvers<void>();
  const { mock } = t.mock.method(TrailDisk.prototype, 'sync', async function (this: TrailDisk) {
    mock.restore();
    await gate.promise;
    this.leave();
    throw new Error('EIO');
  });
  return gate.resolve;
}

test('who comes while a sync fails has nothing on the disk either, and is refused as well', async (t) => {
  const { open } = world(t);
  const { trail, verify } = open();
  const fail = failingSync(t);
  const both = [trail.begin(record()), trail.begin(record())];
  fail();
  for (const result of await Promise.allSettled(both)) assert.equal(result.status, 'rejected');
  assert.match(trail.state().problem ?? '', /EIO/);
  await (await trail.begin(record())).end(record());
  assert.equal(trail.state().problem, undefined);
  assert.equal((await verify()).intact, true);
});

test('after a sync that failed nothing is said to work until something was written', async (t) => {
  const { clock, open } = world(t);
  const { trail } = open();
  failingSync(t)();
  trail.write(record());
  clock.advance(SECOND);
  await turn();
  assert.match(trail.state().problem ?? '', /EIO/);
  clock.advance(20 * SECOND);
  await turn();
  assert.notEqual(trail.state().problem, undefined);
  await (await trail.begin(record())).end(record());
  assert.equal(trail.state().problem, undefined);
});

test('what is suspicious stays so over restarts, as long as the record of it is kept', async (t) => {
  const { folder, clock, open } = world(t);
  const one = open();
  for (let i = 0; i < 5; i++) one.trail.write(record());
  await one.trail.close();
  const [file] = listFiles(folder);
  assert.ok(file);
  truncateSync(file.path, 1000);
  const two = open();
  const { gap } = two.trail.state();
  assert.equal(gap?.suspect, true);
  await two.trail.close();
  const three = open();
  assert.deepEqual(three.trail.state().gap, gap);
  three.trail.write(record());
  // Killed: the head is as old as its last sync.
  const four = open();
  assert.deepEqual(four.trail.state().gap, gap);
  clock.advance(10 * DAY);
  four.trail.write(record());
  four.service.sweep(3);
  assert.equal(four.trail.state().gap, undefined);
  await four.trail.close();
  const five = open();
  assert.equal(five.trail.state().gap, undefined);
  assert.equal((await five.verify()).intact, true);
});

test('files that could not be deleted are not told as deleted', async (t) => {
  const { folder, clock, open, lines } = world(t);
  const { trail } = open();
  trail.write(record());
  clock.advance(10 * DAY);
  trail.write(record());
  await trail.begin(record());
  const [oldest] = listFiles(folder);
  assert.ok(oldest);
  rmSync(oldest.path);
  // A folder in its place: a file is deleted, a folder is not.
  mkdirSync(oldest.path);
  writeFileSync(join(oldest.path, 'x'), '');
  trail.retire([oldest], { seq: 1, hash: 'a'.repeat(64) });
  assert.match(trail.state().problem ?? '', /can't be written/);
  rmSync(oldest.path, { recursive: true });
  assert.equal(lines().filter(({ event }) => event === 'retired').length, 0);
});

test('a page of an export looks at a bounded part of the trail, and says where to go on', async (t) => {
  const { open } = world(t);
  const { trail, service } = open();
  const detail = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`f${i}`, 'x'.repeat(1000)]));
  for (let i = 0; i < 300; i++) trail.write(record({ detail }));
  trail.write(record({ time: Date.UTC(2026, 0, 2), message: 'the one' }));
  const wish = { since: Date.UTC(2026, 0, 1, 12), limit: 1000 };
  const found: string[] = [];
  let pages = 0;
  for (let after = 0, isDone = false; !isDone; pages += 1) {
    const page = await service.export({ ...wish, after });
    found.push(page.ndjson);
    isDone = page.complete;
    assert.ok(isDone || (page.last_seq ?? 0) > after);
    after = page.last_seq ?? after;
  }
  assert.equal(pages, 2);
  assert.match(found.join(''), /^[^\n]*the one[^\n]*\n$/);
});
