/**
 * The only way to run an operation: authorise → parse → confirm → begin (its record is on the disk) → handle → check the
 * output → audit. Every surface ends here, so none has a gate of its own and none can forget it. What a setting turned
 * off goes no further than the first of these steps.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type Asks, type Question, type Reason, refuseUnasked } from './asks.ts';
import type { AuditTrail, Begun } from './audit.ts';
import type { Clock } from './clock.ts';
import { wishOf } from './collection.ts';
import { AppError, toAppError } from './errors.ts';
import { parseArguments } from './input.ts';
import { limits } from './limits.ts';
import { noMeter, type OperationMeter } from './meter.ts';
import {
  type AnyOperation,
  type IdempotencyTicket,
  isHeldAfterReading,
  type OperationContext,
  type Surface,
} from './operation.ts';
import { holdsPart } from './permissions.ts';
import { type Access, isConfined, type Principal } from './principal.ts';
import type { Log, LogRecord } from './record.ts';
import type { OpenSpan, SpanFacts } from './spans.ts';
import { type Taint, taintNotice, taintReason, type UntrustedRead } from './taint.ts';
import { askedArguments, recordedArguments } from './told-arguments.ts';

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
  /** What is done without it, in tests, is told to the log alone. */
  trail?: AuditTrail | undefined;
  clock: Clock;
  idempotency: IdempotencyStore;
  /** Absent: nothing is counted. */
  meter?: OperationMeter | undefined;
  /** Absent: reading holds nobody back. */
  taint?: Taint | undefined;
  /** Where a person agrees on a page of ours. Absent: nowhere. */
  asks?: Pick<Asks, 'require'> | undefined;
}

export function createDispatch(options: DispatchOptions): Dispatch {
  return async function dispatch(operation, raw, context) {
    const started = options.clock.now();
    const call: Call = {
      operation,
      context,
      started,
      input: undefined,
      facts: {},
      begun: undefined,
      span: context.span?.child(),
    };
    const { facts, span } = call;
    let output: Record<string, unknown>;
    try {
      authorise(operation, context.principal, started, options.access);
      requireSurface(operation, context.surface);
      requireOn(operation, options.services);
      const given: unknown = isReader(raw) ? await raw() : raw;
      // The credential may have run out while they came.
      if (given !== raw) authorise(operation, context.principal, options.clock.now(), options.access);
      const input = parseInput(operation, given);
      call.input = input;
      const told = { ...context, span, audit: (more: object) => Object.assign(facts, more) };
      const begin = async () => {
        if (changes(operation)) call.begun = await options.trail?.begin(recordOf(options, call, BEGUN));
      };
      output = await run(operation, input, told, { ...options, begin });
    } catch (cause) {
      const error = toAppError(cause);
      if (error.code === 'INTERNAL') facts.cause = causeOf(cause);
      await audit(options, call, error.code);
      throw error;
    }
    // Behind the try: what was done has one result, whatever becomes of its record.
    await audit(options, call, 'OK');
    return output;
  };
}

/** Arguments of a call are data wherever they come from; only a surface can pass a function. */
const isReader = (raw: unknown): raw is ReadArguments => typeof raw === 'function';

/** What is asked of who wants something: of an operation, or of an endpoint that is none. */
export type Guarded = Pick<AnyOperation, 'name' | 'permission' | 'confinement'> &
  Pick<Partial<AnyOperation>, 'inParts'>;

/** Whether `dispatch` would let the principal run it, where `access` is public. Lists are filtered by it as a courtesy; `dispatch` decides. */
export function mayRun({ permission, confinement, inParts }: Guarded, principal: Principal): boolean {
  if (permission === 'public') return true;
  if (principal.kind === 'anonymous') return false;
  if (confinement === 'refused' && isConfined(principal)) return false;
  if (permission === 'authenticated' || principal.permissions.has(permission)) return true;
  return inParts === true && holdsPart(principal.permissions, permission);
}

/** @throws AppError UNAUTHENTICATED or FORBIDDEN. */
export function authorise(
  operation: Guarded,
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

/** Whether the record of it has to be on the disk before it is acted on. What is asked about gives something away. */
const changes = ({ effect, confirm: asks, confirmAs }: AnyOperation): boolean =>
  effect !== 'read' || asks !== undefined || confirmAs !== undefined;

/** How a person had a say in it. Where one was asked and it went no further, `outcome` is CONFIRMATION_REQUIRED. */
function confirmationOf(
  { confirm }: AnyOperation,
  input: Record<string, unknown>,
  { message, context }: { message: string | undefined; context: OperationContext },
): { confirmation?: string } {
  if (message !== undefined) return { confirmation: 'asked' };
  if (confirm?.(input) === undefined) return {};
  if (context.confirm) return { confirmation: 'not needed by the settings' };
  return { confirmation: context.surface === 'mcp' ? 'not asked' : 'by the call itself' };
}

async function run(
  operation: AnyOperation,
  input: Record<string, unknown>,
  context: OperationContext,
  { begin, ...options }: DispatchOptions & { begin: () => Promise<void> },
): Promise<Record<string, unknown>> {
  const { taint } = options;
  const asked = await askFirst(operation, input, context, options);
  await begin();
  const progress = taint ? taint.telling(operation, context) : context.progress;
  const handled = handle(operation, input, { ...asked, progress, isEntailed: true }, options);
  return taint ? taint.reading(operation, context, handled) : handled;
}

/** Returns the context as it is after the asking: who agreed to a call is not asked for its parts. */
async function askFirst(
  operation: AnyOperation,
  input: Record<string, unknown>,
  context: OperationContext,
  { services, taint, asks }: DispatchOptions,
): Promise<OperationContext> {
  const { name } = operation;
  const ask = (): string | undefined =>
    operation.confirmAs?.(services, input, context.principal) ?? operation.confirm?.(input);
  const wish = () => digestOf(wishOf(operation.input, input));
  const read = taint?.holding(operation, context);
  // Who may not, or asks for what can't be, is told that and asked nothing.
  const words = read && ask();
  if (read && (isHeldAfterReading(operation) || words !== undefined)) {
    context.audit({
      confirmation: 'asked',
      asked_because: { read_by: read.operation, read_at: new Date(read.at).toISOString() },
    });
    const message = `${words === undefined ? `${operation.title}: ` : `${words}\n\n`}${askedArguments(operation, input)}\n\n${taintNotice(read)}`;
    const question = { operation: name, inputDigest: freshDigest(input, read), message };
    if (context.insist) await context.insist(question);
    else askOnPage({ ...question, wish }, context, { asks, reason: taintReason(operation, read) });
    return { ...context, confirm: undefined };
  }
  const isAsked = context.confirm !== undefined && ((await operation.confirmIf?.(services, input)) ?? true);
  const message = isAsked ? ask() : undefined;
  context.audit(confirmationOf(operation, input, { message, context }));
  if (message !== undefined) {
    const question = { operation: name, inputDigest: digestOf(input), message };
    const onPage = () =>
      askOnPage({ ...question, wish }, context, { asks, reason: unaskedReason(operation) });
    await context.confirm?.({ ...question, onPage });
  }
  return context;
}

/** Who came without a credential is one with all others who did: nobody can agree for one of them. */
function askOnPage(
  question: Question,
  { principal, client, audit: tell }: OperationContext,
  { asks, reason }: { asks: DispatchOptions['asks']; reason: Reason },
): void {
  if (!asks || principal.kind === 'anonymous') throw refuseUnasked(reason);
  tell({
    confirmation: 'agreed on a page',
    agreed_by: asks.require(question, { principal, client }, reason),
  });
}

const unaskedReason = ({ name }: AnyOperation): Reason => ({
  why: `${name} has to be confirmed by a person, and this client can't be asked: it offers no elicitation`,
  otherwise: 'Otherwise: a client that does, or the command line',
});

/** A yes of before the reading is none to this. */
const freshDigest = (input: unknown, { since }: UntrustedRead): string => digestOf({ input, since });

async function handle(
  operation: AnyOperation,
  input: Record<string, unknown>,
  context: OperationContext,
  { services, idempotency }: DispatchOptions,
): Promise<Record<string, unknown>> {
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

/** What is known of a call so far. */
interface Call {
  readonly operation: AnyOperation;
  readonly context: CallContext;
  readonly started: number;
  input: Record<string, unknown> | undefined;
  readonly facts: Record<string, unknown>;
  readonly span: OpenSpan | undefined;
  begun: Begun | undefined;
}

const BEGUN = 'begun';

async function audit(options: DispatchOptions, call: Call, outcome: string): Promise<void> {
  const { clock, meter = noMeter } = options;
  const { operation, context, started, span, begun } = call;
  const durationMs = clock.now() - started;
  meter.operated({ operation: operation.name, surface: context.surface, outcome, durationMs });
  span?.end(spanFacts(operation, context, outcome));
  const record = recordOf(options, call, outcome);
  if (begun) await begun.end(record);
  else if (options.trail) await options.trail.tell(record);
  else options.log.write(record);
}

function recordOf(
  { clock }: DispatchOptions,
  { operation, context, started, input, facts, span }: Call,
  outcome: string,
): LogRecord {
  const now = clock.now();
  const isBegun = outcome === BEGUN;
  return {
    time: now,
    kind: 'audit',
    level: levelOf(outcome),
    component: 'audit',
    message: `${context.principal.name} ${operation.name}: ${outcome}`,
    trace_id: context.traceId,
    span_id: span?.spanId,
    hostname: typeof input?.hostname === 'string' ? input.hostname : undefined,
    duration_ms: isBegun ? undefined : now - started,
    client_address: context.clientAddress,
    principal: context.principal.id,
    operation: operation.name,
    outcome: isBegun ? undefined : outcome,
    detail: {
      effect: operation.effect,
      surface: context.surface,
      client: context.client,
      arguments: recordedArguments(operation, input),
      ...facts,
    },
  };
}

/**
 * @see {@link https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/ | OpenTelemetry, conventions for MCP}: a call is a
 * span of the server, whatever carries it
 */
function spanFacts(
  { name, effect }: AnyOperation,
  { surface, principal, clientAddress }: CallContext,
  outcome: string,
): SpanFacts {
  const isCall = surface === 'mcp';
  return {
    name: isCall ? `tools/call ${name}` : name,
    kind: isCall ? 'server' : 'internal',
    isError: outcome !== 'OK',
    attributes: {
      ...(isCall && {
        'mcp.method.name': 'tools/call',
        'gen_ai.operation.name': 'execute_tool',
        'gen_ai.tool.name': name,
      }),
      'client.address': clientAddress,
      'user.id': principal.id,
      'error.type': outcome === 'OK' ? undefined : outcome,
      'ohp.operation': name,
      'ohp.effect': effect,
      'ohp.surface': surface,
      'ohp.outcome': outcome,
    },
  };
}

function levelOf(outcome: string) {
  if (outcome === 'OK') return 'info';
  return outcome === 'INTERNAL' ? 'error' : 'warn';
}

function causeOf(cause: unknown): string {
  return (cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)).slice(
    0,
    limits.auditArguments,
  );
}
