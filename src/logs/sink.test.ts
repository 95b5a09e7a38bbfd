import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import BetterSqlite3 from 'better-sqlite3';
import { DAY, MINUTE, SECOND } from '../core/clock.ts';
import { components, type LogRecord } from '../core/record.ts';
import { aRecord, aSink, NOON, temporaryFolder, until } from './fixtures.test.ts';
import { levelsOf } from './levels.ts';
import type { LogFilter } from './conditions.ts';
import { LogFiles, type LogRow } from './query.ts';
import { startWriterThread } from './sink.ts';
import { dayOf, pathOf } from './folder.ts';

const LIMIT_MS = 30 * SECOND;
/** As in the sink: two of them may be on their way at once. */
const BATCH_RECORDS = 2048;

function rowsIn(directory: string, filter: LogFilter = {}): LogRow[] {
  const files = new LogFiles(directory);
  try {
    const budget = { milliseconds: Infinity, now: () => 0 };
    return files.search({ filter, limit: 1_000_000, after: undefined }, budget).rows.reverse();
  } finally {
    files.close();
  }
}

const messagesIn = (directory: string, filter?: LogFilter) =>
  rowsIn(directory, filter).map(({ message }) => message);

/** Holds the write lock of a day's file: the writer thread stands still, as behind a slow disk. */
function stall(directory: string, day = dayOf(NOON)): { release: () => void } {
  const connection = new BetterSqlite3(pathOf(directory, day));
  connection.exec('begin immediate');
  return { release: () => connection.close() };
}

test('what is written is in its file after a flush, in order', async (t) => {
  const { sink, directory } = aSink(t);
  const sent = Array.from({ length: 5000 }, (_, i) => `${i}`);
  for (const message of sent) sink.write(aRecord({ message, time: NOON + Number(message) }));
  await sink.flush(LIMIT_MS);
  assert.deepEqual(messagesIn(directory), sent);
  assert.deepEqual(sink.stats(), { written: 5000, dropped: 0, queued: 0, writer: 'ok', problem: undefined });
});

test('a record that nobody flushes is on its way within 200 ms', async (t) => {
  const { sink, clock } = aSink(t);
  sink.write(aRecord());
  clock.advance(200);
  await until('the writer has it', () => sink.stats().written === 1);
});

test('write keeps its own copy: a later change of the record changes nothing', async (t) => {
  const { sink, directory } = aSink(t);
  const record = aRecord({ message: 'before' });
  sink.write(record);
  record.message = 'after';
  await sink.flush(LIMIT_MS);
  assert.deepEqual(messagesIn(directory), ['before']);
});

test('while the writer stands still, write returns, the queue stays bounded, and what does not fit is counted and logged', async (t) => {
  const { sink, clock, directory } = aSink(t, { queueRecords: 1500 });
  sink.write(aRecord({ message: 'first' }));
  await sink.flush(LIMIT_MS);
  const lock = stall(directory);
  for (let i = 0; i < 5000; i += 1) sink.write(aRecord({ message: `${i}` }));
  assert.equal(sink.stats().queued, 1500);
  assert.equal(sink.stats().dropped, 3500);
  const waited = sink.flush(SECOND);
  clock.advance(SECOND);
  assert.equal(await waited, false);
  lock.release();
  assert.equal(await sink.flush(LIMIT_MS), true);
  clock.advance(2 * SECOND);
  await sink.flush(LIMIT_MS);
  const messages = messagesIn(directory);
  assert.deepEqual(
    messages.filter((message) => /^\d+$/.test(message)),
    Array.from({ length: 1500 }, (_, i) => `${i}`),
  );
  assert.equal(messages.at(-1), '3500 log records were dropped: the writer could not keep up');
});

test('a flood of access records leaves room for audit and system records', async (t) => {
  const { sink, directory } = aSink(t, { queueRecords: 600 });
  sink.write(aRecord());
  await sink.flush(LIMIT_MS);
  const lock = stall(directory);
  for (let i = 0; i < 2000; i += 1) sink.write(aRecord());
  for (let i = 0; i < 500; i += 1) sink.write(aRecord({ kind: 'audit', component: 'audit' }));
  assert.equal(sink.stats().dropped, 1400);
  for (let i = 0; i < 5000; i += 1) sink.write(aRecord({ kind: 'audit', component: 'audit' }));
  assert.equal(sink.stats().queued, 600 + 1000);
  lock.release();
  await sink.flush(LIMIT_MS);
  assert.equal(rowsIn(directory, { kind: 'audit' }).length, 1000);
});

/** The writer threads that a sink started, in order. */
function observedWriters() {
  const writers: Worker[] = [];
  const startWriter: typeof startWriterThread = (data) => {
    const worker = startWriterThread(data);
    writers.push(worker);
    return worker;
  };
  return { writers, startWriter };
}

test('a writer that dies is started again, and its loss is counted and logged', async (t) => {
  const { writers, startWriter } = observedWriters();
  const { sink, clock, directory, printed } = aSink(t, { startWriter });
  sink.write(aRecord({ message: 'before' }));
  await sink.flush(LIMIT_MS);
  const lock = stall(directory);
  for (let i = 0; i < 3 * BATCH_RECORDS; i += 1) sink.write(aRecord({ message: 'in flight' }));
  const died = writers[0]!.terminate();
  lock.release();
  await died;
  await until('it is noticed', () => sink.stats().writer === 'down');
  sink.write(aRecord({ message: 'while down' }));
  clock.advance(SECOND);
  assert.equal(writers.length, 2);
  await sink.flush(LIMIT_MS);
  clock.advance(SECOND);
  await sink.flush(LIMIT_MS);
  const messages = messagesIn(directory);
  assert.equal(messages[0], 'before');
  assert.equal(messages.at(-2), 'while down');
  assert.equal(messages.at(-1), `${2 * BATCH_RECORDS} log records were dropped: the writer ended`);
  assert.equal(sink.stats().writer, 'ok');
  assert.ok(printed.some((line) => line.includes('ERROR the log writer ended')));
});

test('a writer that dies again and again is started ever more rarely', async (t) => {
  let starts = 0;
  const startWriter: typeof startWriterThread = () => {
    starts += 1;
    throw new Error('no thread today');
  };
  const { sink, clock, printed } = aSink(t, { startWriter, queueRecords: 10 });
  for (let i = 0; i < 100; i += 1) sink.write(aRecord());
  assert.equal(sink.stats().dropped, 90);
  clock.advance(10 * MINUTE);
  assert.ok(starts > 10 && starts < 30, String(starts));
  assert.equal(printed.length, 1, printed.join(''));
  await sink.close();
  assert.equal(sink.stats().dropped, 100);
});

test('a disk that cannot be used stops nobody: the loss is counted, said once, and writing goes on when it is back', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(folder, 'a file where the folder should be');
  const { sink, clock, printed, directory } = aSink(t, { directory: join(folder, 'logs') });
  for (let i = 0; i < 3; i += 1) {
    sink.write(aRecord());
    await sink.flush(LIMIT_MS);
  }
  const { written, dropped, queued, writer } = sink.stats();
  assert.deepEqual({ written, queued, writer }, { written: 0, queued: 0, writer: 'failing' });
  assert.ok(dropped >= 3, String(dropped));
  assert.match(sink.stats().problem ?? '', /^log records cannot be written: ENOTDIR/);
  assert.equal(printed.filter((line) => line.includes('cannot be written')).length, 1);
  rmSync(folder);
  sink.write(aRecord({ message: 'back' }));
  await sink.flush(LIMIT_MS);
  clock.advance(SECOND);
  await sink.flush(LIMIT_MS);
  const [first, second] = messagesIn(directory);
  assert.equal(first, 'back');
  assert.ok(second?.startsWith(`${dropped} log records were dropped: ENOTDIR`), second);
  assert.equal(sink.stats().writer, 'ok');
});

test('records cross midnight into the file of their day', async (t) => {
  const { sink, clock, directory } = aSink(t);
  sink.write(aRecord({ time: clock.now() }));
  clock.advance(DAY);
  sink.write(aRecord({ time: clock.now() }));
  await sink.flush(LIMIT_MS);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith('.sqlite')),
    ['2026-03-10.sqlite', '2026-03-11.sqlite'],
  );
});

test('old days are deleted as time goes by, without a record being written', async (t) => {
  const { sink, clock, directory } = aSink(t, { retentionDays: 2 });
  for (const age of [0, 1, 2]) sink.write(aRecord({ time: NOON - age * DAY }));
  await sink.flush(LIMIT_MS);
  const days = () => readdirSync(directory).filter((name) => name.endsWith('.sqlite'));
  assert.equal(days().length, 3);
  clock.advance(10 * MINUTE);
  await until('the oldest is gone', () => days().length === 2);
  clock.advance(DAY);
  await until('the next is gone', () => days().length === 1);
  clock.advance(DAY);
  await until('all are gone', () => days().length === 0);
});

test('a day that alone is larger than allowed is kept, and said once', async (t) => {
  const { sink, clock, directory } = aSink(t, { retentionBytes: 1 });
  sink.write(aRecord());
  await sink.flush(LIMIT_MS);
  const warnings = () => messagesIn(directory).filter((message) => message.includes('log.retention_bytes'));
  clock.advance(10 * MINUTE);
  await until('it is said', () => {
    clock.advance(200);
    return warnings().length === 1;
  });
  clock.advance(20 * MINUTE);
  await sink.flush(LIMIT_MS);
  assert.equal(warnings().length, 1);
});

test('close writes what is waiting; later records are dropped and counted, and nothing throws', async (t) => {
  const { sink, directory } = aSink(t);
  for (let i = 0; i < 1000; i += 1) sink.write(aRecord());
  await Promise.all([sink.close(), sink.close()]);
  assert.equal(rowsIn(directory).length, 1000);
  sink.write(aRecord());
  await sink.flush(LIMIT_MS);
  assert.equal(sink.stats().dropped, 1);
  assert.deepEqual(readdirSync(directory), ['2026-03-10.sqlite']);
});

test('close does not wait for ever for a writer that stands still', async (t) => {
  const { sink, clock, directory } = aSink(t);
  sink.write(aRecord());
  await sink.flush(LIMIT_MS);
  const lock = stall(directory);
  sink.write(aRecord());
  const closed = sink.close();
  clock.advance(10 * SECOND);
  lock.release();
  await closed;
  assert.equal(sink.stats().queued, 0);
});

test('each component has its own level, changed at run time; audit is always kept', async (t) => {
  const { sink, directory } = aSink(t, { levels: levelsOf('warn') });
  assert.equal(sink.enabled('gateway', 'info'), false);
  assert.equal(sink.enabled('gateway', 'warn'), true);
  assert.equal(sink.enabled('audit', 'debug'), true);
  sink.write(aRecord({ message: 'no' }));
  sink.setLevel('gateway', 'debug');
  sink.write(aRecord({ level: 'debug', message: 'yes' }));
  sink.write(aRecord({ component: 'tls', kind: 'tls', message: 'no' }));
  sink.write(aRecord({ component: 'audit', kind: 'audit', message: 'always' }));
  sink.write(aRecord({ component: 'mcp', kind: 'audit', message: 'always, from anywhere' }));
  sink.setLevel('gateway', 'error');
  sink.write(aRecord({ level: 'warn', message: 'no' }));
  await sink.flush(LIMIT_MS);
  assert.deepEqual(messagesIn(directory), ['yes', 'always', 'always, from anywhere']);
  assert.deepEqual(sink.levels(), { ...levelsOf('warn'), gateway: 'error', audit: 'debug' });
  assert.deepEqual(Object.keys(sink.levels()), [...components]);
});

test('system records of level warn and above are a clean line on the terminal, others are not', (t) => {
  const { sink, printed } = aSink(t);
  const say = (fields: Partial<LogRecord>) =>
    sink.write(aRecord({ kind: 'system', component: 'store', ...fields }));
  say({ level: 'info', message: 'quiet' });
  sink.write(aRecord({ level: 'error', message: 'quiet, of a request' }));
  say({ level: 'warn', message: `one\ntwo\u001b[2J ohp_${'s3cret'.repeat(8)}` });
  say({ level: 'error', message: 'bad', trace_id: '0a' });
  assert.deepEqual(printed, [
    '2026-03-10T12:00:00.000Z WARN store: one\ufffdtwo\ufffd[2J [redacted]\n',
    '2026-03-10T12:00:00.000Z ERROR store: bad (trace 0a)\n',
  ]);
});

test('with stderr off nothing is printed', (t) => {
  const { sink, printed } = aSink(t, { stderr: false });
  sink.write(aRecord({ kind: 'system', component: 'store', level: 'error' }));
  assert.deepEqual(printed, []);
});

/** Runs `body` as a program of its own, with `sink` at hand. */
function program(
  t: TestContext,
  directory: string,
  body: string,
  folder = import.meta.dirname,
): ChildProcess {
  const extension = folder === import.meta.dirname ? 'ts' : 'js';
  const source = `
    const { createLogSink } = await import('${folder}/sink.${extension}');
    const { levelsOf } = await import('${folder}/levels.${extension}');
    const { systemClock } = await import('${folder}/../core/clock.${extension}');
    const sink = createLogSink({ directory: ${JSON.stringify(directory)}, clock: systemClock, queueRecords: 10000,
      levels: levelsOf('info'), retentionDays: 30, retentionBytes: 2 ** 32, stderr: true });
    const write = (message) => sink.write({ time: Date.now(), kind: 'access', level: 'info', component: 'gateway', message });
    ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

const exitOf = (child: ChildProcess) =>
  new Promise<number | null>((resolve) => void child.once('exit', resolve));

test('kill -9 loses at most what was not flushed, and the file stays readable', async (t) => {
  const directory = temporaryFolder(t);
  const child = program(
    t,
    directory,
    `for (let i = 0; ; i += 1) {
      write(String(i));
      if (i % 100 === 0) { await sink.flush(10000); console.log(i); }
    }`,
  );
  const gone = exitOf(child);
  let flushed = -1;
  for await (const line of createInterface({ input: child.stdout! })) {
    flushed = Number(line);
    if (flushed >= 5000) child.kill('SIGKILL');
  }
  await gone;
  const messages = messagesIn(directory)
    .map(Number)
    .sort((a, b) => a - b);
  assert.ok(messages.length > flushed, `${messages.length} records, ${flushed} flushed`);
  assert.deepEqual(
    messages,
    Array.from({ length: messages.length }, (_, i) => i),
  );
});

test('a program that forgets the sink ends by itself, one that closes it loses nothing', async (t) => {
  const directory = temporaryFolder(t);
  assert.equal(await exitOf(program(t, directory, `write('forgotten');`)), 0);
  assert.equal(await exitOf(program(t, directory, `write('closed'); await sink.close();`)), 0);
  assert.ok(messagesIn(directory).includes('closed'));
});

test('the threads start from a build in JavaScript too', async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'logs-build-'));
  t.after(() => rmSync(out, { recursive: true }));
  const root = dirname(dirname(import.meta.dirname));
  const entries = ['sink', 'archive', 'writer', 'reader'].map((name) =>
    join(import.meta.dirname, `${name}.ts`),
  );
  const options =
    `--ignoreConfig --outDir ${out} --rootDir ${root}/src --target es2024 --module nodenext --types node
    --lib es2024,esnext.disposable --rewriteRelativeImportExtensions --skipLibCheck --strict`.split(/\s+/);
  execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options, ...entries], {
    cwd: root,
  });
  symlinkSync(join(root, 'node_modules'), join(out, 'node_modules'));
  writeFileSync(join(out, 'package.json'), '{"type":"module"}');
  const directory = join(out, 'data/logs');
  mkdirSync(dirname(directory));
  assert.equal(
    await exitOf(program(t, directory, `write('built'); await sink.close();`, join(out, 'logs'))),
    0,
  );
  assert.deepEqual(messagesIn(directory), ['built']);
});

test('days that can not be compressed are told once each, also when they take turns', (t) => {
  const { writers, startWriter } = observedWriters();
  const { printed } = aSink(t, { startWriter });
  for (const error of ['one is broken', 'two is broken', 'one is broken', 'two is broken'])
    writers[0]?.emit('message', { type: 'not_packed', error });
  assert.equal(printed.filter((line) => line.includes('cannot be compressed now')).length, 2);
});
