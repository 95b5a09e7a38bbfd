/** One call of an operation over each surface, with its outcome in the same form, so that surfaces can be compared. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ErrorCode, errorSurface } from '../../src/core/errors.ts';
import type { AnyOperation } from '../../src/core/operation.ts';
import { argumentsOf } from '../../src/interfaces/arguments.ts';
import { commandWordsOf, optionNameOf, positionalsOf } from '../../src/interfaces/cli/arguments.ts';
import { ohp } from '../surface-harness.ts';
import { callTool, type Era, openSession, send } from './callers.ts';

export type Outcome = { output: Record<string, unknown> } | { error: ErrorCode; message: string };

/** Where the surfaces of one system are, and as whom they are called there. Undefined: without a credential. */
export interface Place {
  readonly httpPort: number;
  /** Where `/mcp` is, when that is not the same server. */
  readonly mcpPort?: number;
  readonly token: string | undefined;
  readonly mcpToken?: string | undefined;
}

export interface SurfaceCall {
  readonly operation: AnyOperation;
  readonly input: Readonly<Record<string, unknown>>;
  /** As a person types it; absent: as the grammar of the command line has it. */
  readonly typed?: readonly string[];
}

export type Surface = (place: Place, call: SurfaceCall) => Promise<Outcome>;

async function overRest({ httpPort, token }: Place, { operation, input }: SurfaceCall): Promise<Outcome> {
  const { method, path } = operation.http;
  const url = new URL(
    path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(input[name]))),
    'http://localhost',
  );
  const known = argumentsOf(operation);
  const body: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(input)) {
    const place = known.byName.get(name)?.place ?? (method === 'GET' ? 'query' : 'body');
    if (place === 'body') body[name] = value;
    if (place === 'query') for (const one of [value].flat()) url.searchParams.append(name, String(one));
  }
  const carriesBody = method !== 'GET' && method !== 'DELETE';
  const reply = await send(
    { httpPort },
    { method, path: url.pathname + url.search, token, body: carriesBody ? body : undefined },
  );
  if (!reply.json?.error) {
    assert.ok(reply.status < 300 && reply.json, `${reply.status} ${reply.text}`);
    return { output: reply.json };
  }
  const { code, message } = reply.json.error;
  assert.equal(reply.status, errorSurface[code as ErrorCode].status, 'the status is that of the code');
  return { error: code, message };
}

async function throughCli(
  { httpPort, token }: Place,
  { operation, input, typed }: SurfaceCall,
): Promise<Outcome> {
  const cwd = mkdtempSync(join(tmpdir(), 'ohp-typed-'));
  try {
    for (const { name, secret } of argumentsOf(operation).fields)
      if (secret && name in input) writeFileSync(join(cwd, name), wordOf(input[name]));
    const { code, stdout, stderr } = await ohp(typed ? [...typed, '--json'] : typedOf(operation, input), {
      env: { OHP_URL: `http://localhost:${httpPort}`, OHP_TOKEN: token },
      operations: [operation],
      cwd,
    });
    if (code === 0) return { output: JSON.parse(stdout) };
    // What the grammar refuses is told in its own words, with what is valid.
    const [, error = 'INVALID_INPUT', message = stderr] = /^([A-Z_]+): ([^]*)$/.exec(stderr) ?? [];
    assert.equal(code, errorSurface[error as ErrorCode].exit, stderr);
    return { error: error as ErrorCode, message };
  } finally {
    rmSync(cwd, { recursive: true });
  }
}

/** Values in the order of the path, then what is required; the rest by name. Secrets come from files. */
function typedOf(operation: AnyOperation, input: Readonly<Record<string, unknown>>): string[] {
  const args = argumentsOf(operation);
  const positionals = positionalsOf(args);
  const values = positionals.flatMap(({ name }) => (name in input ? [wordOf(input[name])] : []));
  const options = Object.entries(input).flatMap(([name, value]) => {
    const field = args.byName.get(name);
    if (field && positionals.includes(field)) return [];
    const option = field ? optionNameOf(field) : `--${name.replaceAll('_', '-')}`;
    if (typeof value === 'boolean') return [value ? option : option.replace('--', '--no-')];
    return [option, field?.secret ? `@${name}` : wordOf(value)];
  });
  const words = commandWordsOf(operation).filter((word) => word !== undefined);
  const asks = operation.confirm !== undefined && operation.confirmIf === undefined;
  // Options come first, so that a value which looks like one is none.
  return [...words, ...options, ...(asks ? ['--yes'] : []), '--json', '--', ...values];
}

function wordOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

const overMcp =
  (era: Era): Surface =>
  async ({ httpPort, mcpPort, token, mcpToken = token }, { operation, input }) => {
    const place = { httpPort: mcpPort ?? httpPort };
    const session =
      era === 'legacy' && mcpToken !== undefined ? await openSession(place, mcpToken) : undefined;
    const reply = await callTool(place, mcpToken, { name: operation.name, args: input, era, session });
    const { result, error: refusal } = reply.json ?? {};
    // Who may not at all is refused by HTTP, where clients look for the scope they lack.
    if (refusal?.data?.code) {
      assert.equal(reply.status, errorSurface[refusal.data.code as ErrorCode].status);
      return { error: refusal.data.code, message: refusal.message };
    }
    assert.ok(result, `${reply.status} ${reply.text}`);
    if (!result.isError) {
      assert.deepEqual(
        JSON.parse(result.content.at(-1).text),
        result.structuredContent,
        'models read the same',
      );
      return { output: result.structuredContent };
    }
    const [, error, message = ''] = /^([A-Z_]+): ([^]*)$/.exec(result.content.at(-1).text) ?? assert.fail();
    const meta = result._meta['oauth-https-proxy/error'];
    assert.equal(meta.code, error, 'programs and models are told the same code');
    assert.equal(meta.status, errorSurface[error as ErrorCode].status);
    return { error: error as ErrorCode, message };
  };

export const surfaces = {
  REST: overRest,
  CLI: throughCli,
  'MCP legacy': overMcp('legacy'),
  'MCP modern': overMcp('modern'),
} satisfies Record<string, Surface>;
