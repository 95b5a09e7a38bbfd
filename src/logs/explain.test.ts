import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { DAY, HOUR, MINUTE, SECOND } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import type { AnyOperation } from '../core/operation.ts';
import { bundles } from '../core/permissions.ts';
import { type Principal, system } from '../core/principal.ts';
import { type LogRecord, silentLog } from '../core/record.ts';
import { createLogArchive } from './archive.ts';
import type { LogFilter } from './conditions.ts';
import { explainRequest as explain } from './explain-service.ts';
import { aRecord, aSink, NOON } from './fixtures.test.ts';
import { packedPathOf } from './folder.ts';
import { explainRequest, whatChanged, whyDenied } from './operations.explain.ts';
import { createLogService } from './service.ts';

const HOST = 'app.example.com';
const traceOf = (digit: string): string => digit.repeat(32);

function asker(t: TestContext, records: readonly LogRecord[], damagedDay?: string) {
  const { sink, clock, directory } = aSink(t);
  if (damagedDay !== undefined) {
    mkdirSync(directory, { recursive: true });
    writeFileSync(packedPathOf(directory, damagedDay), 'no database');
  }
  const archive = createLogArchive({ directory, clock, log: silentLog });
  t.after(() => archive.close());
  const services = { logs: createLogService({ sink, archive, clock }) };
  const idempotency = { find: async () => undefined, seal: (text: string) => text };
  const dispatch = createDispatch({ services, log: silentLog, clock, idempotency });
  for (const record of records) sink.write(record);
  return (operation: AnyOperation, input: object, principal: Principal = system) =>
    dispatch(operation, input, {
      principal,
      signal: new AbortController().signal,
      traceId: traceOf('0'),
      surface: 'internal',
      clientAddress: undefined,
    });
}

test('a trace is looked for where it was made, and everywhere only when it is not there', async () => {
  const made = NOON - 20 * DAY;
  const trace = (made / SECOND).toString(16).padStart(8, '0') + 'a'.repeat(24);
  const asked: LogFilter[] = [];
  const find = async (filter: LogFilter) => {
    asked.push(filter);
    return [];
  };
  const parts = { find, leftOut: () => [], principal: system, now: NOON };
  const whole = explain({ trace_id: trace }, { ...parts, unfinished: () => undefined });
  await assert.rejects(whole, { code: 'NOT_FOUND' });
  const [first, second] = asked;
  assert.ok(first?.since !== undefined && first.since <= made && (first.until ?? 0) > made);
  assert.ok(first.until !== undefined && first.until < NOON);
  assert.deepEqual(second, { traceId: trace });
  const cut = explain({ trace_id: trace }, { ...parts, unfinished: () => made });
  await assert.rejects(cut, { code: 'UNAVAILABLE' });
  assert.equal(asked.length, 3, 'what was not read to its end is not looked for elsewhere');
});

const confined: Principal = {
  id: 'tok_confined',
  name: 'confined',
  kind: 'token',
  permissions: new Set(bundles.viewer),
  hostnames: ['other.example.org'],
  expiresAt: undefined,
};

const change = (fields: Partial<LogRecord>): LogRecord =>
  aRecord({ kind: 'audit', component: 'audit', outcome: 'OK', principal: 'tok_admin', ...fields });

const day: LogRecord[] = [
  change({
    operation: 'protect_proxy',
    hostname: HOST,
    time: NOON - 20 * MINUTE,
    detail: { effect: 'update' },
  }),
  change({ operation: 'get_proxy', hostname: HOST, time: NOON - 19 * MINUTE, detail: { effect: 'read' } }),
  change({ operation: 'create_user', time: NOON - 18 * MINUTE, detail: { effect: 'create' } }),
  change({ operation: 'update_proxy', hostname: 'other.example.org', time: NOON - 17 * MINUTE }),
  change({ operation: 'delete_proxy', hostname: HOST, time: NOON - 3 * HOUR }),
  change({
    operation: 'delete_route',
    hostname: HOST,
    time: NOON - MINUTE,
    outcome: 'FORBIDDEN',
    principal: 'usr_1',
  }),
  aRecord({
    kind: 'tls',
    component: 'certificates',
    level: 'warn',
    message: 'no certificate',
    hostname: HOST,
    time: NOON - 5 * MINUTE,
  }),
  aRecord({
    time: NOON,
    trace_id: traceOf('a'),
    hostname: HOST,
    method: 'GET',
    path: '/secret',
    status: 403,
    outcome: 'FORBIDDEN',
    principal: 'usr_1',
    client_address: '192.0.2.1',
    duration_ms: 3,
    detail: {
      request: 'proxied',
      scheme: 'https',
      protocol: 'h2',
      proxy: 'prx_1',
      reason: 'not in the allow-list',
    },
  }),
  aRecord({
    time: NOON + 1,
    trace_id: traceOf('a'),
    kind: 'system',
    component: 'oauth',
    message: 'a note on it',
  }),
  aRecord({
    time: NOON - 30_000,
    trace_id: traceOf('b'),
    hostname: HOST,
    status: 200,
    principal: 'usr_1',
    duration_ms: 5,
    detail: { proxy: 'prx_1', target: 'http://127.0.0.1:3000' },
  }),
  aRecord({
    time: NOON - 29_000,
    trace_id: traceOf('c'),
    hostname: HOST,
    status: 401,
    outcome: 'UNAUTHENTICATED',
    principal: 'anonymous',
    detail: { proxy: 'prx_1', reason: 'no credential' },
  }),
  aRecord({
    time: NOON - 28_000,
    trace_id: traceOf('d'),
    hostname: HOST,
    status: 502,
    outcome: 'UNAVAILABLE',
    principal: 'usr_1',
    detail: { proxy: 'prx_1', target: 'http://127.0.0.1:3000', tries: 2, reason: 'connection refused' },
  }),
];

interface Line {
  id: string;
  text: string;
}
interface Story {
  verdict: string;
  request?: { trace_id?: string; status?: number };
  steps: Line[];
  changes_before: Line[];
  trouble_before: Line[];
}
const texts = (lines: readonly Line[]): string[] => lines.map(({ text }) => text);

test('explain_request tells a request in its order, each line with its record, and what was changed before', async (t) => {
  const ask = asker(t, day);
  const story = (await ask(explainRequest, { trace_id: traceOf('A') })) as unknown as Story;
  assert.equal(
    story.verdict,
    'Refused by this system with 403 (FORBIDDEN): not in the allow-list; no target was asked',
  );
  assert.deepEqual(texts(story.steps), [
    `arrived from 192.0.2.1 (https, h2): GET ${HOST}/secret, trace ${traceOf('a')}`,
    'matched proxy prx_1',
    'known as usr_1',
    'answered 403 (FORBIDDEN) after 3 ms',
    'oauth (info): a note on it',
  ]);
  assert.ok(story.steps.every(({ id }) => /^20260310\.\d+$/.test(id)));
  assert.deepEqual(texts(story.changes_before), [
    'operation create_user by tok_admin: OK',
    `operation protect_proxy for ${HOST} by tok_admin: OK`,
  ]);
  assert.deepEqual(texts(story.trouble_before), ['certificates (warn): no certificate']);
});

test('explain_request finds the request nearest to a time, and says what came of each', async (t) => {
  const ask = asker(t, day);
  const near = async (seconds: number) =>
    (await ask(explainRequest, {
      hostname: HOST,
      time: new Date(NOON - seconds * 1000).toISOString(),
    })) as unknown as Story;
  assert.equal((await near(31)).verdict, 'Answered 200 in 0.005 s; nothing went wrong here');
  assert.match(
    (await near(27)).verdict,
    /^This system gave up on the target http:\/\/127\.0\.0\.1:3000 and answered 502 \(UNAVAILABLE\): connection refused$/,
  );
  assert.ok(texts((await near(27)).steps).includes('went to http://127.0.0.1:3000, after 2 tries'));
  await assert.rejects(near(3600), {
    code: 'NOT_FOUND',
    message: /no request for app\.example\.com within a minute of/,
  });
  await assert.rejects(ask(explainRequest, { hostname: HOST }), { code: 'INVALID_INPUT' });
  await assert.rejects(ask(explainRequest, { trace_id: 'f' }), { code: 'NOT_FOUND' });
});

test('each explanation says what day it had to do without', async (t) => {
  const ask = asker(t, day, '2026-03-09');
  const without = /Without 2026-03-09: the file is damaged/;
  for (const [operation, input] of [
    [explainRequest, { trace_id: traceOf('a') }],
    [whyDenied, {}],
    [whatChanged, { since: '2d' }],
  ] as const) {
    const { hint, truncated } = (await ask(operation, input)) as { hint?: string; truncated?: boolean };
    assert.match(hint ?? '', without, operation.name);
    assert.equal(truncated, true, operation.name);
  }
  const nobody = ask(explainRequest, { trace_id: 'f'.repeat(32) });
  await assert.rejects(nobody, { code: 'NOT_FOUND', message: without });
  const { hint } = (await ask(whatChanged, { since: '1h' })) as { hint?: string };
  assert.equal(hint, undefined, 'only where it was asked for');
});

test('what a request called and what went wrong stand where they happened, though its record is the last', async (t) => {
  const trace_id = traceOf('e');
  const of = (record: Partial<LogRecord>) => aRecord({ trace_id, hostname: HOST, ...record });
  const ask = asker(t, [
    of({ time: NOON - 900, kind: 'system', component: 'gateway', message: 'of an earlier one' }),
    of({
      time: NOON - 7,
      kind: 'system',
      component: 'gateway',
      level: 'warn',
      message: 'the first try failed',
    }),
    of({ time: NOON - 1, kind: 'audit', operation: 'tools/call', principal: 'usr_1', outcome: 'OK' }),
    of({
      time: NOON,
      status: 200,
      principal: 'usr_1',
      duration_ms: 9,
      detail: { proxy: 'prx_1', target: 'http://127.0.0.1:3000' },
    }),
  ]);
  const { steps } = (await ask(explainRequest, { trace_id })) as unknown as Story;
  assert.deepEqual(
    texts(steps).map((text) => text.split(' ').slice(0, 2).join(' ')),
    [
      'gateway (info):',
      'arrived from',
      'matched proxy',
      'known as',
      'operation tools/call',
      'went to',
      'gateway (warn):',
      'answered 200',
    ],
  );
});

interface Denied {
  refusals: { count: number; reason: string; operation?: string; ids: string[]; trace_id?: string }[];
  changes_before: Line[];
  hint?: string;
}

test('why_denied gives the reason, the records that prove it and the change before it', async (t) => {
  const ask = asker(t, [...day, ...day.filter(({ trace_id }) => trace_id === traceOf('a'))]);
  const { refusals, changes_before, hint } = (await ask(whyDenied, {
    principal: 'usr_1',
    time: new Date(NOON).toISOString(),
  })) as unknown as Denied;
  assert.deepEqual(
    refusals.map(({ count, reason, operation, ids }) => [count, reason, operation, ids.length]),
    [
      [2, 'not in the allow-list', undefined, 2],
      [1, 'request', 'delete_route', 1],
    ],
  );
  assert.equal(refusals[0]?.trace_id, traceOf('a'));
  assert.ok(texts(changes_before).includes(`operation protect_proxy for ${HOST} by tok_admin: OK`));
  assert.match(hint ?? '', /^FORBIDDEN: known, and not let in by the policy/);
});

test('why_denied of who was not refused says whether they were seen, and that strangers were', async (t) => {
  const ask = asker(t, day);
  const { refusals, hint } = (await ask(whyDenied, {
    principal: 'usr_2',
    hostname: HOST,
  })) as unknown as Denied;
  assert.deepEqual(refusals, []);
  assert.match(
    hint ?? '',
    /^"usr_2" was not seen there and then, and not refused; a request without a known credential was refused \(20260310\.\d+\)/,
  );
  const strangers = (await ask(whyDenied, { principal: 'anonymous' })) as unknown as Denied;
  assert.deepEqual(
    strangers.refusals.map(({ reason }) => reason),
    ['no credential'],
  );
});

test('what_changed leaves reads and refused calls out, and shows the trouble of the system', async (t) => {
  const ask = asker(t, day);
  const of = async (input: object, principal?: Principal) => {
    const { changes, trouble } = (await ask(whatChanged, input, principal)) as unknown as {
      changes: Line[];
      trouble: Line[];
    };
    return [texts(changes), texts(trouble)];
  };
  assert.deepEqual(await of({ since: '1h' }), [
    [
      'operation update_proxy for other.example.org by tok_admin: OK',
      'operation create_user by tok_admin: OK',
      `operation protect_proxy for ${HOST} by tok_admin: OK`,
    ],
    ['certificates (warn): no certificate'],
  ]);
  assert.deepEqual(await of({ since: '4h', until: '2h' }), [
    [`operation delete_proxy for ${HOST} by tok_admin: OK`],
    [],
  ]);
  assert.deepEqual(await of({ since: '1h', hostname: 'other.example.org' }), [
    [
      'operation update_proxy for other.example.org by tok_admin: OK',
      'operation create_user by tok_admin: OK',
    ],
    [],
  ]);
  assert.deepEqual(await of({ since: '1h' }, confined), [
    ['operation update_proxy for other.example.org by tok_admin: OK'],
    [],
  ]);
});

test('who is confined to other hostnames is told nothing of a request', async (t) => {
  const ask = asker(t, day);
  await assert.rejects(ask(explainRequest, { trace_id: traceOf('a') }, confined), { code: 'NOT_FOUND' });
  const { refusals } = (await ask(whyDenied, { principal: 'usr_1' }, confined)) as unknown as Denied;
  assert.deepEqual(refusals, []);
});

const refusedBy = (fields: Partial<LogRecord>): LogRecord =>
  aRecord({ hostname: HOST, status: 403, outcome: 'FORBIDDEN', ...fields });

test('of very many requests the one nearest to a time is found, and of many changes elsewhere none hides one here', async (t) => {
  const at = NOON - 10 * MINUTE;
  const crowd = Array.from({ length: 600 }, (_, index) =>
    aRecord({ time: at + index * 50, trace_id: `${index}`.padStart(32, '0'), hostname: HOST, status: 200 }),
  );
  const elsewhere = Array.from({ length: 60 }, (_, index) =>
    change({ operation: 'update_proxy', hostname: `h${index}.example.org`, time: at + index }),
  );
  const here = change({ operation: 'update_proxy', hostname: HOST, time: at - MINUTE });
  const ask = asker(t, [...crowd, ...elsewhere, here]);
  const story = (await ask(explainRequest, {
    hostname: HOST,
    time: new Date(at + 120).toISOString(),
  })) as unknown as Story;
  assert.equal(story.request?.trace_id, '2'.padStart(32, '0'));
  for (const hostname of [HOST, '*.example.com']) {
    const { changes } = (await ask(whatChanged, { since: '1h', hostname })) as unknown as { changes: Line[] };
    assert.deepEqual(texts(changes), [`operation update_proxy for ${HOST} by tok_admin: OK`]);
  }
});

test('of several requests with one trace the one that failed is told, or the one of the time that was asked for', async (t) => {
  const trace_id = traceOf('e');
  const ask = asker(t, [
    aRecord({ time: NOON - 9000, trace_id, hostname: HOST, path: '/page', status: 200 }),
    aRecord({ time: NOON - 5000, trace_id, hostname: HOST, path: '/api', status: 500 }),
  ]);
  const byTrace = (await ask(explainRequest, { trace_id })) as unknown as Story & { other_requests: number };
  assert.deepEqual([byTrace.request?.status, byTrace.other_requests], [500, 1]);
  const time = new Date(NOON - 9000).toISOString();
  const byTime = (await ask(explainRequest, { hostname: HOST, time })) as unknown as Story;
  assert.equal(byTime.request?.status, 200);
});

test('a refusal by the target, and one without a status, are told as what they are', async (t) => {
  const advice = async (record: LogRecord) => {
    const denied = (await asker(t, [record])(whyDenied, {})) as unknown as Denied;
    assert.equal(denied.refusals.length, 1);
    return denied.hint ?? '';
  };
  assert.match(
    await advice(refusedBy({ outcome: 'OK', principal: 'usr_1' })),
    /^The target refused it, not this system/,
  );
  assert.match(await advice(refusedBy({ principal: 'anonymous' })), /^FORBIDDEN: refused whoever asks/);
  assert.match(
    await advice(refusedBy({ status: undefined, client_address: '192.0.2.1' })),
    /^FORBIDDEN: refused whoever/,
  );
});

test('what was changed after the first refusal is not told as what was before it', async (t) => {
  const ask = asker(t, [
    change({ operation: 'protect_proxy', hostname: HOST, time: NOON - 20 * MINUTE }),
    refusedBy({ time: NOON - 10 * MINUTE }),
    change({ operation: 'unprotect_proxy', hostname: HOST, time: NOON - 5 * MINUTE }),
    refusedBy({ time: NOON - MINUTE }),
  ]);
  const { refusals, changes_before } = (await ask(whyDenied, { hostname: HOST })) as unknown as Denied;
  assert.equal(refusals[0]?.count, 2);
  assert.deepEqual(texts(changes_before), [`operation protect_proxy for ${HOST} by tok_admin: OK`]);
});
