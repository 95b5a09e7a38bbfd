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

function setUp(make: (input: unknown) => string = () => 'thing', access?: 'public' | 'authenticated') {
  const records: LogRecord[] = [];
  const kept = new Map<string, { inputDigest: string; result: unknown }>();
  const clock = new ManualClock();
  const dispatch = createDispatch({
    services: { make },
    access,
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

test('arguments that have to be read are read for those only who may run it, until their credential runs out', async () => {
  const { call, clock } = setUp();
  const unread = () => assert.fail('read');
  await assert.rejects(
    call(unread, { principal: anonymous }),
    fails('UNAUTHENTICATED', /needs a credential/),
  );
  await assert.rejects(
    call(unread, { principal: principal([]) }),
    fails('FORBIDDEN', /needs the permission/),
  );
  await assert.rejects(
    call(unread, {}, { ...createThing, offBy: () => 'things.mode: off' }),
    fails('FORBIDDEN', /turned off/),
  );
  assert.deepEqual(await call(async () => ({ hostname: 'a' })), { made: 'thing' });
  const slow = async () => {
    clock.advance(1000);
    return { hostname: 'a' };
  };
  const expiring = principal(['proxies:write'], { expiresAt: clock.now() + 1000 });
  await assert.rejects(call(slow, { principal: expiring }), fails('UNAUTHENTICATED', /expired/));
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

test('what a setting turned off is refused by naming the setting, but only to who may run it', async () => {
  const { call, records } = setUp(() => assert.fail('ran'));
  const operation = { ...createThing, offBy: () => 'things.mode: off' };
  await assert.rejects(
    call('not even an object', {}, operation),
    fails('FORBIDDEN', /^create_thing is turned off by the setting things\.mode: off$/),
  );
  await assert.rejects(
    call({}, { principal: principal([]) }, operation),
    fails('FORBIDDEN', /^create_thing needs the permission/),
  );
  assert.deepEqual(
    records.map(({ outcome }) => outcome),
    ['FORBIDDEN', 'FORBIDDEN'],
  );
  const on = setUp();
  assert.deepEqual(await on.call({ hostname: 'a' }, {}, { ...createThing, offBy: () => undefined }), {
    made: 'thing',
  });
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
    fails('INVALID_INPUT', /size: has to be a whole number \(found text\)/),
  );
  await assert.rejects(call(['hostname']), fails('INVALID_INPUT', /arguments: has to be an object/));
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

test('where a setting decides, a person is asked only when it says so', async () => {
  const refuse = async ({ message }: { message: string }) => {
    throw new AppError('CONFIRMATION_REQUIRED', message);
  };
  for (const isAsked of [true, false]) {
    const { call } = setUp();
    const operation = { ...createThing, confirm: () => 'Sure?', confirmIf: () => isAsked };
    const outcome = call({ hostname: 'a' }, { confirm: refuse }, operation);
    if (isAsked) await assert.rejects(outcome, fails('CONFIRMATION_REQUIRED', /Sure\?/));
    else await assert.doesNotReject(outcome);
  }
});

test('nobody is asked about a call of which there is nothing to say', async () => {
  const { call } = setUp();
  const operation = {
    ...createThing,
    confirm: ({ size }: { size: number }) => (size > 1 ? 'Make it big?' : undefined),
  };
  const asked: string[] = [];
  const confirm = async ({ message }: { message: string }) => void asked.push(message);
  await call({ hostname: 'a' }, { confirm }, operation);
  assert.deepEqual(asked, []);
  await call({ hostname: 'a', size: 2 }, { confirm }, operation);
  assert.deepEqual(asked, ['Make it big?']);
});

test('the digest of arguments does not depend on their order', () => {
  assert.equal(
    digestOf({ a: 1, b: { c: [1, { d: 2, e: 3 }] } }),
    digestOf({ b: { c: [1, { e: 3, d: 2 }] }, a: 1 }),
  );
  assert.notEqual(digestOf({ a: [1, 2] }), digestOf({ a: [2, 1] }));
});

const openToAll = defineOperation({
  ...base,
  name: 'get_anything',
  effect: 'read',
  permission: 'public',
  http: { method: 'GET', path: '/v1/anything' },
  input: z.object({}),
  output: z.object({ made: z.string() }),
  handler: async () => ({ made: 'it' }),
});

test('what is public is for anyone only where the setting says so; elsewhere any credential opens it', async () => {
  for (const access of ['public', 'authenticated', undefined] as const) {
    const { call } = setUp(undefined, access);
    const asNobody = call({}, { principal: anonymous }, openToAll);
    if (access === 'public') assert.deepEqual(await asNobody, { made: 'it' });
    else await assert.rejects(asNobody, fails('UNAUTHENTICATED', /needs a credential/));
    assert.deepEqual(await call({}, { principal: principal([]) }, openToAll), { made: 'it' });
    await assert.rejects(call({}, { principal: anonymous }), fails('UNAUTHENTICATED', /needs a credential/));
  }
});
