/**
 * A small world for tests of the surfaces: operations on `things`, the real dispatch, the real REST interface, a real
 * HTTP server on loopback, and the command line against it. No noun of the product is in it.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { z } from 'zod';
import { ManualClock } from '../src/core/clock.ts';
import {
  cursorField,
  idempotencyKeyField,
  limitField,
  nextCursorField,
  pageOf,
  requireVersion,
  versionField,
} from '../src/core/collection.ts';
import { createDispatch, type Dispatch } from '../src/core/dispatch.ts';
import { AppError } from '../src/core/errors.ts';
import type { Exchange } from '../src/core/exchange.ts';
import { type AnyOperation, defineOperation } from '../src/core/operation.ts';
import { bundles, expandPermissions, type Permission } from '../src/core/permissions.ts';
import { anonymous, type Principal } from '../src/core/principal.ts';
import type { LogRecord } from '../src/core/record.ts';
import type { CliIo } from '../src/interfaces/cli/io.ts';
import type { ResetAdminToken } from '../src/interfaces/cli/reset.ts';
import type { VerifyAuditFiles } from '../src/interfaces/cli/verify.ts';
import { runCli } from '../src/interfaces/cli/cli.ts';
import { createRestInterface } from '../src/interfaces/rest.ts';

const thing = z.object({
  name: z.string(),
  size: z.int(),
  on: z.boolean(),
  labels: z.array(z.string()),
  settings: z.object({ depth: z.int() }).nullable(),
  version: z.int(),
});
type Thing = z.output<typeof thing>;

export class Things {
  readonly all = new Map<string, Thing>();
  readonly results = new Map<string, { inputDigest: string; result: unknown }>();
  /** Called when a waiting operation has begun; the test decides what happens then. */
  onWait: () => void = () => undefined;
}
type Services = { things: Things };

const name = z.string().min(1).max(100).describe('Name of the thing');
const settable = {
  size: z.int().min(0).max(1000).describe('How big'),
  on: z.boolean().default(true).describe('Whether it is on'),
  labels: z.array(z.string().min(1)).max(5).default([]).describe('Labels'),
  settings: z.strictObject({ depth: z.int() }).nullable().default(null).describe('Further settings'),
};
const common = { confinement: 'harmless', mcp: 'listed', toolset: 'system' } as const;

export const thingOperations = [
  defineOperation({
    ...common,
    name: 'list_things',
    title: 'List things',
    description: 'Every thing.',
    permission: 'proxies:read',
    effect: 'read',
    http: { method: 'GET', path: '/v1/things' },
    input: z.object({
      limit: limitField,
      cursor: cursorField,
      on: z.boolean().optional().describe('Only those that are on, or off'),
      labels: z.array(z.string()).default([]).describe('Only those with all of these labels'),
    }),
    output: z.object({ things: z.array(thing), next_cursor: nextCursorField }),
    async handler({ limit, on, labels }, _context, { things }: Services) {
      const found = [...things.all.values()].filter(
        (one) => (on === undefined || one.on === on) && labels.every((label) => one.labels.includes(label)),
      );
      const { items, ...more } = pageOf(found, limit, () => 'next');
      return { things: items, ...more };
    },
  }),
  defineOperation({
    ...common,
    name: 'get_thing',
    title: 'Get a thing',
    description: 'One thing.',
    permission: 'proxies:read',
    effect: 'read',
    http: { method: 'GET', path: '/v1/things/{name}' },
    input: z.object({ name }),
    output: thing,
    handler: async (input, _context, { things }: Services) => existing(things, input.name),
  }),
  defineOperation({
    ...common,
    name: 'create_thing',
    title: 'Create a thing',
    description: 'Makes a thing.',
    permission: 'proxies:write',
    effect: 'create',
    http: { method: 'POST', path: '/v1/things' },
    input: z.object({ name, ...settable, idempotency_key: idempotencyKeyField }),
    output: thing,
    async handler(input, { idempotency }, { things }: Services) {
      if (things.all.has(input.name)) throw new AppError('CONFLICT', `${input.name} exists already`);
      const { idempotency_key: _, ...settings } = input;
      const made = { ...settings, version: 1 };
      things.all.set(input.name, made);
      if (idempotency)
        things.results.set(idempotency.key, { inputDigest: idempotency.inputDigest, result: made });
      return made;
    },
  }),
  defineOperation({
    ...common,
    name: 'update_thing',
    title: 'Change a thing',
    description: 'Changes a thing.',
    permission: 'proxies:write',
    effect: 'update',
    http: { method: 'PATCH', path: '/v1/things/{name}' },
    input: z.object({
      name,
      size: settable.size.optional(),
      on: z.boolean().optional().describe('Whether it is on'),
      version: versionField,
    }),
    output: thing,
    async handler({ name: wanted, version, ...changes }, _context, { things }: Services) {
      const before = existing(things, wanted);
      requireVersion(wanted, version, before.version);
      const given = Object.fromEntries(
        Object.entries(changes).filter(([, value]) => value !== undefined),
      ) as Partial<Thing>;
      const after = { ...before, ...given, version: before.version + 1 };
      things.all.set(wanted, after);
      return after;
    },
  }),
  defineOperation({
    ...common,
    name: 'delete_thing',
    title: 'Delete a thing',
    description: 'Removes a thing.',
    permission: 'proxies:write',
    effect: 'delete',
    http: { method: 'DELETE', path: '/v1/things/{name}' },
    input: z.object({ name, version: versionField }),
    output: z.object({ deleted: z.string() }),
    confirm: (input) => `This deletes ${input.name}.`,
    async handler({ name: wanted, version }, _context, { things }: Services) {
      requireVersion(wanted, version, existing(things, wanted).version);
      things.all.delete(wanted);
      return { deleted: wanted };
    },
  }),
  defineOperation({
    ...common,
    name: 'wait_long',
    title: 'Wait',
    description: 'Waits until the caller goes away.',
    permission: 'system:read',
    effect: 'read',
    http: { method: 'GET', path: '/v1/wait' },
    input: z.object({}),
    output: z.object({}),
    async handler(_input, { signal }, { things }: Services) {
      const gone = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(new AppError('CANCELLED', 'gone')), { once: true });
      });
      things.onWait();
      return gone;
    },
  }),
  defineOperation({
    ...common,
    name: 'keep_secret',
    title: 'Keep a secret',
    description: 'Says how long it is.',
    permission: 'system:write',
    effect: 'update',
    http: { method: 'POST', path: '/v1/secret' },
    input: z.object({ secret: z.string().meta({ secret: true }).describe('The secret') }),
    output: z.object({ length: z.int() }),
    handler: async ({ secret }) => ({ length: secret.length }),
  }),
  defineOperation({
    ...common,
    name: 'fail_always',
    title: 'Fail',
    description: 'Has a fault.',
    permission: 'public',
    effect: 'read',
    http: { method: 'GET', path: '/v1/fail' },
    input: z.object({}),
    output: z.object({}),
    handler: async () => {
      throw new Error('inner words that stay inside');
    },
  }),
] as const satisfies readonly AnyOperation[];

function existing({ all }: Things, wanted: string): Thing {
  const found = all.get(wanted);
  if (!found) throw new AppError('NOT_FOUND', `there is no thing ${wanted}`);
  return found;
}

export const tokens = { admin: 'ohp_admin', viewer: 'ohp_viewer', nobody: undefined } as const;
export type Who = keyof typeof tokens;

const person = (id: string, granted: readonly Permission[]): Principal => ({
  id,
  name: id,
  kind: 'token',
  permissions: expandPermissions(granted),
  hostnames: undefined,
  expiresAt: undefined,
});
export const people = {
  admin: person('tok_admin', bundles.admin),
  viewer: person('tok_viewer', bundles.viewer),
  nobody: anonymous,
} satisfies Record<Who, Principal>;
const principals = new Map<string | undefined, Principal>([
  [`Bearer ${tokens.admin}`, people.admin],
  [`Bearer ${tokens.viewer}`, people.viewer],
]);

export interface World extends AsyncDisposable {
  url: string;
  things: Things;
  log: LogRecord[];
  dispatch: Dispatch;
}

export async function startWorld(operations: readonly AnyOperation[] = thingOperations): Promise<World> {
  const things = new Things();
  const log: LogRecord[] = [];
  const dispatch = createDispatch({
    services: { things },
    access: 'public',
    log: { write: (record) => void log.push(record), enabled: () => true },
    clock: new ManualClock(),
    idempotency: { find: async ({ key }) => things.results.get(key), seal: (text) => text },
  });
  const rest = createRestInterface({ operations, dispatch, version: '1.2.3', access: 'public' });
  const server = createServer((request, response) => {
    const principal = principals.get(request.headers.authorization) ?? anonymous;
    void rest.handle(exchangeOf(request, response), principal);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    things,
    log,
    dispatch,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function exchangeOf(request: IncomingMessage, reply: ServerResponse): Exchange {
  const gone = new AbortController();
  reply.once('close', () => {
    if (!reply.writableEnded) gone.abort();
  });
  const [path = '/', query = ''] = (request.url ?? '/').split('?');
  return {
    traceId: '0af7651916cd43dd8448eb211c80319c',
    span: undefined,
    joinTrace: () => {},
    clientAddress: '127.0.0.1',
    scheme: 'http',
    hostname: '127.0.0.1',
    authority: request.headers.host ?? '127.0.0.1',
    method: request.method ?? 'GET',
    path,
    query,
    headers: request.headers,
    body: request,
    reply,
    signal: gone.signal,
    note: () => undefined,
    tell: () => undefined,
    gate: { caller: 'test', charge: () => 0, challenge: () => 'Bearer' },
  };
}

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CliSetting {
  env?: Record<string, string | undefined>;
  stdin?: string;
  /** A terminal on both ends; `stdin` is then what the person types. */
  terminal?: { columns: number };
  home?: string;
  cwd?: string;
  signal?: AbortSignal;
  operations?: readonly AnyOperation[];
  resetAdminToken?: ResetAdminToken;
  verifyAuditFiles?: VerifyAuditFiles;
}

/** Runs `ohp` in this process, with streams of its own. */
export async function ohp(args: readonly string[], setting: CliSetting = {}): Promise<CliResult> {
  const stdout = sink();
  const stderr = sink();
  const raw: boolean[] = [];
  const stdin = setting.terminal ? new PassThrough() : Readable.from([setting.stdin ?? '']);
  if (setting.terminal) {
    Object.assign(stdin, { isTTY: true, setRawMode: (on: boolean) => raw.push(on) });
    Object.assign(stdout.stream, { isTTY: true, columns: setting.terminal.columns });
    (stdin as PassThrough).write(setting.stdin ?? '');
  }
  const io: CliIo = {
    env: setting.env ?? {},
    stdin,
    stdout: stdout.stream,
    stderr: stderr.stream,
    cwd: setting.cwd ?? '/nonexistent',
    home: setting.home ?? '/nonexistent',
    signal: setting.signal ?? new AbortController().signal,
  };
  const code = await runCli(args, io, {
    operations: setting.operations ?? thingOperations,
    version: '1.2.3',
    runBroker: () => Promise.reject(new Error('no broker')),
    resetAdminToken: setting.resetAdminToken ?? (() => Promise.reject(new Error('nothing to reset'))),
    verifyAuditFiles: setting.verifyAuditFiles ?? (() => Promise.reject(new Error('nothing to verify'))),
  });
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

function sink() {
  const chunks: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk.toString());
      done();
    },
  });
  return { stream, text: () => chunks.join('') };
}
