/** Calls that run as tasks: answered at once, asked for by polling, and in the end the result that the call would have had. */
import { strict as assert } from 'node:assert';
import { test, type TestContext } from 'node:test';
import { ProtocolError } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { principalOf, startHarness, type Harness } from '../../../test/conformance/harness.ts';
import { kitchenOperations } from '../../../test/conformance/operations.ts';
import {
  envelope,
  modernCall,
  modernHeaders,
  openSession,
  post,
  rpc,
} from '../../../test/conformance/wire.ts';
import { eventually } from '../../../test/support/eventually.ts';
import { HOUR, ManualClock, systemClock } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { defineOperation } from '../../core/operation.ts';
import { openSqlite } from '../../store/sqlite.ts';
import type { Scope } from './calls.ts';
import type { StoredTask, TaskStore } from './task-store.ts';
import { Tasks, type TasksOptions } from './tasks.ts';

const TASKS = { extensions: { 'io.modelcontextprotocol/tasks': {} } };
/** As `tasks.ts`: of one principal. */
const MOST = 100;
const admin = principalOf('admin');
const other = principalOf('other');
const viewer = principalOf('viewer', { permissions: new Set(['proxies:read']) });

function slowWork() {
  const gate = Promise.withResolvers<void>();
  let ran = 0;
  const operation = defineOperation({
    name: 'request_work',
    title: 'Request work',
    description: 'Works until it is let go.',
    permission: 'proxies:write',
    confinement: 'harmless',
    effect: 'update',
    mcp: 'searchable',
    task: true,
    toolset: 'proxies',
    http: { method: 'POST', path: '/v1/work' },
    input: z.object({ fails: z.boolean().default(false).describe('How it ends') }),
    output: z.object({ done: z.boolean() }),
    async handler({ fails }, { signal, progress }) {
      ran++;
      progress?.({ progress: 1, message: 'half way' });
      const gone = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => gone.resolve(), { once: true });
      await Promise.race([gate.promise, gone.promise]);
      if (signal.aborted) throw new AppError('CANCELLED', 'stopped');
      if (fails) throw new AppError('UPSTREAM_FAILED', 'no luck');
      return { done: true };
    },
  });
  return { operation, release: () => gate.resolve(), ran: () => ran };
}

async function world(t: TestContext, more: Parameters<typeof startHarness>[0] = {}) {
  const work = slowWork();
  const operations = [...kitchenOperations, work.operation];
  const harness = await startHarness({ operations, principals: [admin, other, viewer], ...more });
  t.after(() => harness[Symbol.asyncDispose]());
  return { ...work, harness, operations };
}

const begin = (harness: Harness, args: object = {}, more: object = {}) =>
  modernCall(harness, 'request_work', args, { capabilities: TASKS, ...more });

const taskCall = (
  harness: Pick<Harness, 'url'> & { token?: string },
  method: string,
  taskId: string,
  { capabilities = TASKS as object, params = {}, name = taskId } = {},
) =>
  post(
    harness,
    rpc(method, { taskId, ...params, _meta: envelope(capabilities) }),
    modernHeaders(method, name),
  );

const ended = (harness: Harness, id: string) =>
  eventually(async () => {
    const { json } = await taskCall(harness, 'tasks/get', id);
    return json.result.status === 'working' ? undefined : json.result;
  }, 'the end of the task');

test('a call that may take long is answered with a task where the client declares it, and its end is the result of the call', async (t) => {
  const { harness, release } = await world(t);
  const { json } = await begin(harness);
  const { resultType, taskId, status, createdAt, ttlMs, pollIntervalMs } = json.result;
  assert.deepEqual([resultType, status, ttlMs, pollIntervalMs], ['task', 'working', HOUR, 2000]);
  assert.ok(Math.abs(Date.parse(createdAt) - Date.now()) < HOUR);
  assert.ok(!('result' in json.result || 'task' in json.result || 'requestState' in json.result));
  const { result: working } = (await taskCall(harness, 'tasks/get', taskId)).json;
  assert.deepEqual(
    [working.resultType, working.taskId, working.status, working.statusMessage, working.result],
    ['complete', taskId, 'working', 'half way', undefined],
  );
  release();
  const done = await ended(harness, taskId);
  assert.equal(done.status, 'completed');
  const { result: plain } = (await modernCall(harness, 'request_work', {})).json;
  assert.deepEqual(done.result.content, plain.content);
  assert.deepEqual(done.result.structuredContent, plain.structuredContent);
});

test('by call_operation too; and a tool that fails has completed, with its error as the result', async (t) => {
  const { harness, release } = await world(t);
  const detour = { name: 'request_work', arguments: { fails: true } };
  const { json } = await modernCall(harness, 'call_operation', detour, { capabilities: TASKS });
  assert.equal(json.result.resultType, 'task');
  release();
  const { status, result, error } = await ended(harness, json.result.taskId);
  assert.deepEqual([status, result.isError, error], ['completed', true, undefined]);
  assert.match(result.content[0].text, /^UPSTREAM_FAILED: no luck/);
});

test('who declares nothing is answered with the result, as are calls that do not take long and every client of before', async (t) => {
  const { harness, release } = await world(t);
  release();
  for (const capabilities of [{}, { extensions: {} }, { tasks: {} }]) {
    const { result } = (await modernCall(harness, 'request_work', {}, { capabilities })).json;
    assert.deepEqual([result.resultType, result.structuredContent], ['complete', { done: true }]);
  }
  const { result: echo } = (await modernCall(harness, 'echo', { message: 'x' }, { capabilities: TASKS }))
    .json;
  assert.equal(echo.resultType, 'complete');
  const session = await openSession(harness, { version: '2025-11-25', capabilities: TASKS });
  const legacy = await post(harness, rpc('tools/call', { name: 'request_work', arguments: {} }), session);
  assert.deepEqual(legacy.json.result.structuredContent, { done: true });
  assert.equal((await post(harness, rpc('tasks/get', { taskId: 'x' }), session)).json.error.code, -32601);
});

test("a task is its principal's alone, and asked for by who declares the extension", async (t) => {
  const { harness } = await world(t);
  const { taskId } = (await begin(harness)).json.result;
  for (const method of ['tasks/get', 'tasks/update', 'tasks/cancel']) {
    const stranger = await taskCall({ ...harness, token: 'other' }, method, taskId);
    const unknown = await taskCall(harness, method, 'tsk_none');
    assert.deepEqual(stranger.json.error, unknown.json.error, method);
    assert.equal(unknown.json.error.code, -32602);
    const bare = await taskCall(harness, method, taskId, { capabilities: {} });
    assert.equal(bare.json.error.code, -32021, method);
    assert.deepEqual(bare.json.error.data.requiredCapabilities, TASKS);
    const misnamed = await taskCall(harness, method, taskId, { name: 'tsk_other' });
    assert.deepEqual([misnamed.status, misnamed.json.error.code], [400, -32020], method);
  }
  assert.equal((await taskCall(harness, 'tasks/get', taskId)).json.result.status, 'working');
  for (const gone of ['tasks/list', 'tasks/result'])
    assert.equal((await taskCall(harness, gone, taskId)).json.error.code, -32601, gone);
});

test('what came of a call is for who may still make it: with the permission and the hostnames of when it began', async () => {
  const operation = slowWork().operation;
  const view = { operations: new Map([['request_work', operation]]) };
  const at = Date.now();
  const ask = async (hostnames: string[] | undefined, now: object, needs = true) => {
    const task = {
      id: 'tsk_1',
      principalId: 'admin',
      createdAt: at,
      updatedAt: at,
      expiresAt: at + HOUR,
      needs: needs ? { operation: 'request_work', hostnames } : undefined,
      status: 'completed',
      result: '{}',
    };
    const store = { find: async () => task };
    await using tasks = new Tasks(
      { clock: systemClock, tasks: store } as unknown as TasksOptions,
      assert.fail,
    );
    const scope = { principal: { ...admin, ...now }, takesTasks: true, view } as unknown as Scope;
    try {
      await tasks.answer('tasks/get', 'tsk_1', scope);
      return 'told';
    } catch (cause) {
      return cause instanceof ProtocolError ? cause.code : String(cause);
    }
  };
  const own = ['*.a.example.com'];
  assert.equal(await ask(undefined, {}), 'told');
  assert.equal(await ask(own, {}), 'told');
  assert.equal(await ask(own, { hostnames: own }), 'told');
  assert.equal(await ask(own, { hostnames: ['x.a.example.com'] }), -32602);
  assert.equal(await ask(undefined, { hostnames: own }), -32602);
  assert.equal(await ask(undefined, { permissions: new Set(['proxies:read']) }), -32602);
  assert.equal(await ask(undefined, {}, false), -32602);
});

test('who may not run it gets no task', async (t) => {
  const { harness, ran } = await world(t);
  const { status } = await modernCall(
    { ...harness, token: 'viewer' },
    'request_work',
    {},
    { capabilities: TASKS },
  );
  assert.equal(status, 403);
  assert.equal(ran(), 0);
});

test('of one principal there are a hundred tasks at most, ended and cancelled ones included; what is more waits, and others have theirs', async (t) => {
  const { harness, release, ran } = await world(t);
  const begun = Array.from({ length: MOST + 5 }, () => begin(harness));
  let waiting = begun.length;
  const types = begun.map(async (call) => {
    const { resultType, taskId, structuredContent } = (await call).json.result;
    waiting--;
    return { resultType, taskId, structuredContent };
  });
  await eventually(async () => (waiting === 5 && ran() === begun.length ? true : undefined), 'all but five');
  const stranger = { ...harness, token: other.id };
  const others = await begin(stranger);
  assert.equal(others.json.result.resultType, 'task');
  release();
  const answers = await Promise.all(types);
  const tasks = answers.filter(({ resultType }) => resultType === 'task');
  assert.equal(tasks.length, MOST);
  for (const { resultType, structuredContent } of answers)
    if (resultType !== 'task') assert.deepEqual(structuredContent, { done: true });
  await taskCall(harness, 'tasks/cancel', tasks[0]?.taskId);
  await ended(harness, tasks[1]?.taskId);
  assert.notEqual((await begin(harness)).json.result.resultType, 'task');
});

test('a cancelled task stays cancelled, whatever comes of its call, and cancelling again is no error', async (t) => {
  const { harness, release } = await world(t);
  const { taskId } = (await begin(harness)).json.result;
  for (let i = 0; i < 2; i++) {
    const { result } = (await taskCall(harness, 'tasks/cancel', taskId)).json;
    assert.deepEqual([result.resultType, result.status], ['complete', undefined]);
  }
  release();
  const done = await ended(harness, taskId);
  assert.deepEqual([done.status, done.result, done.error], ['cancelled', undefined, undefined]);
  const updated = await taskCall(harness, 'tasks/update', taskId, { params: { inputResponses: {} } });
  assert.equal(updated.json.result.resultType, 'complete');
});

test('after a restart the end of a task is there, and one that was not over has failed and says how to go on', async (t) => {
  const database = await openSqlite(':memory:', systemClock);
  t.after(() => database[Symbol.asyncDispose]());
  const one = await world(t, { database });
  const { taskId: first } = (await begin(one.harness)).json.result;
  one.release();
  const before = await ended(one.harness, first);
  // As a process that is killed leaves it.
  const at = Date.now();
  const row = {
    principal_id: 'admin',
    needs: JSON.stringify({ operation: 'request_work' }),
    status: 'working',
    result_sealed: null,
    created_at: at,
    updated_at: at,
  };
  await database.change({}, async (tx) => {
    const values = { id: 'tsk_left', ...row, expires_at: at + HOUR };
    await tx.insertInto('mcp_tasks').values(values).execute();
  });
  const two = await world(t, { database });
  assert.deepEqual(await ended(two.harness, first), before);
  const left = await ended(two.harness, 'tsk_left');
  assert.deepEqual([left.status, left.result, left.error.code], ['failed', undefined, -32603]);
  assert.match(left.error.message, /goes on by itself: look at how it stands/);
});

test('a task that ends while it is asked for is told as it ended', async () => {
  const at = Date.now();
  const needs = { operation: 'request_work', hostnames: undefined };
  const row = {
    id: 'tsk_1',
    principalId: 'admin',
    needs,
    createdAt: at,
    updatedAt: at,
    expiresAt: at + HOUR,
  };
  const rows: StoredTask[] = [
    { ...row, status: 'working', result: undefined },
    { ...row, status: 'completed', result: '{"content":[]}' },
  ];
  const store: Pick<TaskStore, 'find'> = { find: async () => rows.shift() };
  // What runs nothing needs no more of it.
  const tasks = new Tasks({ clock: systemClock, tasks: store } as TasksOptions, assert.fail);
  const operations = new Map([['request_work', slowWork().operation]]);
  const scope = { principal: admin, takesTasks: true, view: { operations } } as unknown as Scope;
  const { status, result, error } = await tasks.answer('tasks/get', 'tsk_1', scope);
  assert.deepEqual([status, result, error], ['completed', { content: [] }, undefined]);
  await tasks[Symbol.asyncDispose]();
});

test('a task expires with its time to live, and not before', async (t) => {
  const clock = new ManualClock(Date.now());
  const { harness, release } = await world(t, { clock });
  const { taskId } = (await begin(harness)).json.result;
  release();
  await ended(harness, taskId);
  clock.advance(HOUR - 1);
  assert.equal((await taskCall(harness, 'tasks/get', taskId)).json.result.status, 'completed');
  clock.advance(1);
  assert.equal((await taskCall(harness, 'tasks/get', taskId)).json.error.code, -32602);
});

test('the task of a credential that is gone stops', async (t) => {
  const { harness } = await world(t);
  const { taskId } = (await begin(harness)).json.result;
  harness.mcp.closeSessionsOf('admin');
  const { result } = await ended(harness, taskId);
  assert.match(result.content[0].text, /^CANCELLED/);
});

test('server/discover says that there are tasks', async (t) => {
  const { harness } = await world(t);
  const { json } = await post(
    harness,
    rpc('server/discover', { _meta: envelope() }),
    modernHeaders('server/discover'),
  );
  assert.deepEqual(json.result.capabilities.extensions, { 'io.modelcontextprotocol/tasks': {} });
});

test('incident 23: who is given what came of a task has read it then, however long ago it came', async (t) => {
  const clock = new ManualClock();
  const work = slowWork();
  const operations = [...kitchenOperations, { ...work.operation, untrusted: true }];
  const oauth = { userId: 'usr_1', clientId: 'client', grantId: 'grant', scopes: [] };
  const agent = principalOf('agent', { kind: 'user', oauth });
  const harness = await startHarness({ operations, principals: [agent], taint: 'oauth', clock });
  t.after(() => harness[Symbol.asyncDispose]());
  const wire = { ...harness, token: agent.id };
  const { taskId } = (await modernCall(wire, 'request_work', {}, { capabilities: TASKS })).json.result;
  work.release();
  const get = async () => (await taskCall(wire, 'tasks/get', taskId)).json.result;
  await eventually(async () => ((await get()).status === 'completed' ? true : undefined), 'the end');
  clock.advance(HOUR - 1);
  assert.equal((await get()).result.structuredContent.done, true);
  clock.advance(HOUR - 1);
  const { json } = await modernCall(wire, 'remove_thing', { name: 'a' });
  assert.match(json.result.content[0].text, /^CONFIRMATION_REQUIRED: /);
});
