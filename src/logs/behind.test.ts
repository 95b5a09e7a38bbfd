/** Answers while the writer has not yet written everything: a real archive, and a sink that says how far it is. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { AppError } from '../core/errors.ts';
import { system } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { createLogArchive } from './archive.ts';
import { aRecord, aSink, NOON } from './fixtures.test.ts';
import { createLogService, type LogService } from './service.ts';

const BEHIND = /The newest records are still being written: ask again/;
const LOST = /Records cannot be written now, and some are lost: health_check says why/;

/** `problem`: why the writer drops records, which then are settled. */
async function aService(t: TestContext, isWhole: boolean, problem?: string): Promise<LogService> {
  const { sink, clock, directory } = aSink(t);
  const archive = createLogArchive({ directory, clock, log: silentLog });
  t.after(() => archive.close());
  sink.write(aRecord({ trace_id: 'a'.repeat(32), hostname: 'app.example.com' }));
  await sink.flush(30_000);
  const stats = () => ({ ...sink.stats(), problem });
  const told = { flush: { value: async () => isWhole }, stats: { value: stats } };
  return createLogService({ sink: Object.create(sink, told), archive, clock });
}

const asking = { principal: system, signal: new AbortController().signal };
/** Everything that may have a newer record than its answer. */
const questions: Record<string, (logs: LogService) => Promise<{ hint?: string | undefined }>> = {
  get_logs: (logs) => logs.get({ kind: 'access' }, asking),
  search_logs: (logs) => logs.search({ text: 'request' }, asking),
  get_log_stats: (logs) => logs.stats({ group_by: 'host' }, asking),
  explain_request: (logs) => logs.explainRequest({ trace_id: 'a'.repeat(32) }, asking),
  why_denied: (logs) =>
    logs.whyDenied({ hostname: 'app.example.com', time: new Date(NOON).toISOString() }, asking),
  what_changed: (logs) => logs.whatChanged({ since: '1h' }, asking),
};

/** What is looked for and not found may be among what is not written yet. */
const lookedFor: Record<string, (logs: LogService) => Promise<unknown>> = {
  'a trace': (logs) => logs.explainRequest({ trace_id: 'b'.repeat(32) }, asking),
  'a request at a time': (logs) =>
    logs.explainRequest({ hostname: 'other.example.com', time: new Date(NOON).toISOString() }, asking),
};

for (const [name, ask] of Object.entries(lookedFor))
  test(`explain_request that finds not ${name} says whether it may be too early to ask`, async (t) => {
    const said = {
      code: 'NOT_FOUND',
      message: /^no re.*\. The newest records are still being written: ask again/,
    };
    await assert.rejects(ask(await aService(t, false)), said);
    const whole = await ask(await aService(t, true)).catch((cause: unknown) => cause);
    assert.ok(whole instanceof AppError && whole.code === 'NOT_FOUND');
    assert.doesNotMatch(whole.message, BEHIND);
    await assert.rejects(ask(await aService(t, true, 'full')), { code: 'NOT_FOUND', message: LOST });
  });

for (const [name, ask] of Object.entries(questions)) {
  test(`${name} says so when the newest records are not in their file yet`, async (t) => {
    assert.match((await ask(await aService(t, false))).hint ?? '', BEHIND);
  });
  test(`${name} says nothing of it when they are`, async (t) => {
    assert.doesNotMatch((await ask(await aService(t, true))).hint ?? '', BEHIND);
  });
  test(`${name} says so while records are lost, though none is waited for`, async (t) => {
    for (const isWhole of [true, false])
      assert.match((await ask(await aService(t, isWhole, 'full'))).hint ?? '', LOST);
    assert.doesNotMatch((await ask(await aService(t, true))).hint ?? '', LOST);
  });
}
