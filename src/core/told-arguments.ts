/**
 * The arguments of a call in words: for its record, which is kept, and for the person who is asked about it, who came
 * with them. Arguments marked `.meta({ secret: true })` are named in both and shown in neither, but for a program that
 * is run (`argv: true`): nobody can agree to one that is not shown. Called by `dispatch`.
 */
import { z } from 'zod';
import { limits } from './limits.ts';
import type { AnyOperation } from './operation.ts';
import { cleanText } from './untrusted.ts';

const REDACTED = '[redacted]';

type Input = Record<string, unknown>;
/** What stands for the value of a secret argument. */
type Mask = (field: unknown, value: unknown) => unknown;

/** For a record; what is longer than a record takes is cut. */
export function recordedArguments(operation: AnyOperation, input: Input | undefined): string | undefined {
  return input && textOf(operation, input, () => REDACTED).slice(0, limits.auditArguments);
}

/** For a question. What does not fit is counted, so that nobody takes a part for the whole. */
export function askedArguments(operation: AnyOperation, input: Input): string {
  const text = textOf(operation, input, (field, value) => (isArgv(field) ? value : namesIn(value)));
  const hidden = text.length - limits.auditArguments;
  const shown = `${operation.name} ${cleanText(text, limits.auditArguments)}`;
  if (hidden <= 0) return shown;
  return `${shown}\n\nNOT SHOWN HERE: ${hidden} more characters of these arguments. Say no unless you know what they are; the command line runs the call without this question.`;
}

function textOf({ input: schema }: AnyOperation, input: Input, mask: Mask): string {
  const secrets = secretsOf(schema);
  if (secrets.size === 0) return JSON.stringify(input);
  const told = Object.entries(input).map(([key, value]) => [
    key,
    secrets.has(key) ? mask(secrets.get(key), value) : value,
  ]);
  return JSON.stringify(Object.fromEntries(told));
}

/** Such as the variables of an environment, without what they are set to. null takes something off. */
function namesIn(value: unknown): unknown {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(namesIn);
  if (typeof value !== 'object') return REDACTED;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, namesIn(inner)]));
}

const secretsBySchema = new WeakMap<z.ZodObject, ReadonlyMap<string, unknown>>();

function secretsOf(schema: z.ZodObject): ReadonlyMap<string, unknown> {
  const known = secretsBySchema.get(schema);
  if (known) return known;
  const fields: Readonly<Record<string, unknown>> = schema.shape;
  const secrets = new Map(Object.entries(fields).filter(([, field]) => metaOf(field)?.secret === true));
  secretsBySchema.set(schema, secrets);
  return secrets;
}

const isArgv = (field: unknown): boolean => metaOf(field)?.argv === true;
const metaOf = (field: unknown) => (field instanceof z.ZodType ? field.meta() : undefined);
