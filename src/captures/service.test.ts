import assert from 'node:assert/strict';
import test from 'node:test';
import { AppError } from '../core/errors.ts';
import { ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import { limits } from '../core/limits.ts';
import type { Permission } from '../core/permissions.ts';
import { type Principal, system } from '../core/principal.ts';
import { CaptureService, KEPT_MS } from './service.ts';

const HOST = 'app.example.com';
const by = (principal: Principal) => ({ principal, audit: () => undefined });
const operator = (hostnames?: string[]): Principal => ({
  ...system,
  permissions: new Set<Permission>(['proxies:write']),
  hostnames,
});
const wanted = { hostname: HOST, count: 2, seconds: 10, bodies: false };
const ended = {
  status: 200,
  upstreamStatus: 200,
  outcome: 'OK',
  reason: undefined,
  protocol: 'h1',
  traceId: '0'.repeat(32),
  bytesIn: 0,
  bytesOut: 4,
} as const;

function make() {
  const clock = new ManualClock();
  const captures = new CaptureService({ clock, isServed: (name) => name.endsWith('example.com') });
  const request = (more: Partial<Parameters<CaptureService['begin']>[0]> = {}) =>
    captures.begin({
      hostname: HOST,
      method: 'POST',
      path: '/x',
      query: 'a=1',
      rawHeaders: ['Host', HOST, 'Content-Type', 'text/plain', 'Authorization', 'Bearer abcdefgh'],
      kind: 'proxied',
      clientAddress: '192.0.2.1',
      startedAt: clock.now(),
      ...more,
    });
  const get = (
    id: string,
    more: { bodies?: boolean; limit?: number; cursor?: string } = {},
    who = operator(),
  ) => captures.get({ id, bodies: false, ...more }, { principal: who });
  return { clock, captures, request, get };
}

const fails = (code: string) => (error: unknown) => error instanceof AppError && error.code === code;

test('the next requests of the hostname are kept, those of others and those beyond the count are not', async () => {
  const { clock, captures, request, get } = make();
  assert.equal(captures.isOn, false);
  const { id } = await captures.start(wanted, by(operator()));
  assert.equal(captures.isOn, true);
  assert.equal(request({ hostname: 'other.example.com' }), undefined);
  const first = request();
  first?.takenBy('forwardProxied');
  first?.tried('http://127.0.0.1:1/x');
  first?.failed('ECONNREFUSED: no');
  clock.advance(5);
  first?.tried('http://127.0.0.1:2/x');
  first?.answered(200, ['content-type', 'text/plain', 'set-cookie', 'sid=abc']);
  clock.advance(7);
  first?.ended(ended);
  assert.ok(request());
  assert.equal(captures.isOn, false);
  assert.equal(request(), undefined);
  const { requests, ...facts } = await get(id);
  assert.deepEqual([facts.state, facts.captured], ['complete', 2]);
  const [told, open] = requests;
  assert.deepEqual(told?.request_headers, [
    `host: ${HOST}`,
    'content-type: text/plain',
    'authorization: [redacted]',
  ]);
  assert.deepEqual(told?.response_headers, ['content-type: text/plain', 'set-cookie: sid=[redacted]']);
  assert.deepEqual(told?.tries, [
    { target: 'http://127.0.0.1:1/x', after_ms: 0, failed: 'ECONNREFUSED: no' },
    { target: 'http://127.0.0.1:2/x', after_ms: 5 },
  ]);
  assert.deepEqual([told?.query, told?.answered_after_ms, told?.ended_after_ms], [['a'], 5, 12]);
  assert.equal(open?.state, 'open');
});

test('a capture ends with its time, follows what it has begun with, and is forgotten later', async () => {
  const { clock, captures, request, get } = make();
  const { id } = await captures.start(wanted, by(operator()));
  const open = request();
  clock.advance(10 * SECOND);
  assert.equal(request(), undefined);
  open?.ended(ended);
  const { state, requests } = await get(id);
  assert.deepEqual([state, requests[0]?.state], ['expired', 'ended']);
  clock.advance(KEPT_MS);
  await assert.rejects(get(id), fails('NOT_FOUND'));
});

test('there is one for each hostname, few in all, and the oldest that is over makes room', async () => {
  const { captures, get } = make();
  const { id } = await captures.start(wanted, by(operator()));
  await captures.start(wanted, by(operator()));
  assert.equal((await get(id)).state, 'replaced');
  for (const name of ['a', 'b', 'c'])
    await captures.start({ ...wanted, hostname: `${name}.example.com` }, by(operator()));
  const fifth = captures.start({ ...wanted, hostname: 'd.example.com' }, by(operator()));
  await assert.rejects(fifth, fails('CONFLICT'));
  for (let i = 0; i < 10; i++) await captures.start(wanted, by(operator()));
  await assert.rejects(get(id), fails('NOT_FOUND'));
});

test('who runs the system sees what is captured, newest first, and stops it; what was kept stays', async () => {
  const { clock, captures, request, get } = make();
  const first = await captures.start(wanted, by(operator()));
  const second = await captures.start(
    { ...wanted, hostname: 'b.example.com' },
    by(operator([HOST, '*.example.com'])),
  );
  const list = async (who = operator()) => (await captures.list({ principal: who })).captures;
  assert.deepEqual(
    (await list()).map(({ id, hostname, state }) => [id, hostname, state]),
    [
      [second.id, 'b.example.com', 'running'],
      [first.id, HOST, 'running'],
    ],
  );
  assert.deepEqual(
    (await list(operator([HOST]))).map(({ id }) => id),
    [first.id],
  );
  const open = request();
  await assert.rejects(captures.stop(first.id, by(operator(['b.example.com']))), fails('NOT_FOUND'));
  const stopped = await captures.stop(first.id, by(operator()));
  assert.deepEqual([stopped.state, stopped.captured], ['stopped', 1]);
  assert.equal(request(), undefined);
  assert.equal(captures.isOn, true, 'of another hostname');
  open?.ended(ended);
  clock.advance(10 * SECOND);
  assert.deepEqual(
    (await list()).map(({ state }) => state),
    ['expired', 'stopped'],
    'its time changes nothing',
  );
  assert.equal(
    (await captures.stop(second.id, by(operator()))).state,
    'expired',
    'nor does a stop after the end',
  );
  assert.equal((await get(first.id)).requests[0]?.state, 'ended');
  clock.advance(KEPT_MS - 10 * SECOND);
  await assert.rejects(get(first.id), fails('NOT_FOUND'));
  assert.deepEqual(
    (await list()).map(({ id }) => id),
    [second.id],
  );
});

test('who is confined to hostnames captures and reads only theirs', async () => {
  const { captures, get } = make();
  const elsewhere = operator(['*.other.example.com']);
  await assert.rejects(captures.start(wanted, by(elsewhere)), fails('NOT_FOUND'));
  await assert.rejects(
    captures.start({ ...wanted, hostname: 'a.example.net' }, by(operator())),
    fails('NOT_FOUND'),
  );
  const { id } = await captures.start(wanted, by(operator([HOST])));
  assert.equal((await get(id, {}, operator([HOST]))).id, id);
  await assert.rejects(get(id, {}, elsewhere), fails('NOT_FOUND'));
});

test('bodies are kept where that was asked for, of text, cut, and shown only to who may', async () => {
  const { captures, request, get } = make();
  const withBodies = { ...wanted, bodies: true };
  await assert.rejects(captures.start(withBodies, by(operator())), fails('FORBIDDEN'));
  const { id } = await captures.start(withBodies, by(system));
  const told = request();
  told?.answered(200, ['content-type', 'image/png']);
  told?.requestPart(Buffer.from('hello password=abc '));
  told?.requestPart(Buffer.alloc(5000, 'x '));
  told?.responsePart(Buffer.from('bytes'));
  told?.ended({ ...ended, bytesIn: 5019 });
  assert.equal(request({ kind: 'mcp' })?.hearsBodies, false);
  await assert.rejects(get(id, { bodies: true }), fails('FORBIDDEN'));
  assert.equal((await get(id)).requests[0]?.request_body, undefined);
  const { requests } = await get(id, { bodies: true }, system);
  const { request_body: sent, response_body: got } = requests[0] ?? {};
  assert.match(sent?.text ?? '', /^hello password=\[redacted\] x x/);
  assert.equal(sent?.truncated, true);
  assert.ok((sent?.text?.length ?? 0) <= 2100);
  assert.deepEqual(got, {});
});

test('a default page takes at most 2,000 tokens, and the pages together tell all', async () => {
  const { captures, request, get } = make();
  const { id } = await captures.start({ ...wanted, count: 20 }, by(operator()));
  const rawHeaders = Array.from({ length: 60 }, (_, i) => [`x-${i}`, 'some words '.repeat(20)]).flat();
  for (let i = 0; i < 20; i++) {
    const one = request({ rawHeaders, query: 'abcdefgh=1&'.repeat(40), path: '/é"'.repeat(200) });
    for (let n = 0; n < 20; n++) one?.tried(`http://127.0.0.1:1${'/é"'.repeat(200)}`);
    one?.answered(200, rawHeaders);
    one?.ended({ ...ended, reason: 'r"'.repeat(500) });
  }
  const numbers: number[] = [];
  let cursor: string | undefined;
  do {
    const page = await get(id, cursor === undefined ? {} : { cursor });
    assert.ok(
      JSON.stringify(page).length <= limits.resultCharactersDefault,
      `${JSON.stringify(page).length}`,
    );
    numbers.push(...page.requests.map(({ number }) => number));
    cursor = page.next_cursor;
  } while (cursor !== undefined);
  assert.deepEqual(
    numbers,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  await assert.rejects(get(id, { cursor: 'none' }), fails('INVALID_INPUT'));
});

test('what is over leaves no timer behind when the process ends', async () => {
  const { clock, captures } = make();
  const { id } = await captures.start(wanted, by(operator()));
  captures[Symbol.dispose]();
  clock.advance(MINUTE);
  assert.equal(captures.isOn, false);
  await assert.rejects(captures.get({ id, bodies: false }, { principal: system }), fails('NOT_FOUND'));
});
