import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';
import { openApiOf } from './openapi.ts';

test('OpenAPI masks what is secret, and calls write-only what no answer has', () => {
  const operation = defineOperation({
    name: 'put_secrets',
    title: 'Put secrets',
    description: 'Puts secrets.',
    permission: 'proxies:write',
    confinement: 'harmless',
    effect: 'update',
    mcp: 'listed',
    toolset: 'proxies',
    http: { method: 'PUT', path: '/v1/secrets' },
    input: z.object({
      plain: z.string().describe('Plain'),
      password: z.string().describe('Password').meta({ secret: true }),
      rules: z.strictObject({ set: z.string() }).describe('Rules').meta({ secret: true }),
    }),
    output: z.object({ rules: z.strictObject({ set: z.string() }).meta({ secret: true }) }),
    handler: async ({ rules }) => ({ rules }),
  });
  // oxlint-disable-next-line typescript/no-explicit-any -- a document of unknown shape is looked into
  const document = openApiOf([operation], '1') as any;
  const { properties } = document.paths['/v1/secrets'].put.requestBody.content['application/json'].schema;
  assert.deepEqual(properties.plain, { type: 'string', description: 'Plain' });
  assert.deepEqual(properties.password, {
    type: 'string',
    description: 'Password',
    format: 'password',
    writeOnly: true,
  });
  assert.equal(properties.rules.writeOnly, undefined);
  assert.doesNotMatch(JSON.stringify(document), /"secret":true/);
});
