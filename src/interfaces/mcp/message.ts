/**
 * The shape of well-formed JSON-RPC messages, recognised without a schema library. Whatever is not certainly
 * well-formed is `undefined` here and goes to the SDK, which decides and words the refusal.
 */
export type RpcId = string | number;
export type JsonObject = Record<string, unknown>;

export interface PlainMessage {
  /** Absent: a notification. */
  readonly id: RpcId | undefined;
  readonly method: string;
  readonly params: JsonObject | undefined;
  readonly meta: JsonObject | undefined;
}

export const META = {
  protocolVersion: 'io.modelcontextprotocol/protocolVersion',
  clientInfo: 'io.modelcontextprotocol/clientInfo',
  clientCapabilities: 'io.modelcontextprotocol/clientCapabilities',
  logLevel: 'io.modelcontextprotocol/logLevel',
  serverInfo: 'io.modelcontextprotocol/serverInfo',
  relatedTask: 'io.modelcontextprotocol/related-task',
} as const;

export function isRecord(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const isId = (value: unknown): value is RpcId =>
  typeof value === 'string' || Number.isSafeInteger(value);

export const isOptional = (value: unknown, type: 'string' | 'boolean' | 'number'): boolean =>
  // oxlint-disable-next-line valid-typeof -- the parameter's type lists the valid ones
  value === undefined || typeof value === type;

export function plainMessage(body: unknown): PlainMessage | undefined {
  if (!isRecord(body) || body.jsonrpc !== '2.0' || typeof body.method !== 'string') return undefined;
  const hasId = Object.hasOwn(body, 'id');
  const hasParams = Object.hasOwn(body, 'params');
  // Strict: no member beside these four. Counting them is enough, since the two above are there.
  if (Object.keys(body).length !== 2 + Number(hasId) + Number(hasParams)) return undefined;
  if (hasId && !isId(body.id)) return undefined;
  if (!hasParams) return { id: idOf(body), method: body.method, params: undefined, meta: undefined };
  const { params } = body;
  if (!isRecord(params)) return undefined;
  const meta = params._meta;
  if (meta !== undefined && !isPlainMeta(meta)) return undefined;
  return { id: idOf(body), method: body.method, params, meta };
}

const idOf = ({ id }: JsonObject): RpcId | undefined => (isId(id) ? id : undefined);

function isPlainMeta(meta: unknown): meta is JsonObject {
  return (
    isRecord(meta) &&
    (meta.progressToken === undefined || isId(meta.progressToken)) &&
    meta[META.relatedTask] === undefined
  );
}

/** The id to name in an error: `null` when the body has none that could be read. */
export function echoableId(body: unknown): RpcId | null {
  return isRecord(body) && typeof body.method === 'string' && isId(body.id) ? body.id : null;
}

/** Whether no member but these is there. */
export function hasOnly(object: JsonObject, allowed: ReadonlySet<string>): boolean {
  for (const key of Object.keys(object)) if (!allowed.has(key)) return false;
  return true;
}
