import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'node:test';
import { ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import { Sender } from './sender.ts';

type Answer = { status: number; headers?: Record<string, string>; body?: Uint8Array } | Error;

/** Answers one after another; the last one again and again. */
function setUp(...answers: [Answer, ...Answer[]]) {
  const clock = new ManualClock();
  const asked: { url: string; headers: Headers }[] = [];
  const troubles: string[] = [];
  const fetch = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    asked.push({ url: url instanceof Request ? url.url : String(url), headers: new Headers(init?.headers) });
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === undefined || answer instanceof Error) throw answer ?? new Error('no answer');
    return new Response(answer.body ? Buffer.from(answer.body) : null, answer);
  };
  const sender = new Sender({
    settings: { endpoint: 'https://otlp.example.com/otlp/', headers: { 'api-key': 'k' }, timeoutMs: SECOND },
    clock,
    fetch,
    random: () => 1,
    troubled: (signal, problem) => troubles.push(`${signal}: ${problem}`),
  });
  const sending = sender.send('traces', new Uint8Array([1]));
  /** Lets what was answered be heard, then so much time pass. */
  const pass = async (ms: number) => {
    for (let i = 0; i < 5; i++) await turn();
    clock.advance(ms);
    for (let i = 0; i < 5; i++) await turn();
  };
  return { sender, sending, asked, troubles, pass };
}

test('what is sent goes to the path of its signal, with the headers that are set', async () => {
  const { sending, asked } = setUp({ status: 200, body: new Uint8Array([7]) });
  const sent = await sending;
  assert.ok(sent.ok);
  assert.deepEqual([...sent.reply], [7]);
  assert.equal(asked[0]?.url, 'https://otlp.example.com/otlp/v1/traces');
  assert.equal(asked[0]?.headers.get('api-key'), 'k');
  assert.equal(asked[0]?.headers.get('content-type'), 'application/x-protobuf');
});

test('what may be sent again is, with longer and longer pauses, and not for ever', async () => {
  for (const failing of [
    { status: 429 },
    { status: 502 },
    { status: 503 },
    { status: 504 },
    new TypeError('fetch failed'),
  ]) {
    const { sending, asked, pass } = setUp(failing);
    for (let i = 0; i < 60; i++) await pass(SECOND);
    assert.equal((await sending).ok, false);
    assert.ok(asked.length >= 4 && asked.length <= 8, `${asked.length} times`);
  }
});

test('what is of no use to send again is given up at once', async () => {
  for (const status of [400, 401, 404, 413, 500, 301]) {
    const { sending, asked, troubles } = setUp({ status });
    assert.deepEqual(await sending, { ok: false, problem: `the collector answered ${status}` });
    assert.equal(asked.length, 1);
    assert.deepEqual(troubles, [`traces: the collector answered ${status}`]);
  }
});

test('the time that the collector asks for is waited, and no longer than five minutes', async () => {
  const { sending, asked, pass } = setUp({ status: 429, headers: { 'retry-after': '60' } }, { status: 200 });
  await pass(59 * SECOND);
  assert.equal(asked.length, 1);
  await pass(SECOND);
  assert.equal(asked.length, 2);
  assert.equal((await sending).ok, true);
  const long = setUp({ status: 503, headers: { 'retry-after': '999999' } }, { status: 200 });
  await long.pass(5 * MINUTE);
  assert.equal(long.asked.length, 2);
  const dated = setUp(
    { status: 503, headers: { 'retry-after': new Date(new ManualClock().now() + 2 * SECOND).toUTCString() } },
    { status: 200 },
  );
  await dated.pass(SECOND);
  assert.equal(dated.asked.length, 1);
  await dated.pass(SECOND);
  assert.equal(dated.asked.length, 2);
});

test('who is in a hurry does not wait to send again', async () => {
  const { sender, sending, asked, pass } = setUp({ status: 503 });
  await pass(0);
  sender.hurry();
  assert.equal((await sending).ok, false);
  assert.equal(asked.length, 1);
  assert.equal((await sender.send('logs', new Uint8Array([1]))).ok, false);
  assert.equal(asked.length, 2);
});

test('an answer that is too long is not read, and counts as one without complaints', async () => {
  const { sending } = setUp({ status: 200, body: new Uint8Array(100_000) });
  const sent = await sending;
  assert.ok(sent.ok && sent.reply.length === 0);
});

test('what went wrong is told without what a stranger may have written', async () => {
  const cause = Object.assign(new Error('getaddrinfo \u001b[31m'), { code: 'ECONNREFUSED' });
  const { sending, pass } = setUp(new TypeError('fetch failed', { cause }));
  for (let i = 0; i < 60; i++) await pass(SECOND);
  assert.deepEqual(await sending, { ok: false, problem: 'ECONNREFUSED' });
});
