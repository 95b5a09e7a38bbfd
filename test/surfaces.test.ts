/**
 * The same call on every surface has the same outcome: one table of cases, on operations made for it, run over REST,
 * through the command line and over both eras of MCP. The product's own operations are in `surfaces.product.test.ts`.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { ErrorCode } from '../src/core/errors.ts';
import { type Harness, startHarness } from './conformance/harness.ts';
import { type Surface, surfaces } from './support/surfaces.ts';
import { people, startWorld, thingOperations, tokens, type Who, type World } from './surface-harness.ts';

type Name = (typeof thingOperations)[number]['name'];
type Outcome = { output: Record<string, unknown> } | { error: ErrorCode; message: RegExp };

interface Case {
  title: string;
  who?: Who;
  operation: Name;
  input: Record<string, unknown>;
  /** The same call as a person types it. */
  typed: string[];
  expected: Outcome;
}

const lamp = { name: 'lamp', size: 3, on: true, labels: ['a', 'b'], settings: null, version: 1 };

const cases: Case[] = [
  {
    title: 'a list can be narrowed by numbers, booleans and lists',
    operation: 'list_things',
    input: { limit: 1, on: true, labels: ['a'] },
    typed: ['list', 'things', '--limit', '1', '--on', '--labels', 'a'],
    expected: { output: { things: [lamp] } },
  },
  {
    title: 'a boolean can be false',
    operation: 'list_things',
    input: { on: false },
    typed: ['list', 'things', '--no-on'],
    expected: { output: { things: [] } },
  },
  {
    title: 'one thing is read by the name in its path',
    operation: 'get_thing',
    input: { name: 'lamp' },
    typed: ['get', 'thing', 'lamp'],
    expected: { output: lamp },
  },
  {
    title: 'a name with every awkward character arrives as it is',
    operation: 'get_thing',
    input: { name: 'a/b?c#d e%2f*é' },
    typed: ['get', 'thing', 'a/b?c#d e%2f*é'],
    expected: { error: 'NOT_FOUND', message: /there is no thing a\/b\?c#d e%2f\*é/ },
  },
  {
    title: 'creating takes lists and objects, and defaults are filled in',
    operation: 'create_thing',
    input: { name: 'desk', size: 7, labels: ['x', 'y'], settings: { depth: 2 } },
    typed: ['create', 'thing', 'desk', '7', '--labels', 'x,y', '--settings', '{"depth":2}'],
    expected: {
      output: {
        name: 'desk',
        size: 7,
        on: true,
        labels: ['x', 'y'],
        settings: { depth: 2 },
        version: 1,
      },
    },
  },
  {
    title: 'creating twice is a conflict',
    operation: 'create_thing',
    input: { name: 'lamp', size: 1 },
    typed: ['create', 'thing', 'lamp', '1'],
    expected: { error: 'CONFLICT', message: /lamp exists already/ },
  },
  {
    title: 'the same idempotency key with other arguments is a conflict',
    operation: 'create_thing',
    input: { name: 'bed', size: 1, idempotency_key: 'key-of-lamp' },
    typed: ['create', 'thing', 'bed', '1', '--idempotency-key', 'key-of-lamp'],
    expected: { error: 'CONFLICT', message: /idempotency_key was used with other arguments/ },
  },
  {
    title: 'a change is refused when what was read is no longer there',
    operation: 'update_thing',
    input: { name: 'lamp', size: 9, version: 5 },
    typed: ['update', 'thing', 'lamp', '--size', '9', '--version', '5'],
    expected: { error: 'PRECONDITION_FAILED', message: /at version 1, not 5/ },
  },
  {
    title: 'a change of the version that was read is made',
    operation: 'update_thing',
    input: { name: 'lamp', on: false, version: 1 },
    typed: ['update', 'thing', 'lamp', '--no-on', '--version', '1'],
    expected: { output: { ...lamp, on: false, version: 2 } },
  },
  {
    title: 'deleting answers what was deleted',
    operation: 'delete_thing',
    input: { name: 'lamp' },
    typed: ['delete', 'thing', 'lamp', '--yes'],
    expected: { output: { deleted: 'lamp' } },
  },
  {
    title: 'a value outside its limits names the argument',
    operation: 'create_thing',
    input: { name: 'desk', size: 5000 },
    typed: ['create', 'thing', 'desk', '5000'],
    expected: { error: 'INVALID_INPUT', message: /size: .*1000/ },
  },
  {
    title: 'a word where a number belongs names the argument',
    operation: 'list_things',
    input: { limit: 'many' },
    typed: ['list', 'things', '--limit', 'many'],
    expected: { error: 'INVALID_INPUT', message: /limit: / },
  },
  {
    title: 'a viewer may not change',
    who: 'viewer',
    operation: 'delete_thing',
    input: { name: 'lamp' },
    typed: ['delete', 'thing', 'lamp', '--yes'],
    expected: { error: 'FORBIDDEN', message: /needs the permission proxies:write/ },
  },
  {
    title: 'nobody may do anything without a credential',
    who: 'nobody',
    operation: 'list_things',
    input: {},
    typed: ['list', 'things'],
    expected: { error: 'UNAUTHENTICATED', message: /needs a credential/ },
  },
  {
    title: 'a fault of ours says nothing of its inside',
    who: 'nobody',
    operation: 'fail_always',
    input: {},
    typed: ['fail', 'always'],
    expected: { error: 'INTERNAL', message: /internal error(?!.*inner)/ },
  },
];

async function furnished(): Promise<World> {
  const world = await startWorld();
  world.things.all.set('lamp', { ...lamp });
  world.things.results.set('key-of-lamp', { inputDigest: 'of the call that made lamp', result: lamp });
  return world;
}

const MCP: Record<Who, string | undefined> = {
  admin: people.admin.id,
  viewer: people.viewer.id,
  nobody: undefined,
};

/** The same dispatch behind MCP as behind REST. */
const startMcp = ({ dispatch }: World): Promise<Harness> =>
  startHarness({ operations: thingOperations, dispatch, principals: Object.values(people) });

async function outcomeOf(surface: Surface, { who = 'admin', operation: name, input, typed }: Case) {
  await using world = await furnished();
  await using mcp = await startMcp(world);
  const operation = thingOperations.find((one) => one.name === name) ?? assert.fail(name);
  const place = {
    httpPort: Number(new URL(world.url).port),
    mcpPort: Number(new URL(mcp.url).port),
    token: tokens[who],
    mcpToken: MCP[who],
  };
  return await surface(place, { operation, input, typed });
}

for (const [name, surface] of Object.entries(surfaces))
  for (const one of cases)
    test(`${name}: ${one.title}`, async () => {
      const actual = await outcomeOf(surface, one);
      if ('output' in one.expected) return assert.deepEqual(actual, one.expected);
      assert.equal('error' in actual && actual.error, one.expected.error, JSON.stringify(actual));
      assert.match(String('message' in actual && actual.message), one.expected.message);
    });
