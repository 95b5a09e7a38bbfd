/** How a call that takes long gets on, over REST and on the command line. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { z } from 'zod';
import { ohp, startWorld, tokens } from '../../test/surface-harness.ts';
import { AppError } from '../core/errors.ts';
import { defineOperation } from '../core/operation.ts';

/** A call that waits ends when its test lets it. */
const held = { release: Promise.withResolvers<void>() };

const work = defineOperation({
  confinement: 'harmless',
  mcp: 'searchable',
  toolset: 'system',
  name: 'request_work',
  title: 'Request work',
  description: 'Takes long.',
  permission: 'proxies:write',
  effect: 'update',
  task: true,
  http: { method: 'POST', path: '/v1/work' },
  input: z.object({
    told: z.array(z.string().max(100)).max(10).default([]).describe('What it tells'),
    waits: z.boolean().default(false).describe('Whether it ends when it has told all'),
    fails: z.boolean().default(false).describe('How it ends'),
  }),
  output: z.object({ done: z.boolean() }),
  async handler({ told, waits, fails }, { progress }) {
    for (const [i, message] of told.entries()) progress?.({ progress: i + 1, message });
    if (waits) await held.release.promise;
    if (fails) throw new AppError('UPSTREAM_FAILED', 'no luck');
    return { done: true };
  },
});

async function world(t: TestContext) {
  const made = await startWorld([work]);
  t.after(() => made[Symbol.asyncDispose]());
  const post = async (body: object, accept: string) => {
    const reply = await fetch(`${made.url}/v1/work`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens.admin}`, 'content-type': 'application/json', accept },
      body: JSON.stringify(body),
    });
    return { status: reply.status, type: reply.headers.get('content-type'), text: await reply.text() };
  };
  const env = { OHP_URL: made.url, OHP_TOKEN: tokens.admin };
  const typed = (...args: string[]) => ohp(['request', 'work', ...args], { env, operations: [work] });
  return { post, typed, url: made.url };
}

const EVENTS = 'application/json, text/event-stream';

test('progress is there while the call goes on', async (t) => {
  const { url } = await world(t);
  held.release = Promise.withResolvers();
  const { body } = await fetch(`${url}/v1/work`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tokens.admin}`, 'content-type': 'application/json', accept: EVENTS },
    body: JSON.stringify({ told: ['has begun'], waits: true }),
  });
  assert.ok(body);
  const events = body.pipeThrough(new TextDecoderStream());
  let read = '';
  for await (const text of events) {
    read += text;
    // Only now may it end: what came was not kept back until then.
    if (read === 'event: progress\ndata: {"progress":1,"message":"has begun"}\n\n') held.release.resolve();
  }
  assert.match(read, /\n\nevent: result\ndata: \{"done":true\}\n\n$/);
});

test('who accepts events gets each step, then the result or the error', async (t) => {
  const { post } = await world(t);
  const { status, type, text } = await post({ told: ['one', 'two\n\nevent: result'] }, EVENTS);
  assert.deepEqual([status, type], [200, 'text/event-stream']);
  assert.equal(
    text,
    [
      'event: progress\ndata: {"progress":1,"message":"one"}\n\n',
      'event: progress\ndata: {"progress":2,"message":"two\\n\\nevent: result"}\n\n',
      'event: result\ndata: {"done":true}\n\n',
    ].join(''),
  );
  const failed = await post({ told: ['one'], fails: true }, EVENTS);
  assert.match(failed.text, /event: error\ndata: \{"error":\{"code":"UPSTREAM_FAILED","message":"no luck"/);
});

test('what is quick, refused or asked for as JSON is answered as everything else', async (t) => {
  const { post } = await world(t);
  for (const [body, accept, wanted] of [
    [{}, EVENTS, 200],
    [{ told: ['one'] }, 'application/json', 200],
    [{ told: ['one'] }, '*/*', 200],
    [{ fails: true }, EVENTS, 502],
    [{ nonsense: 1 }, EVENTS, 400],
  ] as const) {
    const { status, type } = await post(body, accept);
    assert.deepEqual([status, type], [wanted, 'application/json; charset=utf-8'], JSON.stringify(body));
  }
});

test('the command line tells each step once on standard error, and the answer on standard output', async (t) => {
  const { typed } = await world(t);
  const args = ['--told', 'asked the CA', '--told', 'asked the CA', '--told', 'ready\u001b[2J'];
  const done = await typed(...args, '--json');
  assert.deepEqual([done.code, JSON.parse(done.stdout)], [0, { done: true }]);
  assert.equal(done.stderr, '… asked the CA\n… ready\ufffd[2J\n');
  const failed = await typed(...args, '--fails');
  assert.equal(failed.code, 6);
  assert.match(failed.stderr, /^… asked the CA\n… ready.*\nUPSTREAM_FAILED: no luck/);
});
