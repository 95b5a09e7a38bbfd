/** The flat input of an operation from an HTTP request: query or JSON body, then headers, then the path. */
import { AppError } from '../core/errors.ts';
import type { Exchange } from '../core/exchange.ts';
import { limits } from '../core/limits.ts';
import type { AnyOperation } from '../core/operation.ts';
import { type Arguments, carriesBody, fromStrings } from './arguments.ts';

const JSON_TYPE = /^application\/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?$/i;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const [QUOTE, BACKSLASH, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [
  0x22, 0x5c, 0x7b, 0x7d, 0x5b, 0x5d,
] as const;
/** A strong entity tag as this interface makes them. @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3 | RFC 9110 §8.8.3} */
const VERSION_TAG = /^"([1-9]\d{0,14})"$/;

/** Path parameters come last: neither query nor body can change which resource the URL names. */
export async function readInput(
  operation: AnyOperation,
  args: Arguments,
  exchange: Exchange,
  pathParams: Record<string, string>,
): Promise<Record<string, unknown>> {
  const body = carriesBody(operation);
  if (body && exchange.query !== '')
    throw new AppError(
      'INVALID_INPUT',
      `arguments of ${operation.http.method} go in the JSON body, not in the query`,
    );
  const given = body ? await readBody(exchange) : readQuery(args, exchange);
  const path = Object.entries(pathParams).map(([name, value]) => {
    const field = args.byName.get(name);
    return [name, field ? fromStrings(field, [value]) : value];
  });
  return { ...given, ...headerArguments(operation, args, exchange, given), ...Object.fromEntries(path) };
}

function readQuery(args: Arguments, { query, headers, method }: Exchange): Record<string, unknown> {
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0)
    throw new AppError('INVALID_INPUT', `arguments of ${method} go in the query, not in a body`);
  if (query === '') return {};
  const params = new URLSearchParams(query);
  const input: [string, unknown][] = [];
  for (const name of new Set(params.keys())) {
    const values = params.getAll(name);
    const field = args.byName.get(name);
    if (values.length > 1 && field && !field.kinds.has('array'))
      throw new AppError('INVALID_INPUT', `${name}: given ${values.length} times; give it once`);
    if (field?.secret)
      throw new AppError(
        'INVALID_INPUT',
        `${name}: a secret does not belong in a URL, where it would be logged`,
      );
    input.push([name, field ? fromStrings(field, values) : values]);
  }
  return Object.fromEntries(input);
}

/** Only `application/json` is read: the types a foreign page may send without asking first are refused. */
async function readBody(exchange: Exchange): Promise<Record<string, unknown>> {
  const type = exchange.headers['content-type'];
  if (type !== undefined && !JSON_TYPE.test(type))
    throw new AppError('INVALID_INPUT', 'content-type: has to be application/json (UTF-8)');
  const bytes = await readAll(exchange);
  if (bytes.length === 0) return {};
  if (type === undefined)
    throw new AppError('INVALID_INPUT', 'content-type: is missing; send application/json');
  return parseBody(bytes);
}

export function parseBody(bytes: Uint8Array): Record<string, unknown> {
  const value = parseJson(bytes);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new AppError('INVALID_INPUT', 'the body has to be a JSON object of arguments');
  // Own properties only are copied, so that a member named __proto__ stays data and is refused as unknown.
  return value as Record<string, unknown>;
}

function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = UTF8.decode(bytes);
  } catch (cause) {
    throw new AppError('INVALID_INPUT', 'the body is not UTF-8', { cause });
  }
  checkDepth(text);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError('INVALID_INPUT', 'the body has to be JSON', { cause });
  }
}

/** Before parsing, so that what nests without end costs one pass over its text and no more. */
function checkDepth(text: string): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text.charCodeAt(i);
    if (inString) {
      if (char === BACKSLASH) i += 1;
      else if (char === QUOTE) inString = false;
    } else if (char === QUOTE) inString = true;
    else if (char === CLOSE_BRACE || char === CLOSE_BRACKET) depth -= 1;
    else if (char === OPEN_BRACE || char === OPEN_BRACKET) {
      depth += 1;
      if (depth > limits.jsonDepth)
        throw new AppError('INVALID_INPUT', `the body nests deeper than ${limits.jsonDepth} levels`);
    }
  }
}

function readAll({ body, headers, signal }: Exchange): Promise<Buffer> {
  const max = limits.controlBodyBytes;
  if (Number(headers['content-length'] ?? 0) > max) return Promise.reject(tooLarge(max));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size > max) settle(() => reject(tooLarge(max)));
      else chunks.push(chunk);
    };
    const onEnd = () => settle(() => resolve(Buffer.concat(chunks, size)));
    const onGone = () =>
      settle(() => reject(new AppError('CANCELLED', 'the client went away while its body was read')));
    // What comes after the limit is not read here; the connection's owner drops it.
    const settle = (finish: () => void) => {
      body.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone).pause();
      signal.removeEventListener('abort', onGone);
      finish();
    };
    if (signal.aborted || body.destroyed) return onGone();
    if (body.readableEnded) return onEnd();
    body.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone);
    signal.addEventListener('abort', onGone, { once: true });
  });
}

const tooLarge = (max: number) => new AppError('TOO_LARGE', `the body is larger than ${max} bytes`);

/** `Idempotency-Key` and `If-Match` are arguments too; said twice, they have to say the same. */
function headerArguments(
  { name, effect }: AnyOperation,
  { byName }: Arguments,
  { headers }: Exchange,
  given: Record<string, unknown>,
): Record<string, unknown> {
  if (effect === 'read') return {};
  const found: Record<string, unknown> = {};
  const take = (header: string, argument: string, value: unknown) => {
    if (value === undefined) return;
    if (!byName.has(argument)) throw new AppError('INVALID_INPUT', `${header}: ${name} does not take it`);
    if (argument in given && given[argument] !== value)
      throw new AppError('INVALID_INPUT', `${argument}: differs from the header ${header}; send one of them`);
    found[argument] = value;
  };
  take('idempotency-key', 'idempotency_key', headers['idempotency-key']);
  take('if-match', 'version', versionOf(headers['if-match']));
  return found;
}

function versionOf(ifMatch: string | undefined): number | undefined {
  if (ifMatch === undefined || ifMatch.trim() === '*') return undefined;
  const [, digits] = VERSION_TAG.exec(ifMatch.trim()) ?? [];
  if (digits !== undefined) return Number(digits);
  throw new AppError('INVALID_INPUT', 'if-match: has to be one ETag as it was answered, such as "3", or *');
}
