/**
 * Writes docs/generated/ from the program itself: what every surface offers, in a form in which a reviewer sees it
 * change. `--check` writes nothing and fails when a file is not what it would be.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { z } from 'zod';
import { remedies } from '../src/certificates/remedies.ts';
import { configSchema, environmentKeys } from '../src/config/config.ts';
import { mayRun } from '../src/core/dispatch.ts';
import { errorSurface } from '../src/core/errors.ts';
import { type AnyOperation, toolsets } from '../src/core/operation.ts';
import { type Bundle, bundleNames, bundles, expandPermissions } from '../src/core/permissions.ts';
import { anonymous, type Principal, system } from '../src/core/principal.ts';
import { commandWordsOf } from '../src/interfaces/cli/arguments.ts';
import { runCli } from '../src/interfaces/cli/cli.ts';
import { createProfile } from '../src/interfaces/mcp/profile.ts';
import { createViews } from '../src/interfaces/mcp/views.ts';
import { openApiOf } from '../src/interfaces/openapi.ts';
import { catalog, type Definition } from '../src/metrics/catalog.ts';
import { operations as declared } from '../src/operations.ts';
import { root } from './project.ts';

const COMMAND = 'npm run generate';
const folder = join(root, 'docs/generated');
const operations: readonly AnyOperation[] = declared;
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

const files: Record<string, () => string | Promise<string>> = {
  'openapi.json': () => json(openApiOf(operations, version)),
  'tools.json': () => json(toolsForAdministrator()),
  'cli.md': cliReference,
  'permissions.txt': permissionTable,
  'config.md': configReference,
  'config.schema.json': () => json(z.toJSONSchema(configSchema, { io: 'input' })),
  'errors.md': errorReference,
  'metrics.md': metricsReference,
  'certificate-problems.md': problemReference,
};

async function write(): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const [name, make] of Object.entries(files)) writeFileSync(join(folder, name), await make());
  for (const name of strays()) rmSync(join(folder, name));
  console.log(`wrote docs/generated/{${Object.keys(files).join(',')}}`);
}

async function check(): Promise<void> {
  const faults = strays().map((name) => `docs/generated/${name}: nothing writes it`);
  for (const [name, make] of Object.entries(files))
    if ((await make()) !== current(name)) faults.push(`docs/generated/${name}: is not what the program says`);
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) console.error(`run: ${COMMAND}`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}

function current(name: string): string | undefined {
  try {
    return readFileSync(join(folder, name), 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

const strays = (): string[] =>
  readdirSync(folder, { withFileTypes: true })
    .map(({ name }) => name)
    .filter((name) => !(name in files));

const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;

const heading = (title: string, text: string): string =>
  `<!-- Written by \`${COMMAND}\`; do not edit. -->\n# ${title}\n\n${text}\n`;

function principalWith(bundle: Bundle): Principal {
  return { ...system, kind: 'token', name: bundle, permissions: expandPermissions(bundles[bundle]) };
}

function toolsForAdministrator() {
  const views = createViews(operations, { toolsets, readOnly: false }, createProfile(version));
  return views.for(principalWith('admin'), '').tools;
}

/** Kinds of problems that CAs tell of: `explain_certificate` gives the remedy from the same table. */
function problemReference(): string {
  const rows = Object.entries(remedies).map(
    ([problem, { means, remedy }]) => `| \`${problem}\` | ${means} | ${remedy} |`,
  );
  return heading(
    'Why has my certificate failed?',
    `\`explain_certificate\` tells the problem that the CA named, its own words and the remedy. These are the problems that RFC 8555 (§6.7) and its companions know, and, as \`record…\`, those of DNS-01 before the CA is asked.\n\n| Problem | Means | What to do |\n| --- | --- | --- |\n${rows.join('\n')}`,
  );
}

/** Every command's own help, as it is printed into a pipe. */
async function cliReference(): Promise<string> {
  const commands = [
    [],
    ...operations.map((operation) => commandWordsOf(operation).filter((word) => word !== undefined)),
    ['login'],
    ['logout'],
    ['broker'],
    ['reset', 'admin-token'],
    ['completion'],
  ];
  const sections: string[] = [];
  for (const words of commands) {
    const help = await helpOf(words);
    sections.push(`## ${['ohp', ...words].join(' ')}\n\n\`\`\`text\n${help.trimEnd()}\n\`\`\`\n`);
  }
  const exits = Object.entries(errorSurface).map(([code, { exit }]) => `${exit} ${code}`);
  return heading(
    'Command line',
    `\`ohp <verb> <noun> [values] [--options]\`: the name of an operation with a space in it.\nExit codes: 0, ${exits.join(', ')}.\n\n${sections.join('\n')}`,
  );
}

const noServer = () => Promise.reject(new Error('help resets nothing'));

async function helpOf(words: readonly string[]): Promise<string> {
  const stdout = new PassThrough({ encoding: 'utf8' });
  const io = {
    env: {},
    stdin: Readable.from([]),
    stdout,
    stderr: stdout,
    cwd: root,
    home: root,
    signal: new AbortController().signal,
  };
  await runCli([...words, '--help'], io, {
    operations,
    version,
    resetAdminToken: noServer,
    verifyAuditFiles: noServer,
    runBroker: noServer,
  });
  return String(stdout.read() ?? '');
}

/** Who may run what. `-` marks what is not for principals that are confined to hostnames. */
function permissionTable(): string {
  const principals: [string, Principal][] = [
    ['nobody', anonymous],
    ...bundleNames.map((name): [string, Principal] => [name, principalWith(name)]),
    ['confined', { ...principalWith('admin'), hostnames: ['*.example.com'] }],
  ];
  const rows = [...operations]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((operation) => [
      operation.name,
      operation.permission,
      operation.effect,
      operation.mcp,
      operation.confinement,
      ...principals.map(([, principal]) => (mayRun(operation, principal) ? 'yes' : '-')),
    ]);
  const titles = [
    'operation',
    'permission',
    'effect',
    'mcp',
    'confinement',
    ...principals.map(([name]) => name),
  ];
  const notes =
    'nobody: only where the setting mcp.access is public.\nconfined: a principal with every permission, confined to hostnames.';
  return `${columns([titles, ...rows])}\n${notes}\n`;
}

function columns(rows: readonly string[][]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

interface Setting {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Setting>;
}

function configReference(): string {
  const schema = z.toJSONSchema(configSchema, { io: 'output' }) as Setting;
  const variables = new Map(
    Object.entries(environmentKeys).map(([variable, key]) => [key as string, variable]),
  );
  const rows = settingsOf(schema).map(([key, setting]) => {
    const shown = setting.default === undefined ? '' : `\`${JSON.stringify(setting.default)}\``;
    const variable = variables.get(key);
    return `| \`${key}\` | ${typeOf(setting)} | ${shown} | ${variable ? `\`${variable}\`` : ''} | ${(setting.description ?? '').replaceAll('|', '\\|')} |`;
  });
  return heading(
    'Settings',
    [
      'In the YAML file that `OHP_CONFIG` names; an environment variable wins over the file. Nothing has to be set.',
      'Editors check the file with `config.schema.json` beside this page.',
      '',
      '| Key | Type | Default | Environment | Meaning |',
      '| --- | --- | --- | --- | --- |',
      ...rows,
    ].join('\n'),
  );
}

function settingsOf({ properties = {} }: Setting, prefix = ''): [string, Setting][] {
  return Object.entries(properties).flatMap(([name, setting]): [string, Setting][] =>
    setting.properties ? settingsOf(setting, `${prefix}${name}.`) : [[`${prefix}${name}`, setting]],
  );
}

function typeOf({ type = 'any', enum: choices, minimum, maximum }: Setting): string {
  if (choices) return choices.map((choice) => `\`${String(choice)}\``).join(', ');
  const bounded = type === 'integer' && minimum !== undefined && maximum !== undefined;
  return bounded ? `integer, ${minimum} to ${maximum}` : type;
}

function metricsReference(): string {
  const rows = Object.entries<Definition>(catalog).map(
    ([name, { type, labels, help }]) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
  );
  return heading(
    'Metrics',
    [
      'As `GET /metrics` tells them. How to get at them, and the dashboard that ships: `docs/guides/metrics.md`.',
      '',
      '| Metric | Type | Labels | Meaning |',
      '| --- | --- | --- | --- |',
      ...rows,
    ].join('\n'),
  );
}

function errorReference(): string {
  const rows = Object.entries(errorSurface).map(
    ([code, { status, jsonrpc, exit, meaning }]) =>
      `| \`${code}\` | ${status} | ${jsonrpc} | ${exit} | ${meaning} |`,
  );
  return heading(
    'Errors',
    [
      'The code is the contract; the message says what to do next and may change.',
      'As a tool result of MCP an error is `isError: true` with the code; the JSON-RPC number is for calls that never reach a tool.',
      '',
      '| Code | HTTP | JSON-RPC | Exit | Meaning |',
      '| --- | --- | --- | --- | --- |',
      ...rows,
    ].join('\n'),
  );
}

if (process.argv.includes('--check')) await check();
else await write();
