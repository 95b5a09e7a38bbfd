/** Operations as MCP tools: their names, schemas and hints. Made once at start. */
import { z } from 'zod';
import { type AnyOperation, isDestructive } from '../../core/operation.ts';
import { type Icon, toolsetIcons } from './icons.ts';
import { hasOnly, isRecord, type JsonObject } from './message.ts';

/** As the SDK's `Tool`, which wants its members mutable. */
export interface ToolDefinition {
  name: string;
  title: string;
  description: string;
  inputSchema: { type: 'object'; [keyword: string]: unknown };
  outputSchema?: { type: 'object'; [keyword: string]: unknown };
  annotations: {
    title: string;
    readOnlyHint: boolean;
    destructiveHint: boolean;
    idempotentHint: boolean;
    openWorldHint: boolean;
  };
  icons?: Icon[];
  [member: string]: unknown;
}

export function definitionOf(operation: AnyOperation): ToolDefinition {
  const { name, title, description, input, output } = operation;
  return {
    name,
    title,
    description,
    inputSchema: schemaOf(input, 'input'),
    outputSchema: schemaOf(output, 'output'),
    annotations: { title, ...hintsOf(operation) },
    icons: [toolsetIcons[operation.toolset]],
  };
}

function hintsOf(operation: AnyOperation) {
  const { effect, idempotent, untrusted } = operation;
  const isRead = effect === 'read';
  return {
    readOnlyHint: isRead,
    destructiveHint: isDestructive(operation),
    idempotentHint: isRead || effect === 'delete' || idempotent === true,
    openWorldHint: untrusted === true,
  };
}

/** Without `$schema`: at least one current client refuses every dialect but draft-07 when it is named. */
export function schemaOf(schema: z.ZodType, io: 'input' | 'output'): { type: 'object' } & JsonObject {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  // That unknown arguments are refused is said once, of all of them. A result may gain members; a client that checks
  // results should not fail then.
  const closed = io === 'input' && rest.additionalProperties === false && { additionalProperties: false };
  return { ...simplified(rest), type: 'object', ...closed };
}

/** No honest call comes near bounds like these; who does is told them. */
const UNREACHED_CHARACTERS = 128;
const UNREACHED_NUMBER = 1_000_000;

/** Without what a model reads and nobody needs: what is said twice, what is ours alone, bounds of every integer. */
function simplified(schema: JsonObject): JsonObject {
  const kept = Object.entries(schema).filter(([keyword, value]) => isNeeded(keyword, value));
  const made = kept.map(([keyword, value]) => [keyword, simplifiedIn(keyword, value)]);
  return withoutEcho(Object.fromEntries(made) as JsonObject);
}

function isNeeded(keyword: string, value: unknown): boolean {
  switch (keyword) {
    case 'secret': // Keywords of this program: what is so marked is redacted in the audit record, or shown in a question.
    case 'argv':
      return false;
    case 'propertyNames': // Texts in every JSON document.
      return !isRecord(value) || !hasOnly(value, TYPE);
    case 'default':
      return typeof value !== 'object' || value === null || Object.keys(value).length > 0;
    case 'minLength':
      return value !== 1;
    case 'maxLength':
      return Number(value) < UNREACHED_CHARACTERS;
    case 'minimum':
      return value !== Number.MIN_SAFE_INTEGER;
    case 'maximum':
      return Number(value) < UNREACHED_NUMBER;
    case 'additionalProperties': // Only where it is the schema of a map's values.
      return isRecord(value) && Object.keys(value).length > 0;
    default:
      return true;
  }
}

const TYPE: ReadonlySet<string> = new Set(['type']);

function simplifiedIn(keyword: string, value: unknown): unknown {
  if (keyword === 'properties' && isRecord(value)) {
    const members = Object.entries(value).map(([name, member]) => [name, simplifiedIn('items', member)]);
    return Object.fromEntries(members) as JsonObject;
  }
  if (LISTS.has(keyword) && Array.isArray(value)) return value.map((one) => simplifiedIn('items', one));
  return NESTED.has(keyword) && isRecord(value) ? simplified(value) : value;
}

const LISTS: ReadonlySet<string> = new Set(['anyOf', 'oneOf', 'allOf']);
const NESTED: ReadonlySet<string> = new Set(['items', 'additionalProperties', 'propertyNames', 'not']);

/** What is said of all alternatives together is not said of one of them again. */
function withoutEcho(schema: JsonObject): JsonObject {
  const { anyOf, description } = schema;
  if (description === undefined || !Array.isArray(anyOf)) return schema;
  return { ...schema, anyOf: anyOf.map(({ description: _echo, ...one }: JsonObject) => one) };
}
