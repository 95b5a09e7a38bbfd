/** Who may do what, asked of the real `dispatch`: every operation refuses whoever lacks its permission, and says so. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../src/core/clock.ts';
import { createDispatch } from '../src/core/dispatch.ts';
import type { AppError, ErrorCode } from '../src/core/errors.ts';
import type { AnyOperation } from '../src/core/operation.ts';
import {
  bundleNames,
  bundles,
  expandPermissions,
  type Permission,
  permissions,
} from '../src/core/permissions.ts';
import { metricsGate } from '../src/metrics/endpoint.ts';
import { anonymous, type Principal } from '../src/core/principal.ts';
import type { LogRecord } from '../src/core/record.ts';
import { operations as declared } from '../src/operations.ts';

const operations: readonly AnyOperation[] = declared;
/** An argument that no operation has: who is refused is refused before what they sent is looked at. */
const GARBAGE = { no_such_argument: true };

const holder = (granted: readonly Permission[], more: Partial<Principal> = {}): Principal => ({
  id: 'tok_test',
  name: 'test',
  kind: 'token',
  permissions: expandPermissions(granted),
  hostnames: undefined,
  expiresAt: undefined,
  ...more,
});

/** What came of the call, and the audit record it left. */
async function attempt(operation: AnyOperation, principal: Principal, access?: 'public') {
  const records: LogRecord[] = [];
  const dispatch = createDispatch({
    services: { commands: { mode: 'allow-list' }, proposals: { isOn: true } },
    access,
    log: { write: (record) => void records.push(record), enabled: () => true },
    clock: new ManualClock(),
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  const context = {
    principal,
    signal: new AbortController().signal,
    traceId: 'trace',
    surface: 'internal',
    clientAddress: undefined,
  } as const;
  const code = await dispatch(operation, GARBAGE, context).then(
    (): 'OK' => 'OK',
    (error: AppError): ErrorCode => error.code,
  );
  assert.deepEqual(
    records.map(({ kind, operation: name, outcome }) => [kind, name, outcome]),
    [['audit', operation.name, code]],
    'every attempt leaves one audit record',
  );
  return code;
}

for (const operation of operations) {
  const { name, permission, confinement } = operation;
  if (permission === 'public') {
    test(`${name} is open to any credential, and to anyone where the setting says so, who then has to say it right`, async () => {
      assert.equal(await attempt(operation, anonymous), 'UNAUTHENTICATED');
      assert.equal(await attempt(operation, anonymous, 'public'), 'INVALID_INPUT');
      assert.equal(await attempt(operation, holder([])), 'INVALID_INPUT');
    });
    continue;
  }

  test(`${name} refuses nobody, a stranger and an expired credential`, async () => {
    assert.equal(await attempt(operation, anonymous), 'UNAUTHENTICATED');
    const stranger = await attempt(operation, holder([]));
    assert.equal(stranger, permission === 'authenticated' ? 'INVALID_INPUT' : 'FORBIDDEN');
    assert.equal(await attempt(operation, holder(permissions, { expiresAt: 0 })), 'UNAUTHENTICATED');
  });

  if (permission === 'authenticated') continue;

  test(`${name} needs ${permission} and nothing else`, async () => {
    const others = permissions.filter((one) => !expandPermissions([one]).has(permission));
    assert.equal(await attempt(operation, holder(others)), 'FORBIDDEN');
    assert.equal(await attempt(operation, holder([permission])), 'INVALID_INPUT');
  });

  for (const bundle of bundleNames)
    test(`${name} and the bundle ${bundle} agree`, async () => {
      const allowed = expandPermissions(bundles[bundle]).has(permission);
      assert.equal(
        await attempt(operation, holder(bundles[bundle])),
        allowed ? 'INVALID_INPUT' : 'FORBIDDEN',
      );
    });

  test(`${name} and confinement to hostnames: ${confinement}`, async () => {
    const code = await attempt(operation, holder(permissions, { hostnames: ['*.example.com'] }));
    assert.equal(code, confinement === 'refused' ? 'FORBIDDEN' : 'INVALID_INPUT');
  });
}

test('incident 1: an empty list of hostnames confines to nothing; it does not mean all', async () => {
  for (const operation of operations.filter(({ confinement }) => confinement === 'refused'))
    assert.equal(
      await attempt(operation, holder(permissions, { hostnames: [] })),
      'FORBIDDEN',
      operation.name,
    );
});

test('the bundles contain one another, and only the last one can do everything', () => {
  const may = (bundle: keyof typeof bundles) =>
    operations.filter(({ permission }) => expandPermissions(bundles[bundle]).has(permission as Permission))
      .length;
  assert.ok(may('viewer') < may('operator') && may('operator') < may('admin'));
  assert.equal(may('admin'), operations.filter(({ permission }) => permission.includes(':')).length);
});

test('every permission that can be granted is needed for something', () => {
  const needed = new Set([...operations.map(({ permission }) => permission), metricsGate.permission]);
  const unused = permissions.filter((permission) => !needed.has(permission));
  assert.deepEqual(unused, []);
});

test('a command of the settings is granted by its own name only, whatever the name', () => {
  assert.deepEqual([...expandPermissions(['commands:run:write'])], ['commands:run:write']);
  assert.deepEqual([...expandPermissions(['routes:write'])], ['routes:write', 'routes:read']);
});
