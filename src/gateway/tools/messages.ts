/**
 * The body of a POST to an MCP server, as the messages that it is: one of them, or a batch of 2025-03-26. Whatever
 * some reader could take for another message is refused: a member that JSON-RPC does not know (Go finds `Method` for
 * `method`), one that is a request and a response at once, an id that is no id. Pure.
 */
import { strictJson } from './strict-json.ts';
import { toolLimits } from './limits.ts';

export type RpcId = string | number;
export type JsonObject = Readonly<Record<string, unknown>>;

export interface RpcMessage {
  /** Undefined: a notification, or a response whose id could not be read. */
  readonly id: RpcId | undefined;
  /** Undefined: a response. */
  readonly method: string | undefined;
  readonly params: JsonObject | undefined;
}

/** What `tools/call` asks for. */
export interface ToolCall {
  readonly id: RpcId | undefined;
  readonly name: string;
  readonly arguments: unknown;
}

export interface Messages {
  readonly isBatch: boolean;
  readonly messages: readonly RpcMessage[];
  readonly calls: readonly ToolCall[];
  readonly asksForList: boolean;
}

/** @see {@link https://www.jsonrpc.org/specification#error_object | JSON-RPC 2.0 §5.1} */
export const RPC = {
  parseError: -32_700,
  invalidRequest: -32_600,
  invalidParams: -32_602,
  sessionNotFound: -32_001,
  /** MCP 2026-07-28, Base Protocol, Error Codes. */
  headerMismatch: -32_020,
} as const;

export type ReadMessages =
  | ({ readonly ok: true } & Messages)
  | { readonly ok: false; readonly code: number; readonly message: string };

const CALL = 'tools/call';
const LIST = 'tools/list';
const MEMBERS: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'method', 'params', 'result', 'error']);
/** Of `tools/call`: what is decided by, and what is recorded. */
const DECISIVE: readonly string[] = ['name', 'arguments'];

export function readMessages(bytes: Buffer): ReadMessages {
  const parsed = strictJson(bytes);
  if (!parsed.ok) return { ok: false, code: RPC.parseError, message: parsed.message };
  const { value } = parsed;
  const isBatch = Array.isArray(value);
  const parts: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (parts.length === 0 || parts.length > toolLimits.batch)
    return invalid(`a batch has between 1 and ${toolLimits.batch} messages`);
  const messages: RpcMessage[] = [];
  for (const part of parts) {
    const message = messageOf(part);
    if (typeof message === 'string') return invalid(message);
    messages.push(message);
  }
  const calls = callsOf(messages);
  if (typeof calls === 'string') return invalid(calls);
  return { ok: true, isBatch, messages, calls, asksForList: messages.some(({ method }) => method === LIST) };
}

const invalid = (message: string) => ({ ok: false, code: RPC.invalidRequest, message }) as const;

export const isRecord = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isId = (value: unknown): value is RpcId => typeof value === 'string' || Number.isSafeInteger(value);

/** The message, or what is wrong with it. */
function messageOf(value: unknown): RpcMessage | string {
  if (!isRecord(value) || value.jsonrpc !== '2.0') return 'a message is an object with jsonrpc "2.0"';
  if (Object.keys(value).some((name) => !MEMBERS.has(name)))
    return 'a message has no members but jsonrpc, id, method, params, result and error';
  return Object.hasOwn(value, 'method') ? requestOf(value) : responseOf(value);
}

function requestOf(value: JsonObject): RpcMessage | string {
  const { id, method, params } = value;
  if (typeof method !== 'string' || Object.hasOwn(value, 'result') || Object.hasOwn(value, 'error'))
    return 'a request has a method, and no result or error';
  if (id !== undefined && !isId(id)) return 'an id is a string or a whole number';
  if (params !== undefined && !isRecord(params)) return 'params is an object';
  if (UNSEEN.test(method)) return 'a method is of printable characters';
  const meant = folded(method);
  if (meant !== method && (meant === CALL || meant === LIST)) return `the method is written ${meant}`;
  return { id, method, params };
}

function responseOf(value: JsonObject): RpcMessage | string {
  const isOne = Object.hasOwn(value, 'result') !== Object.hasOwn(value, 'error');
  if (!isOne || Object.hasOwn(value, 'params')) return 'a message has a method, a result or an error';
  return { id: isId(value.id) ? value.id : undefined, method: undefined, params: undefined };
}

function callsOf(messages: readonly RpcMessage[]): ToolCall[] | string {
  const calls: ToolCall[] = [];
  for (const { id, method, params = {} } of messages) {
    if (method !== CALL) continue;
    const { name, arguments: args } = params;
    if (typeof name !== 'string') return `${CALL} names a tool: params.name is a string`;
    if (Object.keys(params).some((member) => isTakenFor(member)))
      return `params of ${CALL} has a name that could be read as another`;
    calls.push({ id, name, arguments: args });
  }
  return calls;
}

const isTakenFor = (member: string): boolean =>
  UNSEEN.test(member) || (!DECISIVE.includes(member) && DECISIVE.includes(folded(member)));

/** Some readers end at NUL (cJSON), and some leave out what can't be seen or is half a character. */
const UNSEEN = /\p{C}/u;

/** As a lenient reader might compare: without case, width, or space around it. */
const folded = (text: string): string => text.normalize('NFKC').toLowerCase().trim();
