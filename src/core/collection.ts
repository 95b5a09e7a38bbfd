/** What every list has in common: a limit, an opaque cursor, and the fields with which changes are made safe. */
import { z } from 'zod';
import { AppError } from './errors.ts';
import { limits } from './limits.ts';

export const limitField = z
  .int()
  .min(1)
  .max(limits.pageSize)
  .optional()
  .describe(`How many, 1 to ${limits.pageSize}; absent: what fits 2,000 tokens`);

export const cursorField = z.string().max(1024).optional().describe('next_cursor of the page before');

export const nextCursorField = z
  .string()
  .optional()
  .describe('Pass as cursor to get the next page; absent on the last one');

export const versionField = z
  .int()
  .min(1)
  .optional()
  .describe('Version last read: refused if it changed since; absent: whatever is there');

export const idempotencyKeyField = z
  .string()
  .min(8)
  .max(limits.idempotencyKey)
  .optional()
  .describe('Any unique text: repeating the call with it creates nothing twice');

/**
 * What a call wants done: its arguments without those that make repeating safe. Who changes only these asks for the
 * same again.
 */
export const wishOf = ({ shape }: z.ZodObject, input: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(input).filter(([name]) => !safeguards.has(shape[name])));

const safeguards = new Set<unknown>([versionField, idempotencyKeyField]);

type Bare<Field> = Field extends
  | z.ZodDefault<infer Inner>
  | z.ZodPrefault<infer Inner>
  | z.ZodOptional<infer Inner>
  ? Inner
  : Field;

/** The fields of an update: each optional and without its default, so that what is left out stays as it is. */
export function changesOf<Shape extends z.ZodRawShape>(
  shape: Shape,
): { [Name in keyof Shape]: z.ZodOptional<Bare<Shape[Name]>> } {
  const fields = Object.entries(shape).map(([name, field]) => [name, changeOf(field)]);
  // `Bare` says by type what `changeOf` does by value.
  return Object.fromEntries(fields) as { [Name in keyof Shape]: z.ZodOptional<Bare<Shape[Name]>> };
}

/** What a change names, to be laid over what is there: what is left out stays, null takes a setting off. */
export function changesIn(
  operation: string,
  changes: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  if (given.length === 0)
    throw new AppError('INVALID_INPUT', `${operation}: name at least one setting to change`);
  return Object.fromEntries(given.map(([name, value]) => [name, value ?? undefined]));
}

function changeOf(field: z.core.SomeType): z.ZodType {
  const wrapped =
    field instanceof z.ZodDefault || field instanceof z.ZodPrefault || field instanceof z.ZodOptional;
  const bare = wrapped ? field.unwrap() : field;
  if (!(bare instanceof z.ZodType)) throw new TypeError('a field of an operation is a zod schema');
  const about = field instanceof z.ZodType ? field.meta() : undefined;
  return about ? bare.optional().meta(about) : bare.optional();
}

/** RFC 3339 with milliseconds, UTC. (`z.iso.datetime` would put a 256-character pattern in every schema.) */
export const timestamp = z
  .string()
  .refine((text) => !Number.isNaN(Date.parse(text)), 'has to be a date and time such as 2026-01-31T08:00:00Z')
  .meta({ format: 'date-time' });

export const toTimestamp = (milliseconds: number): string => new Date(milliseconds).toISOString();

/** A cursor names the list it belongs to and the key of the last row; it holds nothing that is secret or authority. */
export function encodeCursor(list: string, key: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify([list, ...key])).toString('base64url');
}

/** @throws AppError INVALID_INPUT when the text is not a cursor of this list with keys of these types. */
export function decodeCursor<const Types extends readonly ('string' | 'number')[]>(
  list: string,
  types: Types,
  cursor: string,
): { -readonly [I in keyof Types]: Types[I] extends 'number' ? number : string } {
  const parsed = parseJson(Buffer.from(cursor, 'base64url').toString('utf8'));
  if (Array.isArray(parsed) && parsed.length === types.length + 1 && parsed[0] === list) {
    const key: unknown[] = parsed.slice(1);
    // The shape was just checked against `types`, which is what the mapped type says.
    if (key.every((part, i) => typeof part === types[i]))
      return key as { -readonly [I in keyof Types]: Types[I] extends 'number' ? number : string };
  }
  throw new AppError('INVALID_INPUT', `cursor: not a cursor of ${list}; pass next_cursor exactly as it came`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Not JSON is simply not a cursor; the caller reports it.
  }
}

/** One more than the page holds, to know whether there is another page. */
export async function takeOneMore<Item>(
  found: AsyncIterable<Item>,
  limit: number = limits.pageSizeDefault,
): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of found) {
    items.push(item);
    if (items.length > limit) break;
  }
  return items;
}

/** For the cursor and the brackets around the items. */
const ENVELOPE_CHARACTERS = 600;

/**
 * What a page holds, and the cursor behind it while there is more: as many as are wanted and fit into a result, or
 * without a wish as many as fit into a default one; never none of some. `shown` is what a caller sees of an item.
 */
export function pageOf<Item>(
  found: readonly Item[],
  limit: number | undefined,
  cursorOf: (last: Item) => string,
  shown: (item: Item) => unknown = (item) => item,
): { items: Item[]; next_cursor?: string } {
  const wanted = found.slice(0, limit ?? limits.pageSizeDefault);
  let room =
    (limit === undefined ? limits.resultCharactersDefault : limits.resultCharacters) - ENVELOPE_CHARACTERS;
  const tooMany = wanted.findIndex((item) => (room -= JSON.stringify(shown(item)).length) < 0);
  const items = tooMany < 0 ? wanted : wanted.slice(0, Math.max(1, tooMany));
  const last = found.length > items.length ? items.at(-1) : undefined;
  return { items, ...(last !== undefined && { next_cursor: cursorOf(last) }) };
}

/** Throws when the caller last read another version. */
export function requireVersion(what: string, expected: number | undefined, current: number): void {
  if (expected === undefined || expected === current) return;
  throw new AppError(
    'PRECONDITION_FAILED',
    `${what} is at version ${current}, not ${expected}; read it again and repeat the change`,
    {
      details: { current_version: current },
    },
  );
}
