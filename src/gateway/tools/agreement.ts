/**
 * Whether the header of a request names what its body asks for. What is between here and the tool may go by either:
 * 2026-07-28 repeats the method and the name in the header so that proxies need not read bodies.
 * @see MCP 2026-07-28, Transports, Streamable HTTP, Standard Request Headers
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isRecord, type Messages, type RpcMessage } from './messages.ts';

/** The first version that repeats them. Versions are dates, so that they compare as text. */
const SINCE = '2026-07-28';
const VERSION = /^\d{4}-\d{2}-\d{2}$/;
const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion';

/** Where the body has what `Mcp-Name` repeats. */
const nameSources: Readonly<Record<string, string>> = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
  'tasks/get': 'taskId',
  'tasks/update': 'taskId',
  'tasks/cancel': 'taskId',
};

const SENTINEL = /^=\?base64\?(.*)\?=$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const VISIBLE = /^[\x20-\x7e]*$/;

/** What disagrees; undefined: nothing. */
export function disagreement(
  headers: IncomingHttpHeaders,
  { isBatch, messages }: Messages,
): string | undefined {
  const method = textOf(headers['mcp-method']);
  const name = textOf(headers['mcp-name']);
  if (isBatch)
    return method === undefined && name === undefined
      ? undefined
      : 'Mcp-Method and Mcp-Name name one request, and the body is a batch';
  const [message] = messages;
  if (!message) return undefined;
  if (method !== undefined && method !== message.method)
    return 'Mcp-Method and the method of the body differ';
  return (
    versionFault(textOf(headers['mcp-protocol-version']), message) ??
    nameFault(name, message) ??
    missing(headers, { method, name }, message)
  );
}

function nameFault(header: string | undefined, message: RpcMessage): string | undefined {
  if (header === undefined) return undefined;
  const decoded = decodedName(header);
  if (decoded === undefined) return 'Mcp-Name is not encoded as it has to be';
  const source = nameSources[message.method ?? ''];
  return source !== undefined && message.params?.[source] === decoded
    ? undefined
    : 'Mcp-Name and the name in the body differ';
}

function versionFault(header: string | undefined, message: RpcMessage): string | undefined {
  const claimed = claimedVersion(message);
  return header !== undefined && claimed !== undefined && claimed !== header
    ? 'MCP-Protocol-Version and the version in _meta differ'
    : undefined;
}

/** Asked of calls alone, of which something is decided here; of others the target says so itself. */
function missing(
  headers: IncomingHttpHeaders,
  { method, name }: { method: string | undefined; name: string | undefined },
  message: RpcMessage,
): string | undefined {
  if (message.method !== 'tools/call' || message.id === undefined) return undefined;
  const version = claimedVersion(message) ?? textOf(headers['mcp-protocol-version']);
  if (version === undefined || !VERSION.test(version) || version < SINCE) return undefined;
  return method === undefined || name === undefined
    ? 'Mcp-Method and Mcp-Name are required by this version'
    : undefined;
}

function claimedVersion({ params }: RpcMessage): string | undefined {
  const meta = params?._meta;
  const claimed = isRecord(meta) ? meta[VERSION_KEY] : undefined;
  return typeof claimed === 'string' ? claimed : undefined;
}

/** Undefined: not as the specification encodes it. */
function decodedName(header: string): string | undefined {
  const encoded = SENTINEL.exec(header)?.[1];
  if (encoded === undefined) return VISIBLE.test(header) ? header : undefined;
  if (!BASE64.test(encoded)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(encoded, 'base64'));
  } catch {
    return undefined; // Not UTF-8: the caller says so.
  }
}

const textOf = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(', ') : value;
