/**
 * One capability of the system, defined once and served as MCP tool, REST endpoint, CLI command, OpenAPI entry and
 * row of the permission table. Holds no transport types: `interfaces/` derives everything else.
 */
import type { z } from 'zod';
import type { Permission } from './permissions.ts';
import type { Principal } from './principal.ts';
import type { SpanParent } from './spans.ts';

export type HttpMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Effect = 'read' | 'create' | 'update' | 'delete';
export type Surface = 'mcp' | 'rest' | 'cli' | 'internal';

export interface Operation<
  Name extends `${string}_${string}` | 'echo' | 'whoami' = `${string}_${string}` | 'echo' | 'whoami',
  Input extends z.ZodObject = z.ZodObject,
  Output extends z.ZodObject = z.ZodObject,
  Services = never,
> {
  /** `verb_noun`: the MCP tool, the OpenAPI operationId and, with hyphens, the command. */
  name: Name;
  title: string;
  /** Read by people in `--help` and by models in `tools/list`: what it does, and what it does not. */
  description: string;
  /** `authenticated`: any valid credential. `public`: the same, and anyone where the setting `mcp.access` is public. */
  permission: Permission | 'public' | 'authenticated';
  /** True when a part of the permission (`commands:run:NAME`) lets in as well: the handler asks which it is. */
  inParts?: boolean;
  /**
   * How a principal that is confined to hostnames fares. `filters`: the handler shows and changes only what belongs
   * to its hostnames. `harmless`: touches nothing that belongs to a hostname. `refused`: not for confined principals.
   */
  confinement: 'filters' | 'harmless' | 'refused';
  effect: Effect;
  /** True when repeating the same call changes nothing more. Reads and deletes are without saying so. */
  idempotent?: boolean;
  /** True when results carry text that strangers wrote: said before them, and remembered of who has read them. */
  untrusted?: boolean;
  /**
   * `listed` in tools/list; `searchable`: reached by find_operations and call_operation; `never`: what no model may
   * read. `dispatch` refuses that over MCP, whatever the endpoint does.
   */
  mcp: 'listed' | 'searchable' | 'never';
  /** For what may take long: over MCP it runs as a task where the client can follow one. Nobody is asked in the middle. */
  task?: boolean;
  /** Also a resource of MCP, with this URI: what it answers without arguments. */
  resource?: `ohp://${string}`;
  /**
   * For a resource that is also one for each value of an argument: `ohp://logs?filter=…`, of the template
   * `ohp://logs{?filter}`. `check` refuses what can't be followed. @throws AppError INVALID_INPUT
   */
  resourceBy?: { argument: string; check: (value: string) => void };
  /** Group for `?toolsets=`: the noun. */
  toolset: Toolset;
  http: { method: HttpMethod; path: `/v1/${string}` };
  input: Input;
  output: Output;
  /**
   * For what a setting can turn off: that setting as a person writes it, such as `commands.mode: off`; undefined while
   * it is on. Settings stay as they are while the process runs. `dispatch` refuses what is off; lists leave it out.
   */
  offBy?: (services: Services) => string | undefined;
  /**
   * Asked before a call that destroys or exposes something. Says exactly what will happen; undefined: with these
   * arguments nothing that anybody has to be asked about.
   */
  confirm?: (input: z.output<Input>) => string | undefined;
  /** What `dispatch` asks in its place, where settings say which arguments are secret. @throws AppError as the call would */
  confirmAs?: (services: Services, input: z.output<Input>, principal: Principal) => string;
  /** For what a setting decides, or the store: whether `confirm` is asked at all. Absent: it is. */
  confirmIf?: (services: Services, input: z.output<Input>) => boolean | Promise<boolean>;
  /** What it makes lets somebody in, where nobody would be asked what was read before (decision 45). */
  givesCredential?: true;
  /**
   * For a result that may be longer than a model should read: the same in at most so many characters of JSON, saying
   * that it is not whole and how to ask for less. Without it a result that is too long is not shown at all.
   */
  shorten?: (output: z.output<Output>, characters: number) => z.input<Output>;
  /**
   * For a result that is a document: its text, which the command line prints as it is, or writes into a file that only
   * its owner can read.
   */
  document?: (output: z.output<Output>) => string;
  handler: (
    input: z.output<Input>,
    context: OperationContext,
    services: Services,
  ) => Promise<z.input<Output>>;
}

export const toolsets = [
  'proxies',
  'routes',
  'certificates',
  'tokens',
  'access',
  'services',
  'logs',
  'alerts',
  'system',
] as const;
export type Toolset = (typeof toolsets)[number];

export interface Progress {
  /** Rises with every call. */
  progress: number;
  total?: number | undefined;
  message?: string | undefined;
}

export interface OperationContext {
  readonly principal: Principal;
  readonly signal: AbortSignal;
  readonly traceId: string;
  /** What is done for it becomes children of this; undefined where nobody records the trace. */
  readonly span?: SpanParent | undefined;
  readonly surface: Surface;
  readonly clientAddress: string | undefined;
  /** Name and version a client gave of itself; untrusted, for the log only. */
  readonly client?: string | undefined;
  /** Streams progress where the surface can; elsewhere does nothing. */
  readonly progress?: ((update: Progress) => void) | undefined;
  /**
   * Asks a person. Returns when the call may go on; throws CONFIRMATION_REQUIRED when it may not (yet). Absent on
   * surfaces where typing the command is the confirmation.
   */
  readonly confirm?: Confirm | undefined;
  /** The same whatever the settings say of asking. Absent where nobody can be asked. */
  readonly insist?: Confirm | undefined;
  /** Set by `dispatch` for what a handler calls: what the caller has read was looked at with the call that entails it. */
  readonly isEntailed?: boolean | undefined;
  /** Whether the connection reaches the operation of that name. Absent where none was narrowed. */
  readonly reaches?: ((operation: string) => boolean) | undefined;
  /** Set by `dispatch`: the store writes the result in the same transaction as the change. */
  readonly idempotency?: IdempotencyTicket | undefined;
  /** Set by `dispatch`: adds facts to the audit record of this call. Never secrets. */
  readonly audit: (facts: Record<string, unknown>) => void;
}

/** @throws AppError CONFIRMATION_REQUIRED */
export type Confirm = (question: ConfirmationQuestion) => Promise<void>;

export interface ConfirmationQuestion {
  operation: string;
  /** Digest of the exact arguments, and of why they are asked about; a confirmation is for these and no others. */
  inputDigest: string;
  message: string;
  /**
   * For who can't be asked: returns when a person has agreed to it on our own page. Set by `dispatch`.
   * @throws AppError CONFIRMATION_REQUIRED with the link to that page.
   */
  onPage?: () => void;
}

export interface IdempotencyTicket {
  principalId: string;
  operation: string;
  key: string;
  inputDigest: string;
  /** Encrypts the result for the store: it may hold what the caller set and only the caller may see. */
  seal: (result: string) => string;
}

/** The one place where types of different operations meet; `dispatch` validates at run time. */
// oxlint-disable-next-line typescript/no-explicit-any -- named boundary, see the sentence above
export type AnyOperation = Operation<any, any, any, any>;

/** What the hints of its tool say as well. */
export const isDestructive = ({ effect }: AnyOperation): boolean =>
  effect === 'update' || effect === 'delete';

/** What a person has to agree to after text of strangers was read, whatever else is asked about. */
export const isHeldAfterReading = (operation: AnyOperation): boolean =>
  isDestructive(operation) || operation.givesCredential === true;

/** Makes the input strict, and lets `name`, `input` and `output` flow into `handler`. */
export function defineOperation<
  const Name extends `${string}_${string}` | 'echo' | 'whoami',
  Input extends z.ZodObject,
  Output extends z.ZodObject,
  Services,
>(operation: Operation<Name, Input, Output, Services>): Operation<Name, Input, Output, Services> {
  // `strict` changes what the schema refuses at run time, not what it accepts by type.
  return Object.freeze({ ...operation, input: operation.input.strict() as unknown as Input });
}

// oxlint-disable-next-line typescript/no-explicit-any -- inference position only
type ServicesOf<O> = O extends { handler: (input: any, context: any, services: infer S) => any }
  ? // Of who takes none: among the others it would stand for anything.
    unknown extends S
    ? never
    : S
  : never;
type Intersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I : never;

/** What the composition root has to supply so that every operation in the list can run. */
export type ServicesFor<Operations extends readonly AnyOperation[]> = Intersection<
  ServicesOf<Operations[number]>
>;
