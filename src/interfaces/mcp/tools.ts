/** Operations as MCP tools: their names, schemas and hints. Made once at start. */
import { z } from 'zod';
import type { AnyOperation } from '../../core/operation.ts';
import type { JsonObject } from './message.ts';

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
  };
}

function hintsOf({ effect, idempotent, untrusted }: AnyOperation) {
  const isRead = effect === 'read';
  return {
    readOnlyHint: isRead,
    destructiveHint: effect === 'update' || effect === 'delete',
    idempotentHint: isRead || effect === 'delete' || idempotent === true,
    openWorldHint: untrusted === true,
  };
}

/** Without `$schema`: at least one current client refuses every dialect but draft-07 when it is named. */
export function schemaOf(schema: z.ZodType, io: 'input' | 'output'): { type: 'object' } & JsonObject {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    override: ({ jsonSchema }) => simplify(jsonSchema, io),
  });
  return { ...rest, type: 'object' };
}

/** Takes out what a model reads and nobody needs: the bounds of every integer, and closed objects in results. */
function simplify(schema: JsonObject, io: 'input' | 'output'): void {
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  // A result may gain members; a client that checks results should not fail then.
  if (io === 'output' && schema.additionalProperties === false) delete schema.additionalProperties;
}
