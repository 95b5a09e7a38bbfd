/**
 * How the one flat input of an operation is carried where there are only strings: paths, query strings and command
 * lines. Read once from the operation's own schema. REST, OpenAPI and the CLI use it; MCP carries typed JSON and
 * does not.
 */
import { z } from 'zod';
import type { AnyOperation } from '../core/operation.ts';

export type JsonSchema = Record<string, unknown>;
type Kind = 'string' | 'number' | 'boolean' | 'null' | 'array' | 'object';

export interface Field {
  name: string;
  description: string;
  required: boolean;
  /** Where REST carries it. */
  place: 'path' | 'query' | 'body';
  /** Marked `.meta({ secret: true })`: never in a URL, a process list or a log. */
  secret: boolean;
  /** What a string may stand for. Empty: anything. */
  kinds: ReadonlySet<Kind>;
  /** For arrays: what the items may be. */
  itemKinds: ReadonlySet<Kind>;
  /** Values it is limited to, its items for an array; undefined when any goes. */
  choices: readonly string[] | undefined;
  schema: JsonSchema;
}

export interface Arguments {
  /** In the order of the path. */
  pathParams: readonly string[];
  /** Path parameters first, then in the order of the schema. */
  fields: readonly Field[];
  byName: ReadonlyMap<string, Field>;
}

export const pathParamsOf = (path: string): string[] =>
  [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);

const isSecret = (field: unknown): boolean => field instanceof z.ZodType && field.meta()?.secret === true;

/** JSON Schema for callers: what only concerns this program is taken out or said in words that others know. */
export function jsonSchemaOf(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    override: ({ jsonSchema }) => {
      delete jsonSchema.secret;
      delete jsonSchema.argv;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return rest;
}

export function argumentsOf(operation: AnyOperation): Arguments {
  const pathParams = pathParamsOf(operation.http.path);
  const { properties, required } = jsonSchemaOf(operation.input, 'input');
  const requiredNames = new Set(required as string[] | undefined);
  const elsewhere = carriesBody(operation) ? 'body' : 'query';
  const fields = Object.entries((properties ?? {}) as Record<string, JsonSchema>).map(
    ([name, schema]): Field => ({
      name,
      description: typeof schema.description === 'string' ? schema.description : '',
      required: requiredNames.has(name),
      place: pathParams.includes(name) ? 'path' : elsewhere,
      secret: isSecret(operation.input.shape[name]),
      kinds: kindsOf(schema),
      itemKinds: itemKindsOf(schema),
      choices: choicesOf(schema),
      schema,
    }),
  );
  const byName = new Map(fields.map((field) => [field.name, field]));
  const inPath = pathParams.flatMap((name) => byName.get(name) ?? []);
  return { pathParams, fields: [...inPath, ...fields.filter(({ place }) => place !== 'path')], byName };
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-9.3.5 | RFC 9110 §9.3.5}: a body of DELETE has no meaning. */
export const carriesBody = ({ http: { method } }: AnyOperation): boolean =>
  method !== 'GET' && method !== 'DELETE';

/** Turns the strings of one argument into what its schema asks for. What does not fit stays, for validation to report. */
export function fromStrings(field: Field, values: readonly string[]): unknown {
  const { kinds } = field;
  const [first = '', ...more] = values;
  if (more.length === 0 && kinds.has('null') && first === 'null') return null;
  if (kinds.has('array') && !(more.length === 0 && first.startsWith('[')))
    return values.map((value) => fromString(field.itemKinds, value));
  return more.length === 0 ? fromString(kinds, first) : values;
}

function fromString(kinds: ReadonlySet<Kind>, text: string): unknown {
  if (kinds.has('boolean') && (text === 'true' || text === 'false')) return text === 'true';
  if (kinds.has('number') && isNumber(text)) return Number(text);
  const start = text.trimStart().charAt(0);
  if ((kinds.has('object') && start === '{') || (kinds.has('array') && start === '['))
    return parsed(text) ?? text;
  return text;
}

/** Decimal only: `0x10`, ` 1` and `1e3` are texts that `Number` would read as something. */
const isNumber = (text: string): boolean => /^-?\d{1,15}(?:\.\d{1,15})?$/.test(text);

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Stays text, so that validation names the argument.
  }
}

const alternativesOf = (schema: JsonSchema): JsonSchema[] =>
  ((schema.anyOf ?? schema.oneOf) as JsonSchema[] | undefined)?.flatMap(alternativesOf) ?? [schema];

function kindsOf(schema: JsonSchema): ReadonlySet<Kind> {
  const types = alternativesOf(schema).flatMap(({ type }) => type ?? []) as string[];
  return new Set(types.map((type) => (type === 'integer' ? 'number' : type) as Kind));
}

const itemsOf = (schema: JsonSchema): JsonSchema | undefined =>
  alternativesOf(schema).find(({ type }) => type === 'array')?.items as JsonSchema | undefined;

function itemKindsOf(schema: JsonSchema): ReadonlySet<Kind> {
  const items = itemsOf(schema);
  return items ? kindsOf(items) : new Set();
}

function choicesOf(schema: JsonSchema): readonly string[] | undefined {
  const alternatives = alternativesOf(itemsOf(schema) ?? schema);
  const isChoice = alternatives.some((one) => one.enum ?? 'const' in one);
  const values = alternatives.map(valuesOf);
  return isChoice && !values.includes(undefined) ? values.flat().map(String) : undefined;
}

function valuesOf(one: JsonSchema): unknown[] | undefined {
  if (one.enum) return one.enum as unknown[];
  if ('const' in one) return [one.const];
  // Beside a choice, what matches a pattern is described by how it is written.
  return 'pattern' in one && one.description !== undefined ? [one.description] : undefined;
}
