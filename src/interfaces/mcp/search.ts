/**
 * The two tools that reach what is not listed. They are about MCP only: other surfaces list every operation.
 * `find_operations` is an operation of its own; `call_operation` is a detour to another one, which is what gets
 * authorised, confirmed and audited.
 */
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import { limits } from '../../core/limits.ts';
import { defineOperation, type AnyOperation } from '../../core/operation.ts';
import { definitionOf, schemaOf, type ToolDefinition } from './tools.ts';

const FOUND_DEFAULT = 5;
const FOUND_MAX = 20;

/** `searchable` is what one principal may run in one narrowing; so this operation is made per view. */
export function createFindOperations(searchable: readonly AnyOperation[]): AnyOperation {
  const index = searchable.map((operation) => ({ operation, words: wordsOf(operation) }));
  return defineOperation({
    name: 'find_operations',
    title: 'Find operations',
    description:
      'Searches every operation you may run, listed as a tool or not, by words of its name and description. Returns names and input schemas for call_operation.',
    permission: 'authenticated',
    confinement: 'harmless',
    effect: 'read',
    mcp: 'listed',
    toolset: 'system',
    http: { method: 'GET', path: '/v1/operations' },
    input: z.object({
      query: z.string().min(1).max(limits.shortText).describe('Words such as "rotate token"'),
      limit: z.int().min(1).max(FOUND_MAX).default(FOUND_DEFAULT).describe('How many to return'),
    }),
    output: z.object({
      operations: z.array(
        z.object({
          name: z.string(),
          title: z.string(),
          description: z.string(),
          input_schema: z.record(z.string(), z.unknown()),
        }),
      ),
    }),
    async handler({ query, limit }) {
      const wanted = split(query);
      const ranked = index
        .map(({ operation, words }) => ({ operation, score: scoreOf(words, wanted) }))
        .filter(({ score }) => score > 0)
        .sort((a, b) => b.score - a.score || (a.operation.name < b.operation.name ? -1 : 1));
      return { operations: ranked.slice(0, limit).map(({ operation }) => toFound(operation)) };
    },
  });
}

function toFound(operation: AnyOperation) {
  const { name, title, description, inputSchema } = definitionOf(operation);
  return { name, title, description, input_schema: inputSchema };
}

interface Words {
  name: ReadonlySet<string>;
  title: ReadonlySet<string>;
  description: ReadonlySet<string>;
}

const NAME_WEIGHT = 8;
const TITLE_WEIGHT = 4;
const DESCRIPTION_WEIGHT = 2;
const PART_WEIGHT = 1;

function wordsOf({ name, title, description }: AnyOperation): Words {
  return {
    name: new Set(split(name)),
    title: new Set(split(title)),
    description: new Set(split(description)),
  };
}

/** Lower case, and without the plural, so that "certificate" finds list_certificates. */
function split(text: string): string[] {
  return (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).map((word) =>
    word.length > 3 && word.endsWith('s') ? word.slice(0, -1) : word,
  );
}

function scoreOf({ name, title, description }: Words, wanted: readonly string[]): number {
  return wanted.reduce((sum, word) => {
    if (name.has(word)) return sum + NAME_WEIGHT;
    if (title.has(word)) return sum + TITLE_WEIGHT;
    if (description.has(word)) return sum + DESCRIPTION_WEIGHT;
    return sum + ([...name].some((part) => part.startsWith(word)) ? PART_WEIGHT : 0);
  }, 0);
}

const callInput = z.strictObject({
  name: z.string().min(1).max(limits.shortText).describe('Name as find_operations returned it'),
  arguments: z.record(z.string(), z.unknown()).default({}).describe('Arguments as in its input_schema'),
});

export const CALL_OPERATION = 'call_operation';

/** In a read-only view it reaches reading operations only, so its hints say so. */
export function callOperationDefinition(readOnly: boolean): ToolDefinition {
  const title = 'Call an operation';
  return {
    name: CALL_OPERATION,
    title,
    description: 'Runs an operation that find_operations returned, as if it were a tool of its own.',
    inputSchema: schemaOf(callInput, 'input'),
    annotations: {
      title,
      readOnlyHint: readOnly,
      destructiveHint: !readOnly,
      idempotentHint: readOnly,
      openWorldHint: true,
    },
  };
}

/** @throws AppError INVALID_INPUT that says what `call_operation` takes. */
export function parseCall(raw: unknown): z.output<typeof callInput> {
  const result = callInput.safeParse(raw ?? {});
  if (result.success) return result.data;
  const faults = result.error.issues.map(
    ({ path, message }) => `${path.join('.') || 'arguments'}: ${message}`,
  );
  throw new AppError('INVALID_INPUT', `${CALL_OPERATION}: ${faults.join('; ')}`, {
    cause: result.error,
    details: { valid_arguments: Object.keys(callInput.shape) },
  });
}
