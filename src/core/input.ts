/**
 * Arguments from outside to what a schema makes of them, or words with which a person or a model can send the right
 * ones: which argument, what it has to be, what was found. What a schema says itself is kept; the rest is worded here.
 * Values of secret arguments are never repeated. Called by `dispatch`, and by whoever checks arguments before it.
 */
import { z } from 'zod';
import { AppError } from './errors.ts';
import { limits } from './limits.ts';
import { cleanText } from './untrusted.ts';

/** A caller mends a few at a time; of a body that is wrong everywhere the rest is counted. */
const MAX_FAULTS = 8;
/** Characters of a value or a name that is repeated to the caller. */
const MAX_SHOWN = 60;
/** In place of the message of an issue that its schema says nothing about. */
const UNWORDED = '';

type Issue = z.core.$ZodIssue;
type Schema = Readonly<Record<string, unknown>>;

/** @throws AppError INVALID_INPUT that names each fault, and the valid arguments when one is unknown. */
export function parseArguments<Input extends z.ZodObject>(
  name: string,
  schema: Input,
  raw: unknown,
): z.output<Input> {
  const given = raw ?? {};
  if (isTooMuch(given))
    throw new AppError('INVALID_INPUT', `${name}: arguments: more than ${limits.jsonValues} values in all`);
  const result = schema.safeParse(given, { error: () => UNWORDED });
  if (result.success) return result.data;
  const issues = firstPerPlace(result.error.issues);
  const wrong = issues.slice(0, MAX_FAULTS);
  const faults = wrong.map((issue) => faultOf(issue, schema, given));
  const more = issues.length > MAX_FAULTS ? [`and ${issues.length - MAX_FAULTS} more`] : [];
  const hasUnknown = issues.some(({ code, path }) => code === 'unrecognized_keys' && path.length === 0);
  throw new AppError('INVALID_INPUT', `${name}: ${[...merged(faults), ...more].join('; ')}`, {
    cause: result.error,
    details: {
      arguments: [...new Set(wrong.flatMap(namesOf))],
      ...(hasUnknown && { valid_arguments: Object.keys(schema.shape) }),
    },
  });
}

function isTooMuch(given: unknown): boolean {
  const values = [given];
  for (const value of values) {
    if (typeof value === 'object' && value !== null)
      for (const inner of Object.values(value)) values.push(inner);
    if (values.length > limits.jsonValues) return true;
  }
  return false;
}

/** What is of the wrong type has no right length either: the first fault of an argument is the one to mend. */
function firstPerPlace(issues: readonly Issue[]): Issue[] {
  const seen = new Set<string>();
  return issues.filter(({ path, code }) => {
    const place = JSON.stringify([...path.map(String), code === 'unrecognized_keys']);
    if (seen.has(place)) return false;
    seen.add(place);
    return true;
  });
}

const pathText = (path: readonly PropertyKey[]): string =>
  path.map((key) => cleanText(String(key), MAX_SHOWN)).join('.');

/** Of unknown arguments each, of others the one. */
const namesOf = (issue: Issue): string[] =>
  issue.code === 'unrecognized_keys'
    ? issue.keys.slice(0, MAX_FAULTS).map((key) => pathText([...issue.path, key]))
    : [pathText(issue.path)];

interface Fault {
  /** Path of the argument, or of what holds an unknown one. */
  where: string;
  /** What follows the path. */
  says: string;
  found?: string | undefined;
}

/** Items of a list are often wrong in the same way; what they have to be is said once. */
function merged(faults: readonly Fault[]): string[] {
  const groups = Map.groupBy(faults, ({ says }) => says);
  return [...groups].map(([says, group]) => {
    const found = group.flatMap((fault) => fault.found ?? []);
    const where = group.map((fault) => fault.where).filter((path) => path !== '');
    const begin = where.length > 0 ? `${where.join(', ')}: ` : '';
    return `${begin}${says}${found.length > 0 ? ` (found ${[...new Set(found)].join(', ')})` : ''}`;
  });
}

function faultOf(issue: Issue, schema: z.ZodObject, given: unknown): Fault {
  const where = pathText(issue.path);
  if (issue.message !== UNWORDED) return { where, says: issue.message };
  if (issue.code === 'unrecognized_keys') return unknownNames(issue, schema, where);
  if (issue.path.length === 0)
    return { where: 'arguments', says: 'has to be an object', found: kindOf(given) };
  const place = placeOf(jsonSchemaOf(schema), issue.path);
  const value = valueAt(given, issue.path);
  if (issue.code === 'invalid_key') return { where, says: keyWords(issue) };
  if (value === undefined) return { where, says: missingWords(issue, place.schema) };
  const found = place.isSecret ? kindOf(value) : shown(issue, value);
  return { where, says: wantedWords(issue, place.schema), found };
}

function unknownNames(
  issue: Issue & { code: 'unrecognized_keys' },
  schema: z.ZodObject,
  where: string,
): Fault {
  const names = issue.keys.slice(0, MAX_FAULTS).map((key) => JSON.stringify(cleanText(key, MAX_SHOWN)));
  const more = issue.keys.length > MAX_FAULTS ? ` and ${issue.keys.length - MAX_FAULTS} more` : '';
  const place = placeOf(jsonSchemaOf(schema), issue.path).schema;
  const valid = [...new Set(alternativesOf(place).flatMap((one) => Object.keys(propertiesOf(one))))];
  if (where !== '')
    return { where: namesOf(issue).join(', '), says: `unknown${more} (valid there: ${valid.join(', ')})` };
  const allowed = valid.length > 0 ? `valid arguments are ${valid.join(', ')}` : 'it takes no arguments';
  return { where, says: `unknown argument ${names.join(', ')}${more} (${allowed})` };
}

/** A name in a map has rules of its own; the first of them that it breaks says so. */
function keyWords({ issues: [first] }: Issue & { code: 'invalid_key' }): string {
  return first && first.message !== UNWORDED ? `the name ${first.message}` : 'the name is not acceptable';
}

function missingWords(issue: Issue, schema: Schema | undefined): string {
  const about = typeof schema?.description === 'string' ? `: ${schema.description}` : '';
  return `is missing and required (${allowedBy(issue, schema)}${about})`;
}

/** Of a union that is told apart by one member only the issue knows all values of that member. */
function allowedBy(issue: Issue, schema: Schema | undefined): string {
  if (issue.code === 'invalid_union' && 'options' in issue && Array.isArray(issue.options))
    return `one of ${issue.options.join(', ')}`;
  return wordsFor(schema);
}

function wantedWords(issue: Issue, schema: Schema | undefined): string {
  const { code } = issue;
  if (code === 'too_small' || code === 'too_big') return sizeWords(issue, schema);
  if (code === 'not_multiple_of') return `has to be a multiple of ${issue.divisor}`;
  if (code !== 'invalid_format') return `has to be ${allowedBy(issue, schema)}`;
  return issue.format === 'regex'
    ? `has to match ${String(issue.pattern)}`
    : `has to be a valid ${issue.format}`;
}

const UNITS: Readonly<Record<string, readonly [unit: string, least: string, most: string]>> = {
  string: ['characters', 'minLength', 'maxLength'],
  array: ['items', 'minItems', 'maxItems'],
};

/** Both bounds at once, so that mending one fault does not lead into the other. */
function sizeWords(issue: Issue & { code: 'too_small' | 'too_big' }, schema: Schema | undefined): string {
  const [unit, least = '', most = ''] = UNITS[issue.origin] ?? [];
  if (unit === undefined) return `has to be ${wordsFor(schema)}`;
  const sized = alternativesOf(schema).find((one) => least in one || most in one);
  const own = issue.code === 'too_small' ? issue.minimum : issue.maximum;
  return `has to have ${rangeOf(sized?.[least], sized?.[most]) ?? own} ${unit}`;
}

/** What the schema allows, in a few words. */
function wordsFor(schema: Schema | undefined): string {
  if (schema === undefined) return 'something else';
  const alternatives = alternativesOf(schema);
  if (alternatives.length > 1) return [...new Set(alternatives.map(wordsFor))].join(' or ');
  const [only = schema] = alternatives;
  if (Array.isArray(only.enum)) return `one of ${only.enum.join(', ')}`;
  if ('const' in only) return String(only.const);
  switch (only.type) {
    case 'string':
      return 'text';
    case 'integer':
      return numberWords('a whole number', only);
    case 'number':
      return numberWords('a number', only);
    case 'boolean':
      return 'true or false';
    case 'array':
      return `a list, each item ${wordsFor(asSchema(only.items))}`;
    case 'object':
      return objectWords(only);
    default:
      return typeof only.type === 'string' ? only.type : 'a value';
  }
}

function numberWords(what: string, { minimum, maximum }: Schema): string {
  const range = rangeOf(minimum, maximum);
  return range === undefined ? what : `${what}, ${range}`;
}

function objectWords(schema: Schema): string {
  const members = Object.entries(propertiesOf(schema)).map(([name, member]) =>
    'const' in member ? `${name}: ${String(member.const)}` : name,
  );
  return members.length > 0 ? `an object with ${members.join(', ')}` : 'an object';
}

/** Integers that zod bounds by what a number can hold exactly are not bounded for anybody. */
function rangeOf(least: unknown, most: unknown): string | undefined {
  const isLeast = typeof least === 'number' && least !== Number.MIN_SAFE_INTEGER;
  const isMost = typeof most === 'number' && most !== Number.MAX_SAFE_INTEGER;
  if (isLeast && isMost) return `${least} to ${most}`;
  if (isLeast) return `at least ${least}`;
  return isMost ? `at most ${most}` : undefined;
}

/** A text is repeated only where it is one of few: there the caller sees what was misspelt. */
function shown({ code }: Issue, value: unknown): string {
  const isChoice = code === 'invalid_value' || code === 'invalid_union';
  if (typeof value === 'string' && isChoice) return JSON.stringify(cleanText(value, MAX_SHOWN));
  const isSize = code === 'too_small' || code === 'too_big';
  if (isSize && (typeof value === 'string' || Array.isArray(value))) return String(value.length);
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : kindOf(value);
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return 'text';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

const valueAt = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (inner, key) =>
      typeof inner === 'object' && inner !== null && Object.hasOwn(inner, key)
        ? Reflect.get(inner, key)
        : undefined,
    value,
  );

const jsonSchemas = new WeakMap<z.ZodObject, Schema>();

/** A JSON Schema has one shape for what zod wraps in many; made once per schema, and only for one that was broken. */
function jsonSchemaOf(schema: z.ZodObject): Schema {
  const known = jsonSchemas.get(schema);
  if (known) return known;
  const made: Schema = { ...z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) };
  jsonSchemas.set(schema, made);
  return made;
}

/** Undefined where the schema says nothing about it. Within what is secret, everything is. */
function placeOf(
  root: Schema,
  path: readonly PropertyKey[],
): { schema: Schema | undefined; isSecret: boolean } {
  let schema: Schema | undefined = root;
  let isSecret = false;
  for (const key of path) {
    schema = alternativesOf(schema)
      .map((one) => memberOf(one, key))
      .find((member) => member !== undefined);
    isSecret ||= schema?.secret === true;
  }
  return { schema, isSecret };
}

function memberOf(schema: Schema, key: PropertyKey): Schema | undefined {
  if (typeof key === 'number') return asSchema(schema.items);
  const properties = propertiesOf(schema);
  const name = String(key);
  return Object.hasOwn(properties, name) ? properties[name] : asSchema(schema.additionalProperties);
}

function alternativesOf(schema: Schema | undefined): readonly Schema[] {
  const alternatives = schema?.anyOf ?? schema?.oneOf;
  // Schemas that zod wrote: the members of both keywords are schemas.
  if (Array.isArray(alternatives)) return (alternatives as Schema[]).flatMap(alternativesOf);
  if (!schema) return [];
  return Array.isArray(schema.type) ? schema.type.map((type) => ({ ...schema, type })) : [schema];
}

const asSchema = (value: unknown): Schema | undefined =>
  typeof value === 'object' && value !== null ? (value as Schema) : undefined;

const propertiesOf = ({ properties }: Schema): Readonly<Record<string, Schema>> =>
  // As above.
  (asSchema(properties) ?? {}) as Readonly<Record<string, Schema>>;
