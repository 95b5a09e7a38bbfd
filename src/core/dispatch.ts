/**
 * The only way to run an operation: authorise → parse → confirm → handle → check the output → audit. Every surface
 * ends here, so none has a gate of its own and none can forget it.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from './clock.ts';
import { AppError, toAppError } from './errors.ts';
import { limits } from './limits.ts';
import type { AnyOperation, IdempotencyTicket, OperationContext } from './operation.ts';
import { isConfined, type Principal } from './principal.ts';
import type { Log } from './record.ts';

/** What a surface supplies; `dispatch` adds the rest. */
export type CallContext = Omit<OperationContext, 'audit' | 'idempotency'>;
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
      authorise(operation, context.principal, started);
      input = parseInput(operation, raw);
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

/** Whether `dispatch` would let the principal run it. Lists are filtered by it as a courtesy; `dispatch` decides. */
export function mayRun({ permission, confinement }: AnyOperation, principal: Principal): boolean {
  if (permission === 'public') return true;
  if (principal.kind === 'anonymous') return false;
  if (confinement === 'refused' && isConfined(principal)) return false;
  return permission === 'authenticated' || principal.permissions.has(permission);
}

function authorise(operation: AnyOperation, principal: Principal, now: number): void {
  if (principal.expiresAt !== undefined && principal.expiresAt <= now)
    throw new AppError(
      'UNAUTHENTICATED',
      'this credential has expired; sign in again or ask for a new token',
    );
  if (mayRun(operation, principal)) return;
  const { name, permission, confinement } = operation;
  if (principal.kind === 'anonymous')
    throw new AppError('UNAUTHENTICATED', `${name} needs a credential; send Authorization: Bearer <token>`);
  if (confinement === 'refused' && isConfined(principal))
    throw new AppError('FORBIDDEN', `${name} is not for credentials that are confined to hostnames`);
  throw new AppError('FORBIDDEN', `${name} needs the permission ${permission}`, {
    details: { required: permission },
  });
}

async function run(
  operation: AnyOperation,
  input: Record<string, unknown>,
  context: OperationContext,
  { services, idempotency }: DispatchOptions,
): Promise<Record<string, unknown>> {
  if (operation.confirm && context.confirm)
    await context.confirm({
      operation: operation.name,
      inputDigest: digestOf(input),
      message: operation.confirm(input),
    });
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

/** @throws AppError INVALID_INPUT that names each fault, and the valid arguments when one is unknown. */
export function parseInput(operation: AnyOperation, raw: unknown): Record<string, unknown> {
  const result = operation.input.safeParse(raw ?? {});
  if (result.success) return result.data;
  const valid = Object.keys(operation.input.shape);
  const faults = result.error.issues.map((issue: z.core.$ZodIssue) => faultOf(issue, valid));
  throw new AppError('INVALID_INPUT', `${operation.name}: ${faults.join('; ')}`, {
    cause: result.error,
    details: { valid_arguments: valid },
  });
}

function faultOf(issue: z.core.$ZodIssue, valid: readonly string[]): string {
  if (issue.code === 'unrecognized_keys' && issue.path.length === 0) {
    const allowed = valid.length === 0 ? 'it takes no arguments' : `valid arguments are ${valid.join(', ')}`;
    return `unknown argument ${issue.keys.map((key) => JSON.stringify(key.slice(0, limits.shortText))).join(', ')} (${allowed})`;
  }
  const where = issue.path.length > 0 ? `${issue.path.map(String).join('.')}: ` : '';
  return `${where}${issue.message}`;
}

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
  const shown = Object.fromEntries(
    Object.entries(input).map(([key, value]) => [key, isSecret(schema.shape[key]) ? '[redacted]' : value]),
  );
  return JSON.stringify(shown).slice(0, limits.auditArguments);
}

const isSecret = (field: unknown): boolean => field instanceof z.ZodType && field.meta()?.secret === true;

function causeOf(cause: unknown): string {
  return (cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)).slice(
    0,
    limits.auditArguments,
  );
}
