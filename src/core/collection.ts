/** What every list has in common: a limit, an opaque cursor, and the fields with which changes are made safe. */
import { z } from 'zod';
import { AppError } from './errors.ts';
import { limits } from './limits.ts';

export const limitField = z
  .int()
  .min(1)
  .max(limits.pageSize)
  .default(limits.pageSizeDefault)
  .describe(`How many to return (1 to ${limits.pageSize})`);

export const cursorField = z
  .string()
  .max(1024)
  .optional()
  .describe('next_cursor of the page before; leave out for the first page');

export const nextCursorField = z
  .string()
  .optional()
  .describe('Pass as cursor to get the next page; absent on the last one');

export const versionField = z
  .int()
  .min(1)
  .optional()
  .describe(
    'Version you last read; the change is refused if it has changed since. Leave out to change whatever is there',
  );

export const idempotencyKeyField = z
  .string()
  .min(8)
  .max(limits.idempotencyKey)
  .optional()
  .describe(
    'Any unique text; repeating the same call with it returns the first result instead of creating twice',
  );

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
