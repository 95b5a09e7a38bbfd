/** OpenAPI 3.1 from the operations: the same flat input, split by where REST carries it. Served and committed. */
import { errorSurface, type ErrorCode } from '../core/errors.ts';
import { bundles } from '../core/permissions.ts';
import type { AnyOperation } from '../core/operation.ts';
import { argumentsOf, type Field, jsonSchemaOf, type JsonSchema } from './arguments.ts';

const SCHEME = 'bearer';
const json = (schema: JsonSchema) => ({ 'application/json': { schema } });

export function openApiOf(operations: readonly AnyOperation[], version: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) {
    const item = (paths[operation.http.path] ??= {});
    item[operation.http.method.toLowerCase()] = operationObject(operation);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'OAuth HTTPS Proxy',
      version,
      description:
        'The control plane of the HTTPS edge. The same operations are served as MCP tools at /mcp.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(operations.map(({ toolset }) => toolset))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        [SCHEME]: {
          type: 'http',
          scheme: 'bearer',
          description: `API token, \`ohp_…\`. Bundles of permissions: ${Object.keys(bundles).join(', ')}.`,
        },
      },
      schemas: { Error: errorSchema },
      responses: errorResponses(operations),
    },
  };
}

const errorSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'trace_id'],
      properties: {
        code: { type: 'string', enum: Object.keys(errorSurface), description: 'The contract' },
        message: { type: 'string', description: 'What to do next, in words that may change' },
        details: { type: 'object', description: 'Facts for a program' },
        trace_id: { type: 'string', description: 'Finds the call in the log' },
      },
    },
  },
};

function errorResponses(operations: readonly AnyOperation[]): JsonSchema {
  const codes = new Set(operations.flatMap(errorCodesOf));
  const entries = [...codes]
    .sort()
    .map((code) => [
      code,
      { description: errorSurface[code].meaning, content: json({ $ref: '#/components/schemas/Error' }) },
    ]);
  return Object.fromEntries(entries) as JsonSchema;
}

/** A setting decides whether what is public needs a credential, so for that one is optional. */
function securityOf({ permission }: AnyOperation): JsonSchema[] {
  return permission === 'public' ? [{}, { [SCHEME]: [] }] : [{ [SCHEME]: [permission] }];
}

function operationObject(operation: AnyOperation): JsonSchema {
  const { fields } = argumentsOf(operation);
  const body = fields.filter(({ place }) => place === 'body');
  return {
    operationId: operation.name,
    summary: operation.title,
    description: operation.description,
    tags: [operation.toolset],
    security: securityOf(operation),
    parameters: [
      ...fields.filter(({ place }) => place !== 'body').map(parameterOf),
      ...headerParameters(operation),
    ],
    ...(body.length > 0 && {
      requestBody: {
        required: body.some(({ required }) => required),
        content: json(bodySchema(body, operation)),
      },
    }),
    responses: responsesOf(operation),
  };
}

function parameterOf({ name, place, required, description, schema }: Field): JsonSchema {
  const { description: _, ...rest } = schema;
  return { name, in: place, required: place === 'path' || required, description, schema: rest };
}

function headerParameters({ input, effect }: AnyOperation): JsonSchema[] {
  const header = (name: string, description: string) => ({
    name,
    in: 'header',
    required: false,
    description,
    schema: { type: 'string' },
  });
  return [
    ...(effect !== 'read' && 'idempotency_key' in input.shape
      ? [header('Idempotency-Key', 'The same as idempotency_key')]
      : []),
    ...(effect !== 'read' && 'version' in input.shape
      ? [header('If-Match', 'The same as version, as the ETag that was answered: "3"')]
      : []),
  ];
}

function bodySchema(body: readonly Field[], operation: AnyOperation): JsonSchema {
  const required = body.filter((field) => field.required).map(({ name }) => name);
  return {
    type: 'object',
    properties: Object.fromEntries(body.map((field) => [field.name, propertyOf(field, operation)])),
    ...(required.length > 0 && { required }),
    additionalProperties: false,
  };
}

/**
 * What is secret is masked where it is typed, and said to be write-only where no answer has it.
 * @see {@link https://spec.openapis.org/oas/v3.1.0.html#data-type-format | OpenAPI 3.1, Data Type Format}
 * @see {@link https://json-schema.org/draft/2020-12/json-schema-validation#section-9.4 | JSON Schema Validation §9.4}
 */
function propertyOf({ name, secret, schema }: Field, { output }: AnyOperation): JsonSchema {
  if (!secret) return schema;
  return {
    ...schema,
    ...(schema.type === 'string' && { format: 'password' }),
    ...(!(name in output.shape) && { writeOnly: true }),
  };
}

function responsesOf(operation: AnyOperation): JsonSchema {
  const output = jsonSchemaOf(operation.output, 'output');
  const versioned = 'version' in operation.output.shape;
  const etag = { ETag: { description: 'Send as If-Match to change it', schema: { type: 'string' } } };
  const success = operation.effect === 'create' ? '201' : '200';
  const codes = errorCodesOf(operation).sort((a, b) => errorSurface[a].status - errorSurface[b].status);
  return {
    [success]: {
      description: operation.title,
      ...(versioned && { headers: etag }),
      content: contentOf(operation, output),
    },
    ...Object.fromEntries(
      codes.map((code) => [errorSurface[code].status, { $ref: `#/components/responses/${code}` }]),
    ),
  };
}

/** What takes long is also answered as events, to who accepts them: `progress`, then `result` or `error`. */
const contentOf = ({ task }: AnyOperation, output: JsonSchema) => ({
  ...json(output),
  ...(task && { 'text/event-stream': { schema: { type: 'string' } } }),
});

/** What any call may answer, and what this one can besides. */
function errorCodesOf({ permission, effect, http, input }: AnyOperation): ErrorCode[] {
  return [
    'INVALID_INPUT',
    'RATE_LIMITED',
    'INTERNAL',
    'UNAUTHENTICATED',
    ...(permission === 'public' ? [] : (['FORBIDDEN'] as const)),
    ...(http.path.includes('{') ? (['NOT_FOUND'] as const) : []),
    ...(effect === 'create' ? (['CONFLICT'] as const) : []),
    ...('version' in input.shape ? (['PRECONDITION_FAILED'] as const) : []),
    ...(http.method === 'GET' || http.method === 'DELETE' ? [] : (['TOO_LARGE'] as const)),
  ];
}
