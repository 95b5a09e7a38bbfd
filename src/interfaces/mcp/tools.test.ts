import assert from 'node:assert/strict';
import test from 'node:test';
import { z } from 'zod';
import { schemaOf } from './tools.ts';

const rules = z.strictObject({
  set: z.record(z.string(), z.string().meta({ secret: true })).default({}),
  remove: z.array(z.string().max(4096)).max(50).default([]),
});
const schema = z.strictObject({
  secret: z
    .string()
    .min(1)
    .max(4096)
    .describe('A member that happens to have that name')
    .meta({ secret: true }),
  rules: rules.prefault({}).describe('Rules').meta({ secret: true }),
  ca: z.string().describe('CA').nullable().describe('CA; null: none'),
  key: z.string().min(8).max(100).optional().describe('Key'),
  size: z
    .int()
    .min(0)
    .max(10 ** 9)
    .default(5)
    .describe('Size'),
  share: z.int().max(100).optional().describe('Share'),
});

test('a model reads no keyword of ours, nothing twice, and no bound that no honest call comes near', () => {
  assert.deepEqual(schemaOf(schema, 'input'), {
    type: 'object',
    properties: {
      secret: { type: 'string', description: 'A member that happens to have that name' },
      rules: {
        description: 'Rules',
        type: 'object',
        properties: {
          set: { type: 'object', additionalProperties: { type: 'string' } },
          remove: { maxItems: 50, type: 'array', items: { type: 'string' } },
        },
      },
      ca: { anyOf: [{ type: 'string' }, { type: 'null' }], description: 'CA; null: none' },
      key: { description: 'Key', type: 'string', minLength: 8, maxLength: 100 },
      size: { default: 5, description: 'Size', type: 'integer', minimum: 0 },
      share: { description: 'Share', type: 'integer', maximum: 100 },
    },
    required: ['secret', 'ca'],
    additionalProperties: false,
  });
});

test('a result may gain members, at every level', () => {
  assert.doesNotMatch(
    JSON.stringify(schemaOf(schema, 'output')),
    /"additionalProperties":false|"secret":true/,
  );
});
