/**
 * The only way to run an operation: authorise → parse → confirm → handle → check the output → audit. Every surface
 * ends here, so none has a gate of its own and none can forget it. What a setting turned off goes no further than the
 * first of these steps.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from './clock.ts';
import { AppError, toAppError } from './errors.ts';
import { parseArguments } from './input.ts';
import { limits } from './limits.ts';
import type { AnyOperation, IdempotencyTicket, OperationContext, Surface } from './operation.ts';
import { holdsPart } from './permissions.ts';
import { type Access, isConfined, type Principal } from './principal.ts';
import type { Log } from './record.ts';

/** Reads the arguments of a call. Not called for who may not run the operation. */
type ReadArguments = () => Promise<Record<string, unknown>>;
/** What a surface supplies; `dispatch` adds the rest. */
export type CallContext = Omit<OperationContext, 'audit' | 'idempotency'>;
/** @param raw the arguments, or a function where reading them is work that a stranger should not be given. */
export type Dispatch = (
  operation: AnyOperation,
  raw: unknown,
  context: CallContext,
) => Promise<Record<string, unknown>>;

/** Port: results of creating calls that carried an idempotency key. */
export interface IdempotencyStore {
  find(ticket: IdempotencyTicket): Promise<{ inputDigest: string; result: unknown } | undefined>;
  seal(result: string, ticket: Pick<IdempotencyTicket, 'principalId' | 'operation' | 'key'>): string;
}

export interface DispatchOptions {
  services: unknown;
  /** Setting `mcp.access`. Unless it is `public`, nothing runs for who sent no credential. */
  access?: Access | undefined;
  log: Log;
  clock: Clock;
  idempotency: IdempotencyStore;
}

export function createDispatch(options: DispatchOptions): Dispatch {
  return async function dispatch(operation, raw, context) {
    const started = options.clock.now();
    const facts: Record<string, unknown> = {};
    let input: Record<string, unknown> | undefined;
    try {
      authorise(operation, context.principal, started, options.access);
      requireSurface(operation, context.surface);
      requireOn(operation, options.services);
      const given: unknown = isReader(raw) ? await raw() : raw;
      // The credential may have run out while they came.
      if (given !== raw) authorise(operation, context.principal, options.clock.now(), options.access);
      input = parseInput(operation, given);
      const output = await run(
        operation,
        input,
        { ...context, audit: (more) => Object.assign(facts, more) },
        options,
      );
      audit(options, { operation, context, started, input, facts, outcome: 'OK' });
      return output;
    } catch (cause) {
      const error = toAppError(cause);
      if (error.code === 'INTERNAL') facts.cause = causeOf(cause);
      audit(options, { operation, context, started, input, facts, outcome: error.code });
      throw error;
    }
  };
}

/** Arguments of a call are data wherever they come from; only a surface can pass a function. */
const isReader = (raw: unknown): raw is ReadArguments => typeof raw === 'function';

/** Whether `dispatch` would let the principal run it, where `access` is public. Lists are filtered by it as a courtesy; `dispatch` decides. */
export function mayRun({ permission, confinement, inParts }: AnyOperation, principal: Principal): boolean {
  if (permission === 'public') return true;
  if (principal.kind === 'anonymous') return false;
  if (confinement === 'refused' && isConfined(principal)) return false;
  if (permission === 'authenticated' || principal.permissions.has(permission)) return true;
  return inParts === true && holdsPart(principal.permissions, permission);
}

function authorise(
  operation: AnyOperation,
  principal: Principal,
  now: number,
  access: Access | undefined,
): void {
  if (principal.expiresAt !== undefined && principal.expiresAt <= now)
    throw new AppError(
      'UNAUTHENTICATED',
      'this credential has expired; sign in again or ask for a new token',
    );
  const isClosed = principal.kind === 'anonymous' && access !== 'public';
  if (!isClosed && mayRun(operation, principal)) return;
  const { name, permission, confinement } = operation;
  if (principal.kind === 'anonymous')
    throw new AppError('UNAUTHENTICATED', `${name} needs a credential; send Authorization: Bearer <token>`);
  if (confinement === 'refused' && isConfined(principal))
    throw new AppError('FORBIDDEN', `${name} is not for credentials that are confined to hostnames`);
  throw new AppError('FORBIDDEN', `${name} needs the permission ${permission}`, {
    details: { required: permission },
  });
}

/** Behind an endpoint that has none of these at all. */
function requireSurface({ name, mcp }: AnyOperation, surface: Surface): void {
  if (mcp === 'never' && surface === 'mcp')
    throw new AppError('FORBIDDEN', `${name} is not for MCP; REST and the command line have it`);
}

/** After the permission: who may not run it has no business knowing the settings. */
function requireOn({ name, offBy }: AnyOperation, services: unknown): void {
  const setting = offBy?.(services);
  if (setting === undefined) return;
  throw new AppError('FORBIDDEN', `${name} is turned off by the setting ${setting}`, {
    details: { setting },
  });
}

async function run(
  operation: AnyOperation,
  input: Record<string, unknown>,
  context: OperationContext,
  { services, idempotency }: DispatchOptions,
): Promise<Record<string, unknown>> {
  const isAsked = context.confirm !== undefined && ((await operation.confirmIf?.(services, input)) ?? true);
  const message = isAsked
    ? (operation.confirmAs?.(services, input, context.principal) ?? operation.confirm?.(input))
    : undefined;
  if (message !== undefined)
    await context.confirm?.({ operation: operation.name, inputDigest: digestOf(input), message });
  const ticket = ticketOf(operation, input, context.principal, idempotency);
  if (!ticket) return check(operation, await operation.handler(input, context, services));
  return (
    (await replay(operation, ticket, idempotency)) ??
    check(operation, await operation.handler(input, { ...context, idempotency: ticket }, services))
  );
}

async function replay(operation: AnyOperation, ticket: IdempotencyTicket, store: IdempotencyStore) {
  const earlier = await store.find(ticket);
  if (!earlier) return undefined;
  if (earlier.inputDigest === ticket.inputDigest) return check(operation, earlier.result);
  throw new AppError(
    'CONFLICT',
    'this idempotency_key was used with other arguments; use a new key for a new call',
  );
}

function ticketOf(
  { name }: AnyOperation,
  input: Record<string, unknown>,
  principal: Principal,
  store: IdempotencyStore,
): IdempotencyTicket | undefined {
  const { idempotency_key: key } = input;
  if (typeof key !== 'string') return undefined;
  const call = { principalId: principal.id, operation: name, key };
  return { ...call, inputDigest: digestOf(input), seal: (result) => store.seal(result, call) };
}

function check(operation: AnyOperation, output: unknown): Record<string, unknown> {
  const result = operation.output.safeParse(output);
  if (result.success) return result.data;
  throw new Error(`${operation.name} answered outside its schema: ${z.prettifyError(result.error)}`);
}

/** @throws AppError INVALID_INPUT as `parseArguments` words it. */
export const parseInput = (operation: AnyOperation, raw: unknown): Record<string, unknown> =>
  parseArguments(operation.name, operation.input, raw);

/** Same arguments, same digest, whatever their order. */
export function digestOf(input: unknown): string {
  return createHash('sha256').update(canonicalJson(input)).digest('base64url');
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

interface AuditEntry {
  operation: AnyOperation;
  context: CallContext;
  started: number;
  input: Record<string, unknown> | undefined;
  facts: Record<string, unknown>;
  outcome: string;
}

function audit(
  { log, clock }: DispatchOptions,
  { operation, context, started, input, facts, outcome }: AuditEntry,
): void {
  const now = clock.now();
  log.write({
    time: now,
    kind: 'audit',
    level: levelOf(outcome),
    component: 'audit',
    message: `${context.principal.name} ${operation.name}: ${outcome}`,
    trace_id: context.traceId,
    hostname: typeof input?.hostname === 'string' ? input.hostname : undefined,
    duration_ms: now - started,
    client_address: context.clientAddress,
    principal: context.principal.id,
    operation: operation.name,
    outcome,
    detail: {
      effect: operation.effect,
      surface: context.surface,
      client: context.client,
      arguments: redacted(operation, input),
      ...facts,
    },
  });
}

function levelOf(outcome: string) {
  if (outcome === 'OK') return 'info';
  return outcome === 'INTERNAL' ? 'error' : 'warn';
}

/** Arguments marked `.meta({ secret: true })` are named, never shown; long ones are cut. */
function redacted(
  { input: schema }: AnyOperation,
  input: Record<string, unknown> | undefined,
): string | undefined {
  if (!input) return undefined;
  const secrets = secretsOf(schema);
  return JSON.stringify(secrets.size === 0 ? input : masked(input, secrets)).slice(0, limits.auditArguments);
}

const masked = (input: Record<string, unknown>, secrets: ReadonlySet<string>) =>
  Object.fromEntries(
    Object.entries(input).map(([key, value]) => [key, secrets.has(key) ? '[redacted]' : value]),
  );

const secretsBySchema = new WeakMap<z.ZodObject, ReadonlySet<string>>();

function secretsOf(schema: z.ZodObject): ReadonlySet<string> {
  const known = secretsBySchema.get(schema);
  if (known) return known;
  const fields: Readonly<Record<string, unknown>> = schema.shape;
  const secrets = new Set(Object.keys(fields).filter((key) => isSecret(fields[key])));
  secretsBySchema.set(schema, secrets);
  return secrets;
}

const isSecret = (field: unknown): boolean => field instanceof z.ZodType && field.meta()?.secret === true;

function causeOf(cause: unknown): string {
  return (cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)).slice(
    0,
    limits.auditArguments,
  );
}
