/** Forms that are common in answers of Docker and Podman, and what is said of an answer that has another. */
import { z } from 'zod';
import { AppError } from '../core/errors.ts';

export const labels = z
  .record(z.string(), z.string())
  .nullish()
  .transform((found) => found ?? {});
export const strings = z
  .array(z.string())
  .nullish()
  .transform((found) => found ?? []);
export const keys = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((found) => Object.keys(found ?? {}));
/** Docker takes one text for a list of it. */
export const words = z
  .union([z.array(z.string()), z.string()])
  .nullish()
  .transform((found) => (typeof found === 'string' ? [found] : (found ?? [])));
export const number = z
  .number()
  .nullish()
  .transform((found) => found ?? 0);
/** The year 1 is Docker's word for never. */
export const moment = z
  .string()
  .nullish()
  .transform((found) => {
    const time = found ? Date.parse(found) : Number.NaN;
    return time > 0 ? time : undefined;
  });
export const filled = z
  .string()
  .nullish()
  .transform((found) => (found ? found : undefined));
export const unlessZero = z
  .number()
  .nullish()
  .transform((found) => (found !== undefined && found !== null && found > 0 ? found : undefined));

/** Podman says it without `sha256:`. */
export const imageIdOf = (id: string): string => (/^[0-9a-f]{64}$/.test(id) ? `sha256:${id}` : id);

const errorSchema = z.object({ message: z.string() });

/** What the engine says of its refusal. */
export function messageIn(text: string): string {
  try {
    return errorSchema.safeParse(JSON.parse(text)).data?.message ?? text;
  } catch {
    // No JSON: then its text is the message.
    return text;
  }
}

const NOT_KNOWN = 'the container engine answered something this system does not know';

export function parseAnswer<Schema extends z.ZodType>(schema: Schema, text: string): z.output<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('UPSTREAM_FAILED', NOT_KNOWN, { cause });
  }
  return checkAnswer(schema, value);
}

export function checkAnswer<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new AppError('UPSTREAM_FAILED', NOT_KNOWN, { cause: result.error });
}
