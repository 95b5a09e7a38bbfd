/**
 * The suite's scenarios of the extension `io.modelcontextprotocol/tasks` that apply here, against operations of its
 * names behind the real endpoint. Left out: `tasks-mrtr-input` and `tasks-mrtr-composition` (no task of ours asks
 * anything), `tasks-required-task-error` (none of ours runs as a task only), `tasks-status-notifications` (polling only).
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { AppError } from '../../src/core/errors.ts';
import { type AnyOperation, defineOperation } from '../../src/core/operation.ts';
import { startForwarder } from './forwarder.ts';
import { startHarness } from './harness.ts';

const suite = join(import.meta.dirname, '../../node_modules/@modelcontextprotocol/conformance/dist/index.js');

/** What every one of them has in common. */
const common = {
  title: 'Of the suite',
  description: 'Of the suite.',
  permission: 'proxies:read',
  confinement: 'harmless',
  effect: 'read',
  mcp: 'listed',
  toolset: 'proxies',
} as const;
const output = z.object({ text: z.string() });

const fixtures: readonly AnyOperation[] = [
  defineOperation({
    ...common,
    // A name of one word is the suite's.
    name: 'greet' as 'echo',
    http: { method: 'GET', path: '/v1/greeting' },
    input: z.object({ name: z.string().default('').describe('Whom') }),
    output,
    handler: async ({ name }) => ({ text: `Hello, ${name}!` }),
  }),
  defineOperation({
    ...common,
    name: 'slow_compute',
    task: true,
    http: { method: 'GET', path: '/v1/slow' },
    input: z.object({
      seconds: z.number().default(0).describe('How long'),
      label: z.string().default('').describe('Any text'),
    }),
    output,
    async handler({ seconds, label }, { signal }) {
      await sleep(seconds * 1000, undefined, { signal });
      return { text: `computed ${label}` };
    },
  }),
  ...(['failing_job', 'confirm_delete', 'protocol_error_job', 'multi_input'] as const).map((name) =>
    defineOperation({
      ...common,
      name,
      task: true,
      http: { method: 'GET', path: `/v1/${name.replaceAll('_', '-')}` as '/v1/x' },
      input: z.object({ filename: z.string().optional().describe('Any text') }),
      output,
      async handler() {
        throw name === 'protocol_error_job'
          ? new Error('a fault')
          : new AppError('UPSTREAM_FAILED', 'it failed');
      },
    }),
  ),
];

const scenarios = [
  'tasks-lifecycle',
  'tasks-capability-negotiation',
  'tasks-wire-fields',
  'tasks-request-state-removal',
  'tasks-request-headers',
  'tasks-dispatch-and-envelope',
];

/** It wants a text of its own as the result; results of operations are JSON. */
const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  'tasks-request-headers': ['tasks-request-headers:tasks-headers-tolerate-mcp-method-on-tools-call'],
};

for (const scenario of scenarios)
  test(`conformance: ${scenario}`, async () => {
    await using harness = await startHarness({ operations: fixtures, quiet: true });
    await using forwarder = await startForwarder({ url: harness.url, token: 'admin' });
    const folder = mkdtempSync(join(tmpdir(), 'conformance-'));
    try {
      const expected = join(folder, 'expected.yml');
      writeFileSync(expected, JSON.stringify({ server: EXPECTED[scenario] ?? [] }));
      const options = ['--scenario', scenario, '--expected-failures', expected, '-o', folder, '--verbose'];
      const args = ['server', '--url', forwarder.url, ...options];
      const child = spawn(process.execPath, [suite, ...args], { timeout: 60_000 });
      let printed = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => void (printed += chunk));
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => void (printed += chunk));
      const code = await new Promise<number | null>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
      });
      assert.equal(code, 0, printed);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
