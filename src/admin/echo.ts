/** `echo`: answers what it was told, so that a client can see that it is connected. */
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';

const MAX_MESSAGE = 4096;

export const echo = defineOperation({
  name: 'echo',
  title: 'Echo',
  description: 'Returns the message, to test the connection.',
  permission: 'public',
  confinement: 'harmless',
  effect: 'read',
  mcp: 'listed',
  toolset: 'system',
  http: { method: 'GET', path: '/v1/echo' },
  input: z.object({ message: z.string().max(MAX_MESSAGE).describe('Any text') }),
  output: z.object({ message: z.string() }),
  handler: async ({ message }) => ({ message }),
});
