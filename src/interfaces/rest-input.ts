/** The flat input of an operation from an HTTP request: query or JSON body, then headers, then the path. */
import { AppError } from '../core/errors.ts';
import type { Exchange } from '../core/exchange.ts';
import { limits } from '../core/limits.ts';
import type { AnyOperation } from '../core/operation.ts';
import { type Arguments, carriesBody, fromStrings } from './arguments.ts';
import { parseJson, readBody } from './json-body.ts';

const JSON_TYPE = /^application\/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?$/i;
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
  const given = body ? await readJson(exchange) : readQuery(args, exchange);
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
async function readJson(exchange: Exchange): Promise<Record<string, unknown>> {
  const type = exchange.headers['content-type'];
  if (type !== undefined && !JSON_TYPE.test(type))
    throw new AppError('INVALID_INPUT', 'content-type: has to be application/json (UTF-8)');
  const bytes = await bytesOf(exchange);
  if (bytes.length === 0) return {};
  if (type === undefined)
    throw new AppError('INVALID_INPUT', 'content-type: is missing; send application/json');
  return parseBody(bytes);
}

async function bytesOf(exchange: Exchange): Promise<Buffer> {
  if (Number(exchange.headers['content-length'] ?? 0) > limits.controlBodyBytes) throw tooLarge();
  const body = await readBody(exchange);
  switch (body.kind) {
    case 'bytes':
      return body.bytes;
    case 'too-large':
      throw tooLarge();
    case 'refused':
      throw body.error;
    case 'gone':
      throw new AppError('CANCELLED', 'the client went away while its body was read');
  }
}

const tooLarge = () => new AppError('TOO_LARGE', `the body is larger than ${limits.controlBodyBytes} bytes`);

export function parseBody(bytes: Buffer): Record<string, unknown> {
  const parsed = parseJson(bytes);
  if (!parsed.ok) throw new AppError('INVALID_INPUT', parsed.message);
  const { value } = parsed;
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new AppError('INVALID_INPUT', 'the body has to be a JSON object of arguments');
  // Own properties only are copied, so that a member named __proto__ stays data and is refused as unknown.
  return value as Record<string, unknown>;
}

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
