import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import { createEndpointRegistry } from '../core/endpoints.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import type { AnyOperation } from '../core/operation.ts';
import { bundles, expandPermissions } from '../core/permissions.ts';
import { anonymous, type Principal } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { echo } from './echo.ts';
import { listEndpoints } from './endpoints.ts';
import { adminOperations } from './operations.ts';
import { runCommand } from './run-command.ts';

const viewer: Principal = {
  id: 'tok_1',
  name: 'viewer',
  kind: 'token',
  permissions: expandPermissions(bundles.viewer),
  hostnames: undefined,
  expiresAt: undefined,
};
const confined: Principal = {
  ...viewer,
  permissions: expandPermissions(bundles.admin),
  hostnames: ['*.dev.example.com'],
};

const endpoints = createEndpointRegistry();
endpoints.register({
  methods: ['GET', 'POST'],
  path: '/mcp',
  surface: 'mcp',
  hosts: 'served',
  gate: 'mcp',
  description: 'The MCP endpoint',
});
endpoints.register({
  methods: ['GET'],
  path: '/healthz',
  surface: 'web',
  hosts: 'control',
  gate: 'public',
  description: 'Alive',
});

const dispatch = createDispatch({
  services: { endpoints },
  access: 'public',
  log: silentLog,
  clock: new ManualClock(),
  idempotency: { find: async () => undefined, seal: (text) => text },
});
const call = (operation: AnyOperation, input: unknown, principal: Principal) =>
  dispatch(operation, input, {
    principal,
    signal: new AbortController().signal,
    traceId: '0'.repeat(32),
    surface: 'internal',
    clientAddress: undefined,
  });
const refusedAs = (code: ErrorCode) => (error: unknown) => error instanceof AppError && error.code === code;

test('echo answers anyone with the message and nothing else', async () => {
  assert.deepEqual(await call(echo, { message: 'hëllo\n' }, anonymous), { message: 'hëllo\n' });
  await assert.rejects(call(echo, {}, anonymous), refusedAs('INVALID_INPUT'));
  await assert.rejects(call(echo, { message: 'x'.repeat(4097) }, anonymous), refusedAs('INVALID_INPUT'));
});

test('list_endpoints shows what is registered, of one surface or of all', async () => {
  const all = (await call(listEndpoints, {}, viewer)).endpoints as { path: string }[];
  assert.deepEqual(
    all.map(({ path }) => path),
    ['/mcp', '/healthz'],
  );
  assert.deepEqual(await call(listEndpoints, { surface: 'mcp' }, viewer), {
    endpoints: [
      {
        methods: ['GET', 'POST'],
        path: '/mcp',
        surface: 'mcp',
        hosts: 'served',
        gate: 'mcp',
        description: 'The MCP endpoint',
      },
    ],
  });
});

test('list_endpoints comes in pages', async () => {
  const first = await call(listEndpoints, { limit: 1 }, viewer);
  const second = await call(listEndpoints, { limit: 1, cursor: first.next_cursor }, viewer);
  assert.deepEqual(
    [first, second].map(({ endpoints }) => (endpoints as { path: string }[]).map(({ path }) => path)),
    [['/mcp'], ['/healthz']],
  );
  assert.equal(second.next_cursor, undefined);
});

test('commands and endpoints are not for strangers, for lesser bundles or for the confined', async () => {
  await assert.rejects(call(listEndpoints, {}, anonymous), refusedAs('UNAUTHENTICATED'));
  await assert.rejects(call(listEndpoints, {}, confined), refusedAs('FORBIDDEN'));
  await assert.rejects(call(runCommand, { command: 'uptime' }, anonymous), refusedAs('UNAUTHENTICATED'));
  await assert.rejects(call(runCommand, { command: 'uptime' }, viewer), refusedAs('FORBIDDEN'));
  await assert.rejects(call(runCommand, { command: 'uptime' }, confined), refusedAs('FORBIDDEN'));
});

test('every input field is described', () => {
  for (const { name, input } of adminOperations as readonly AnyOperation[])
    for (const [field, schema] of Object.entries(input.shape as Record<string, { description?: string }>))
      assert.ok(schema.description, `${name}.${field}`);
});
