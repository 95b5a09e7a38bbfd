/**
 * The two tools that reach what is not listed. They are about MCP only: other surfaces list every operation.
 * `find_operations` is an operation of its own; `call_operation` is a detour to another one, which is what gets
 * authorised, confirmed and audited.
 */
import { z } from 'zod';
import { parseArguments } from '../../core/input.ts';
import { limits } from '../../core/limits.ts';
import { defineOperation, type AnyOperation } from '../../core/operation.ts';
import { toolsetIcons } from './icons.ts';
import { definitionOf, schemaOf, type ToolDefinition } from './tools.ts';

const FOUND_DEFAULT = 5;
const FOUND_MAX = 20;
/** So few are shown whole: the next call can be the operation itself. */
const WHOLE_MAX = 2;
/** Of one answer as JSON; about 1,600 tokens. The largest schema there is fits. */
export const MAX_ANSWER_CHARACTERS = 6400;
/** Of the names that are told when nothing matches. */
const MAX_NAMES_CHARACTERS = 2000;

/** `searchable` is what one principal may run in one narrowing; so this operation is made per view. */
export function createFindOperations(searchable: readonly AnyOperation[]): AnyOperation {
  const index = searchable.map((operation) => ({ operation, words: wordsOf(operation) }));
  return defineOperation({
    name: 'find_operations',
    title: 'Find operations',
    description:
      'Finds operations by words of their names and descriptions, also those that are not listed as tools: name, purpose and required arguments. With an exact name as query also its input schema, for call_operation.',
    permission: 'authenticated',
    confinement: 'harmless',
    effect: 'read',
    mcp: 'listed',
    toolset: 'system',
    http: { method: 'GET', path: '/v1/operations' },
    input: z.object({
      query: z
        .string()
        .min(1)
        .max(limits.shortText)
        .describe('Words such as "rotate token", or a name such as rotate_token'),
      limit: z.int().min(1).max(FOUND_MAX).default(FOUND_DEFAULT).describe('How many'),
    }),
    output: z.object({
      operations: z.array(foundSchema).describe('Best match first'),
      hint: z.string().optional().describe('How to see more'),
    }),
    async handler({ query, limit }) {
      const named = searchable.find(({ name }) => isNamed(name, query));
      return answerOf(named ? [named] : rank(index, query), limit, searchable);
    },
  });
}

const foundSchema = z.object({
  name: z.string(),
  description: z.string(),
  required: z.array(z.string()).describe('Arguments that a call has to have'),
  input_schema: z
    .record(z.string(), z.unknown())
    .optional()
    .describe('Only where few match or one was named'),
});
type Found = z.output<typeof foundSchema>;

function answerOf(
  ranked: readonly AnyOperation[],
  limit: number,
  all: readonly AnyOperation[],
): { operations: Found[]; hint?: string } {
  if (ranked.length === 0) return { operations: [], hint: `Nothing matches. There are: ${namesOf(all)}` };
  const isWhole = ranked.length <= WHOLE_MAX;
  const shown: Found[] = [];
  let left = MAX_ANSWER_CHARACTERS - ENVELOPE_CHARACTERS;
  for (const operation of ranked.slice(0, limit)) {
    const row = fitting(operation, isWhole, left);
    if (row === undefined) break;
    left -= JSON.stringify(row).length + 1;
    shown.push(row);
  }
  const more = ranked.length - shown.length;
  const hints = [
    ...(more > 0 ? [`${more} more match: add words, or raise limit (${FOUND_MAX} at most).`] : []),
    ...(shown.some((row) => !row.input_schema) ? ['Its exact name as query shows an input schema.'] : []),
  ];
  return { operations: shown, ...(hints.length > 0 && { hint: hints.join(' ') }) };
}

/** For the hint and the brackets around the rows. */
const ENVELOPE_CHARACTERS = 200;

/** Whole where that is wanted and fits, else in short; undefined when neither does. */
function fitting(operation: AnyOperation, isWhole: boolean, left: number): Found | undefined {
  const rows = [...(isWhole ? [wholeOf(operation)] : []), shortOf(operation)];
  return rows.find((row) => JSON.stringify(row).length < left);
}

function wholeOf(operation: AnyOperation): Found {
  const { name, description, inputSchema } = definitionOf(operation);
  return { name, description, required: requiredOf(inputSchema), input_schema: inputSchema };
}

function shortOf(operation: AnyOperation): Found {
  const { name, description, inputSchema } = definitionOf(operation);
  return { name, description: firstSentence(description), required: requiredOf(inputSchema) };
}

const requiredOf = ({ required }: ToolDefinition['inputSchema']): string[] =>
  Array.isArray(required) ? required.map(String) : [];

const firstSentence = (text: string): string => /^.*?\.(?= |$)/.exec(text)?.[0] ?? text;

function namesOf(operations: readonly AnyOperation[]): string {
  const names = operations.map(({ name }) => name).join(', ');
  return names.length <= MAX_NAMES_CHARACTERS ? names : `${names.slice(0, MAX_NAMES_CHARACTERS)}…`;
}

/** The name alone, spelt as a tool or as a command, or anywhere among other words. */
function isNamed(name: string, query: string): boolean {
  const text = query.toLowerCase();
  if (text.trim().replace(/[\s-]+/g, '_') === name) return true;
  return name.includes('_') && text.split(/[^a-z_]+/).includes(name);
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

/** Best first, and none that fits the words less than half as well as the best. */
function rank(
  index: readonly { operation: AnyOperation; words: Words }[],
  query: string,
): readonly AnyOperation[] {
  const wanted = split(query);
  const scored = index
    .map(({ operation, words }) => ({ operation, score: scoreOf(words, wanted) }))
    .sort((a, b) => b.score - a.score || (a.operation.name < b.operation.name ? -1 : 1));
  const least = (scored[0]?.score ?? 0) / 2;
  return scored.filter(({ score }) => score > least).map(({ operation }) => operation);
}

function wordsOf({ name, title, description }: AnyOperation): Words {
  return {
    name: new Set(split(name)),
    title: new Set(split(title)),
    description: new Set(split(description)),
  };
}

/** Words that are in every question and every description, and tell nothing apart. */
const FILLERS: ReadonlySet<string> = new Set(
  'a all an and are at by can do for from how i in is it its me my of on one or show that the this to what which with'.split(
    ' ',
  ),
);

/** Lower case, and without the plural, so that "certificate" finds list_certificates. */
function split(text: string): string[] {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.filter((word) => !FILLERS.has(word)).map(singular);
}

function singular(word: string): string {
  if (word.length > 4 && word.endsWith('ies')) return `${word.slice(0, -3)}y`;
  return word.length > 3 && word.endsWith('s') ? word.slice(0, -1) : word;
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
  arguments: z
    .record(z.string(), z.unknown())
    .default({})
    .describe('Arguments of that operation, as in its input_schema'),
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
    icons: [toolsetIcons.system],
  };
}

/** @throws AppError INVALID_INPUT that says what `call_operation` takes. */
export const parseCall = (raw: unknown): z.output<typeof callInput> =>
  parseArguments(CALL_OPERATION, callInput, raw);
