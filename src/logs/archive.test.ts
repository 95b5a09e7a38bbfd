import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import type { LogRecord } from '../core/record.ts';
import { createLogArchive, type LogArchive, startReaderThread } from './archive.ts';
import { aRecord, asTexts, NOON, temporaryFolder, until } from './fixtures.test.ts';
import type { Question } from './messages.ts';
import { LogStore } from './store.ts';

const NEVER = new AbortController().signal;

const aQuestion = (limit = 10): Question => ({
  search: { filter: {}, limit, after: undefined },
  presentation: { verbose: false, maxCharacters: 100_000 },
});

function anArchive(t: TestContext): {
  archive: LogArchive;
  clock: ManualClock;
  readers: Worker[];
  records: LogRecord[];
} {
  const directory = temporaryFolder(t);
  const store = new LogStore(directory);
  store.append(asTexts(...Array.from({ length: 20 }, (_, i) => aRecord({ message: `${i}` }))));
  store.close();
  const clock = new ManualClock(NOON);
  const readers: Worker[] = [];
  const records: LogRecord[] = [];
  const archive = createLogArchive({
    directory,
    clock,
    log: { write: (record) => void records.push(record), enabled: () => true },
    startReader(data) {
      const reader = startReaderThread(data);
      readers.push(reader);
      return reader;
    },
  });
  t.after(() => archive.close());
  return { archive, clock, readers, records };
}

test('questions asked at once are each answered, in a thread that the first of them started', async (t) => {
  const { archive, readers } = anArchive(t);
  assert.equal(readers.length, 0);
  const answers = await Promise.all([1, 2, 3].map((limit) => archive.query(aQuestion(limit), NEVER)));
  assert.deepEqual(
    answers.map(({ records }) => records.length),
    [1, 2, 3],
  );
  assert.equal(readers.length, 1);
});

test('a caller that goes away is let go at once, and the next is answered', async (t) => {
  const { archive } = anArchive(t);
  const [active, waiting] = [new AbortController(), new AbortController()];
  const first = archive.query(aQuestion(), active.signal);
  const second = archive.query(aQuestion(), waiting.signal);
  const third = archive.query(aQuestion(5), NEVER);
  waiting.abort();
  active.abort();
  await assert.rejects(first, { code: 'CANCELLED' });
  await assert.rejects(second, { code: 'CANCELLED' });
  assert.equal((await third).records.length, 5);
  await assert.rejects(archive.query(aQuestion(), AbortSignal.abort()), { code: 'CANCELLED' });
});

test('a reader that dies fails the question it had, and the next question starts another', async (t) => {
  const { archive, readers } = anArchive(t);
  const first = archive.query(aQuestion(), NEVER);
  const second = archive.query(aQuestion(5), NEVER);
  void readers[0]!.terminate();
  await assert.rejects(first, { code: 'UNAVAILABLE' });
  assert.equal((await second).records.length, 5);
  assert.equal(readers.length, 2);
});

test('a reader that hangs is given up', async (t) => {
  const { archive, clock, readers } = anArchive(t);
  const first = archive.query(aQuestion(), NEVER);
  const second = archive.query(aQuestion(5), NEVER);
  clock.advance(15 * SECOND);
  await assert.rejects(first, { code: 'TIMEOUT' });
  assert.equal((await second).records.length, 5);
  assert.equal(readers.length, 2);
});

test('no more than a bounded number of questions wait', async (t) => {
  const { archive } = anArchive(t);
  const all = await Promise.allSettled(Array.from({ length: 100 }, () => archive.query(aQuestion(), NEVER)));
  const refused = all.filter((one) => one.status === 'rejected');
  assert.equal(refused.length, 35);
  for (const { reason } of refused) assert.equal(reason.code, 'UNAVAILABLE');
});

test('the thread ends when nobody asked for a minute, and comes back for the next question', async (t) => {
  const { archive, clock, readers } = anArchive(t);
  await archive.query(aQuestion(), NEVER);
  let ended = false;
  readers[0]!.once('exit', () => (ended = true));
  clock.advance(MINUTE);
  await until('the thread has ended', () => ended);
  assert.equal((await archive.query(aQuestion(), NEVER)).records.length, 10);
  assert.equal(readers.length, 2);
});

test('a thread that can not be ended is reported, and the next question starts another', async (t) => {
  const { archive, clock, readers, records } = anArchive(t);
  const ending: [ask: () => Promise<unknown>, ms: number][] = [
    [() => archive.query(aQuestion(), NEVER), MINUTE],
    [() => assert.rejects(lateQuestion(archive, clock), { code: 'TIMEOUT' }), 0],
  ];
  for (const [ask, ms] of ending) {
    const answer = ask();
    t.mock.method(readers.at(-1)!, 'terminate', () => Promise.reject(new Error('it will not')));
    await answer;
    clock.advance(ms);
    await until('it is reported', () =>
      records.some(({ message }) => /did not end: it will not/.test(message)),
    );
    records.length = 0;
  }
  t.mock.restoreAll();
  await Promise.all(readers.map((reader) => reader.terminate()));
  assert.equal((await archive.query(aQuestion(), NEVER)).records.length, 10);
});

function lateQuestion(archive: LogArchive, clock: ManualClock) {
  const late = archive.query(aQuestion(), NEVER);
  queueMicrotask(() => clock.advance(15 * SECOND));
  return late;
}

test('close refuses what is waiting and ends the thread', async (t) => {
  const { archive } = anArchive(t);
  const questions = [1, 2].map((limit) => archive.query(aQuestion(limit), NEVER));
  const results = Promise.allSettled(questions);
  await archive.close();
  for (const { status } of await results) assert.equal(status, 'rejected');
  await assert.rejects(archive.query(aQuestion(), NEVER), { code: 'UNAVAILABLE' });
});
