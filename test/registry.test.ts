/** What every operation has to have. The registry is walked, so that a new operation can't forget any of it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { idempotencyKeyField, versionField } from '../src/core/collection.ts';
import { type AnyOperation, toolsets } from '../src/core/operation.ts';
import { permissions } from '../src/core/permissions.ts';
import { system } from '../src/core/principal.ts';
import { argumentsOf, pathParamsOf } from '../src/interfaces/arguments.ts';
import { commandWordsOf, optionsOf } from '../src/interfaces/cli/arguments.ts';
import { createProfile } from '../src/interfaces/mcp/profile.ts';
import { schemaOf } from '../src/interfaces/mcp/tools.ts';
import { createViews } from '../src/interfaces/mcp/views.ts';
import { openApiOf } from '../src/interfaces/openapi.ts';
import { createRestInterface } from '../src/interfaces/rest.ts';
import { operations as declared } from '../src/operations.ts';

const operations: readonly AnyOperation[] = declared;

const VERBS = [
  'list',
  'get',
  'create',
  'update',
  'delete',
  'import',
  'request',
  'renew',
  'cancel',
  'explain',
  'export',
  'revoke',
  'rotate',
  'set',
  'test',
  'diagnose',
  'tail',
  'search',
  'run',
  'protect',
  'unprotect',
  'start',
  'stop',
  'restart',
  'pull',
  'clean',
  'publish',
  'unpublish',
  'accept',
  'verify',
  'acknowledge',
  'capture',
];
/** Named by the product's contract, not by the grammar. */
const OTHER_NAMES = ['echo', 'health_check', 'whoami', 'why_denied', 'what_changed'];
/**
 * Everyone may end what is their own; what is somebody else's, the service refuses. What may be run is told to who may run it.
 */
const OF_THE_CALLER: ReadonlySet<string> = new Set(['revoke_grant', 'list_commands']);

/** What they tell is for who could change it, and for no other reader. */
const READ_BY_WRITERS: ReadonlySet<string> = new Set(['get_capture', 'list_captures', 'get_diagnostics']);

/** What is created as a container asked for it, whoever made that: a person is asked before. */
const OF_STRANGERS: ReadonlySet<string> = new Set(['accept_proposal']);

const METHODS: Record<AnyOperation['effect'], string[]> = {
  read: ['GET'],
  create: ['POST'],
  update: ['PATCH', 'PUT', 'POST'],
  delete: ['DELETE'],
};
/** Results that carry a secret on purpose, once, and what else only looks like one. */
const TOLD = [
  'create_token secret',
  'create_client secret',
  'rotate_token secret',
  'export_certificate chain_pem',
  'export_certificate private_key_pem',
  // Names of secrets, not what they are.
  'list_secrets secrets',
  ' environment_secrets',
  ' upstream_ca_pem',
  ' ca_pem',
  ' crl_pem',
  ' next_cursor',
  ' key_type',
];
/** Arguments that only look like secrets. */
const NO_SECRETS = ['idempotency_key', 'key_type'];
/** What a result lets somebody in with. */
const LETS_IN = ['secret', 'invite_url'];
const LOOKS_SECRET = /secret|password|private|credential|(?:^|_)key(?:_|$)|_pem$/;
/** Limited by a refinement, because a schema's bounds of a header rule would be read by every model, twice a tool. */
const LIMITED_BY_CHECK = ['remove', 'set'];
const MAX_DESCRIPTION = 260;
const MAX_LISTED_TOOLS = 30;
const MAX_LISTED_TOKENS = 6000;
const CHARACTERS_PER_TOKEN = 4;
const COMMON_OPTIONS = ['json', 'yes', 'out', 'url', 'ca_file', 'help'];

type Schema = Record<string, any>;

/** Every schema inside a schema, with the name of the property it belongs to. */
function* walk(schema: Schema, name = ''): Generator<{ name: string; schema: Schema }> {
  yield { name, schema };
  for (const [key, inner] of Object.entries(schema.properties ?? {})) yield* walk(inner as Schema, key);
  for (const inner of [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])])
    yield* walk(inner, name);
  if (schema.items) yield* walk(schema.items, name);
  if (typeof schema.additionalProperties === 'object') yield* walk(schema.additionalProperties, name);
}

const inputOf = ({ input }: AnyOperation): Schema => z.toJSONSchema(input, { io: 'input' });
const outputOf = ({ output }: AnyOperation): Schema => z.toJSONSchema(output);

test('a secret is marked at an argument itself, where the audit record leaves it out, and not within one', () => {
  const problems = operations.flatMap((operation) => {
    const fields = Object.entries<Schema>(inputOf(operation).properties ?? {});
    return fields
      .filter(([, field]) => field.secret !== true)
      .filter(([, field]) => [...walk(field)].some(({ schema }) => schema.secret === true))
      .map(([name]) => `${operation.name} ${name}`);
  });
  assert.deepEqual(problems, []);
});

test('version and idempotency_key are the same fields everywhere: what a person has refused is known again without them', () => {
  const others = operations.flatMap(({ name, input }) => {
    const { version, idempotency_key: key } = input.shape;
    const isOwn =
      (version ?? versionField) !== versionField || (key ?? idempotencyKeyField) !== idempotencyKeyField;
    return isOwn ? [name] : [];
  });
  assert.deepEqual(others, []);
});

for (const operation of operations) {
  const { name, title, description, effect, permission, http, input } = operation;

  test(`${name} is called by a verb and a noun, and explained in a few words`, () => {
    const [verb, noun] = commandWordsOf(operation);
    assert.ok(
      OTHER_NAMES.includes(name) || (VERBS.includes(verb) && noun),
      `${name}: verbs are ${VERBS.join(', ')}`,
    );
    assert.match(name, /^[a-z]+(?:_[a-z]+)*$/);
    assert.ok(
      title.length > 0 && title.length <= 40 && !title.endsWith('.'),
      'a title is short and has no full stop',
    );
    assert.match(description, /\.$/);
    assert.ok(description.length <= MAX_DESCRIPTION, `description: ${description.length} characters`);
    assert.ok(toolsets.includes(operation.toolset));
  });

  test(`${name} describes every argument`, () => {
    for (const [field, schema] of Object.entries(input.shape as Record<string, z.ZodType>))
      assert.ok(schema.description, `${field} needs .describe()`);
  });

  test(`${name} limits every text and list it takes`, () => {
    for (const { name: field, schema } of walk(inputOf(operation))) {
      if (schema.type === 'string' && !LIMITED_BY_CHECK.includes(field))
        assert.ok(schema.maxLength ?? schema.enum ?? schema.const, `${field}: a text needs .max()`);
      if (schema.type === 'array') assert.ok(schema.maxItems, `${field}: a list needs .max()`);
    }
  });

  test(`${name} uses the method, path and permission that its effect calls for`, () => {
    assert.ok(METHODS[effect].includes(http.method), `${effect} is ${METHODS[effect].join(' or ')}`);
    assert.match(http.path, /^\/v1(?:\/[a-z][a-z-]*|\/\{[a-z_]+\})+$/);
    for (const param of pathParamsOf(http.path))
      assert.ok(inputOf(operation).required?.includes(param), `${param} of the path is a required argument`);
    const reads = permission === 'public' || permission === 'authenticated' || permission.endsWith(':read');
    if (!OF_THE_CALLER.has(name) && !READ_BY_WRITERS.has(name))
      assert.equal(reads, effect === 'read', `${effect} with the permission ${permission}`);
    assert.ok(['public', 'authenticated', ...permissions].includes(permission));
  });

  test(`${name} can be repeated, guarded and confirmed as its effect calls for`, () => {
    const has = (field: string) => field in input.shape;
    assert.equal(
      has('idempotency_key'),
      effect === 'create',
      'idempotency_key belongs to creating operations',
    );
    if (http.method === 'PATCH') assert.ok(has('version'), 'what is changed in part takes a version');
    if (effect === 'delete') assert.ok(operation.confirm, 'what deletes says what a person has to confirm');
    // What is made is asked about where it depends: what others lead to already, say.
    if (effect === 'read' || (effect === 'create' && !OF_STRANGERS.has(name) && !operation.confirmIf))
      assert.equal(operation.confirm, undefined);
    const told = [...walk(outputOf(operation))].map((field) => field.name);
    if (effect === 'create')
      assert.equal(
        operation.givesCredential === true,
        LETS_IN.some((field) => told.includes(field)),
      );
    if (operation.task) assert.equal(operation.confirm, undefined, 'nobody can be asked in a task');
  });

  test(`${name} keeps secrets out of results, logs and URLs`, () => {
    for (const { name: field } of walk(outputOf(operation)))
      if (LOOKS_SECRET.test(field))
        assert.ok(TOLD.includes(`${name} ${field}`) || TOLD.includes(` ${field}`), `${field} in the result`);
    for (const { name: field, secret, place } of argumentsOf(operation).fields) {
      if (LOOKS_SECRET.test(field) && !NO_SECRETS.includes(field) && !TOLD.includes(` ${field}`))
        assert.ok(secret, `${field} needs .meta({ secret: true })`);
      if (secret) assert.equal(place, 'body', `${field} would be in a URL`);
    }
  });

  test(`${name} has no option that the command line uses itself`, () => {
    for (const field of optionsOf(argumentsOf(operation)))
      assert.ok(!COMMON_OPTIONS.includes(field.name), field.name);
  });
}

test('names, endpoints and commands are unique', () => {
  const keys: Record<string, (operation: AnyOperation) => string> = {
    name: ({ name }) => name,
    title: ({ title }) => title,
    endpoint: ({ http }) => `${http.method} ${http.path.replace(/\{\w+\}/g, '{}')}`,
    command: (operation) => commandWordsOf(operation).join(' '),
  };
  for (const [what, key] of Object.entries(keys)) {
    const seen = operations.map(key);
    assert.deepEqual(
      seen.filter((one, i) => seen.indexOf(one) !== i),
      [],
      what,
    );
  }
  assert.ok(operations.every(({ name }) => !['login', 'logout', 'completion', 'help'].includes(name)));
});

test('every operation is served over REST, and its endpoint says what a caller needs', () => {
  const { endpoints } = createRestInterface({
    operations,
    dispatch: async () => ({}),
    version: '0',
    access: 'public',
  });
  for (const { http, permission } of operations) {
    const endpoint = endpoints.find(
      ({ path, methods }) => path === http.path && methods.includes(http.method),
    );
    assert.equal(endpoint?.gate, permission);
  }
});

test(`a model reads at most ${MAX_LISTED_TOOLS} tools and ${MAX_LISTED_TOKENS} tokens in tools/list`, (t) => {
  const settings = { toolsets, readOnly: false };
  const { tools } = createViews(operations, settings, createProfile('0')).for(
    { ...system, kind: 'token' },
    '',
  );
  const read = tools.map(({ name, title, description, inputSchema }) => ({
    name,
    title,
    description,
    inputSchema,
  }));
  const tokens = Math.ceil(JSON.stringify(read).length / CHARACTERS_PER_TOKEN);
  t.diagnostic(`${tools.length} tools, ${tokens} tokens`);
  assert.ok(tools.length <= MAX_LISTED_TOOLS, `${tools.length} tools`);
  assert.ok(tokens <= MAX_LISTED_TOKENS, `${tokens} tokens`);
});

test('no keyword of ours is in the schema of a tool, listed or found', () => {
  for (const { input, output } of operations)
    for (const schema of [schemaOf(input, 'input'), schemaOf(output, 'output')])
      assert.doesNotMatch(JSON.stringify(schema), /"secret":true/);
});

test('the ten tools of the contract are listed, and take the calls of the contract as they stand', () => {
  /** As the seed calls them. */
  const contract: Record<string, Record<string, unknown>> = {
    echo: { message: 'Hello MCP!' },
    health_check: {},
    list_proxies: { limit: 10 },
    create_proxy: { hostname: 'app.example.com', target_url: 'http://localhost:3000' },
    delete_proxy: { hostname: 'app.example.com' },
    list_certificates: {},
    list_tokens: {},
    list_services: {},
    get_logs: { lines: 100, level: 'ERROR' },
    run_command: { command: 'docker ps' },
  };
  /** Further arguments that the demands name. */
  const more: Record<string, string[]> = { create_proxy: ['enable_http', 'enable_https'] };
  for (const [name, args] of Object.entries(contract)) {
    const operation = operations.find((one) => one.name === name);
    assert.equal(operation?.mcp, 'listed', name);
    for (const field of [...Object.keys(args), ...(more[name] ?? [])])
      assert.ok(field in operation!.input.shape, `${name}: ${field}`);
    const parsed = operation!.input.safeParse(args);
    assert.ok(parsed.success, `${name} takes ${JSON.stringify(args)}: ${parsed.error?.message}`);
  }
});

test('OpenAPI: references resolve, path parameters are declared, and every call can fail', () => {
  const document = openApiOf(operations, '0') as Schema;
  const text = JSON.stringify(document);
  assert.doesNotMatch(text, /"secret":true/, 'a keyword of ours is not one of OpenAPI');
  for (const [, pointer] of text.matchAll(/"\$ref":"#\/([^"]+)"/g)) {
    const found = pointer!.split('/').reduce((inner: any, key) => inner?.[key], document);
    assert.ok(found, `#/${pointer}`);
  }
  const ids = new Set<string>();
  for (const [path, item] of Object.entries<Schema>(document.paths))
    for (const [method, one] of Object.entries<Schema>(item)) {
      assert.ok(!ids.has(one.operationId), one.operationId);
      ids.add(one.operationId);
      const inPath = one.parameters.filter((parameter: Schema) => parameter.in === 'path');
      assert.deepEqual(
        inPath.map((parameter: Schema) => parameter.name),
        pathParamsOf(path),
      );
      assert.ok(
        ['200', '201'].some((status) => one.responses[status]?.description),
        `${method} ${path}`,
      );
      assert.ok(one.responses['400'] && one.responses['500'], `${method} ${path}`);
      assert.ok(document.tags.some((tag: Schema) => one.tags.includes(tag.name)));
    }
  assert.equal(ids.size, operations.length);
});
