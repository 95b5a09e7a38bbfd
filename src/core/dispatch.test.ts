import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { ManualClock } from './clock.ts';
import { idempotencyKeyField } from './collection.ts';
import { type CallContext, createDispatch, digestOf } from './dispatch.ts';
import { AppError, type ErrorCode } from './errors.ts';
import { type AnyOperation, defineOperation } from './operation.ts';
import { expandPermissions, type Permission } from './permissions.ts';
import { anonymous, type Principal } from './principal.ts';
import type { LogRecord } from './record.ts';

const base = {
  title: 'Create a thing',
  description: 'Creates a thing.',
  permission: 'proxies:write',
  confinement: 'filters',
  effect: 'create',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'POST', path: '/v1/things' },
} as const;
const createThing = defineOperation({
  ...base,
  name: 'create_thing',
  input: z.object({
    hostname: z.string(),
    size: z.int().default(1),
    secret: z.string().optional().meta({ secret: true }),
    idempotency_key: idempotencyKeyField,
  }),
  output: z.object({ made: z.string() }),
  async handler(input, context, { make }: { make: (input: unknown) => string }) {
    context.audit({ extra: 1 });
    return { made: make(input) };
  },
});

const principal = (granted: Permission[], more: Partial<Principal> = {}): Principal => ({
  id: 'tok_1',
  name: 'tester',
  kind: 'token',
  permissions: expandPermissions(granted),
  hostnames: undefined,
  expiresAt: undefined,
  ...more,
});

function setUp(make: (input: unknown) => string = () => 'thing') {
  const records: LogRecord[] = [];
  const kept = new Map<string, { inputDigest: string; result: unknown }>();
  const clock = new ManualClock();
  const dispatch = createDispatch({
    services: { make },
    clock,
    log: { write: (record) => void records.push(record), enabled: () => true },
    idempotency: { find: async ({ key }) => kept.get(key), seal: (text) => text },
  });
  const call = (input: unknown, context: Partial<CallContext> = {}, operation: AnyOperation = createThing) =>
    dispatch(operation, input, {
      principal: principal(['proxies:write']),
      signal: new AbortController().signal,
      traceId: 'trace',
      surface: 'rest',
      clientAddress: '127.0.0.1',
      ...context,
    });
  return { call, records, kept, clock };
}

const fails = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError);
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

test('who lacks the permission is refused before the input is looked at, and the handler never runs', async () => {
  const { call } = setUp(() => assert.fail('ran'));
  await assert.rejects(
    call('not even an object', { principal: principal(['proxies:read']) }),
    fails('FORBIDDEN', /create_thing needs the permission proxies:write/),
  );
  await assert.rejects(call({}, { principal: anonymous }), fails('UNAUTHENTICATED', /needs a credential/));
});

test('an expired principal is refused although it was let in earlier', async () => {
  const { call, clock } = setUp();
  const expiring = principal(['proxies:write'], { expiresAt: clock.now() + 1000 });
  await call({ hostname: 'a' }, { principal: expiring });
  clock.advance(1000);
  await assert.rejects(call({ hostname: 'a' }, { principal: expiring }), fails('UNAUTHENTICATED', /expired/));
});

test('a principal confined to hostnames may not run what is refused for confined ones', async () => {
  const { call } = setUp(() => assert.fail('ran'));
  const operation = { ...createThing, confinement: 'refused' } as const;
  const confined = principal(['proxies:write'], { hostnames: ['*.dev.example.com'] });
  await assert.rejects(
    call({ hostname: 'a' }, { principal: confined }, operation),
    fails('FORBIDDEN', /not for credentials that are confined/),
  );
});

test('unknown arguments are refused with the list of valid ones', async () => {
  const { call } = setUp(() => assert.fail('ran'));
  await assert.rejects(
    call({ hostname: 'a', target: 'x' }),
    fails(
      'INVALID_INPUT',
      /unknown argument "target" \(valid arguments are hostname, size, secret, idempotency_key\)/,
    ),
  );
  await assert.rejects(
    call({ hostname: 'a', size: 'big' }),
    fails('INVALID_INPUT', /size: .*expected (int|number)/i),
  );
  await assert.rejects(call(['hostname']), fails('INVALID_INPUT', /expected object/));
  await assert.rejects(
    call(JSON.parse('{"hostname":"a","__proto__":{"size":2}}')),
    fails('INVALID_INPUT', /unknown argument "__proto__"/),
  );
});

test('every call is audited, refused and failed ones too, with secrets redacted', async () => {
  const { call, records } = setUp((input) => {
    if ((input as { size: number }).size === 2) throw new Error('disk on fire');
    return 'thing';
  });
  await call({ hostname: 'a', secret: 'hunter2-canary' });
  await assert.rejects(call({ hostname: 'a', size: 2 }), fails('INTERNAL', /internal error/));
  await assert.rejects(call({}), fails('INVALID_INPUT', /hostname/));
  assert.deepEqual(
    records.map(({ outcome }) => outcome),
    ['OK', 'INTERNAL', 'INVALID_INPUT'],
  );
  assert.deepEqual(
    records.map(({ trace_id: id }) => id),
    ['trace', 'trace', 'trace'],
  );
  assert.match(String(records[0]?.detail?.arguments), /\[redacted\]/);
  assert.equal(records[0]?.detail?.extra, 1);
  assert.match(String(records[1]?.detail?.cause), /disk on fire/);
  assert.doesNotMatch(JSON.stringify(records), /hunter2-canary/);
});

test('an answer outside its schema never leaves', async () => {
  const { call } = setUp(() => 7 as unknown as string);
  await assert.rejects(call({ hostname: 'a' }), fails('INTERNAL', /internal error/));
});

test('an idempotency key gives the first result again, and refuses other arguments', async () => {
  let runs = 0;
  const { call, kept } = setUp(() => `run ${++runs}`);
  const input = { hostname: 'a', idempotency_key: 'key-12345' };
  kept.set('key-12345', { inputDigest: digestOf({ size: 1, ...input }), result: { made: 'earlier' } });
  assert.deepEqual(await call(input), { made: 'earlier' });
  await assert.rejects(call({ ...input, hostname: 'b' }), fails('CONFLICT', /other arguments/));
  assert.equal(runs, 0);
});

test('a call that needs confirmation does nothing until it is given', async () => {
  const { call } = setUp(() => assert.fail('ran'));
  const operation = { ...createThing, confirm: ({ hostname }: { hostname: string }) => `Make ${hostname}?` };
  const refuse = async ({ message }: { message: string }) => {
    throw new AppError('CONFIRMATION_REQUIRED', message);
  };
  await assert.rejects(
    call({ hostname: 'a' }, { confirm: refuse }, operation),
    fails('CONFIRMATION_REQUIRED', /Make a\?/),
  );
});

test('the digest of arguments does not depend on their order', () => {
  assert.equal(
    digestOf({ a: 1, b: { c: [1, { d: 2, e: 3 }] } }),
    digestOf({ b: { c: [1, { e: 3, d: 2 }] }, a: 1 }),
  );
  assert.notEqual(digestOf({ a: [1, 2] }), digestOf({ a: [2, 1] }));
});
