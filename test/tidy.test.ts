/**
 * Rules about the shape of the code itself. Each failure says what to do.
 * Modelled on TigerBeetle's src/tidy.zig, Playwright's DEPS.list and Tailscale's deptest.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative } from 'node:path';
import test from 'node:test';

const src = join(import.meta.dirname, '../src');

/** What each unit (a folder of `src`, or a file directly in it) may import, besides itself. */
const allowed: Record<string, { units: string[]; packages: string[] }> = {
  core: { units: [], packages: ['ipaddr.js', 'zod'] },
  // A setting is checked by the code that will use it, so that what is accepted works.
  config: {
    units: [
      'core',
      'admin/allow-list',
      'admin/command-templates',
      'alerts/rules/schema',
      'certificates/dns/schema',
      'gateway/client-address',
      'services/policy',
      'tokens/credential',
    ],
    packages: ['yaml', 'zod'],
  },
  store: { units: ['core'], packages: ['better-sqlite3', 'kysely'] },
  proxies: { units: ['core', 'store/database', 'routes/schema'], packages: ['ipaddr.js', 'kysely', 'zod'] },
  routes: {
    units: [
      'core',
      'store/database',
      'proxies/auth-policy',
      'proxies/load-balancing',
      'proxies/mcp-policy',
      'proxies/schema',
      'proxies/service-targets',
      'proxies/target-url',
    ],
    packages: ['kysely', 'zod'],
  },
  // A DNS provider may be a program, which is run as `run_command` runs one.
  certificates: {
    units: ['core', 'store/database', 'admin/run-command-process'],
    packages: ['ipaddr.js', 'jose', 'kysely', 'undici', 'zod'],
  },
  alerts: { units: ['core', 'store/database'], packages: ['nodemailer', 'zod'] },
  audit: { units: ['core', 'store/database', 'logs/time-range'], packages: ['zod'] },
  tokens: { units: ['core', 'store/database'], packages: ['kysely', 'zod'] },
  oauth: {
    units: ['core', 'store/database', 'users/schema'],
    packages: ['hono', 'ipaddr.js', 'jose', 'oidc-provider', 'openid-client', 'undici', 'zod'],
  },
  protection: {
    units: [
      'core',
      'store/database',
      'proxies/auth-policy',
      'proxies/mcp-policy',
      'proxies/schema',
      'routes/normalise',
      'routes/own',
      'routes/schema',
    ],
    packages: ['zod'],
  },
  // Walks to what the others serve, over connections: of their code it needs paths and the form of a decision.
  connectors: { units: ['core', 'oauth/paths', 'routes/own', 'routes/schema'], packages: ['zod'] },
  users: {
    units: ['core', 'store/database'],
    packages: ['@node-rs/argon2', '@simplewebauthn/server', 'zod'],
  },
  sessions: { units: ['core', 'store/database'], packages: ['kysely', 'zod'] },
  // What leads to a service is looked for among the targets of proxies. Sources are checked by what will match them.
  services: {
    units: [
      'core',
      'store/database',
      'gateway/client-address',
      'logs/time-range',
      'proxies/load-balancing',
      'proxies/target-url',
    ],
    packages: ['ipaddr.js', 'zod'],
  },
  // Carries settings of the others from their schemas to their services, which the composition root supplies.
  publications: {
    units: [
      'core',
      'store/database',
      'alerts/schema',
      'protection/schema',
      'proxies/certificate-choice',
      'proxies/schema',
      'services/schema',
    ],
    packages: ['zod'],
  },
  // Containers and proxies come from the composition root; where a port is published is read as for services.
  proposals: {
    units: [
      'core',
      'store/database',
      'proxies/schema',
      'services/engine',
      'services/follow-events',
      'services/label-rules',
      'services/whereabouts',
    ],
    packages: ['zod'],
  },
  logs: { units: ['core'], packages: ['better-sqlite3', 'zod'] },
  // The gateway tells it by `core/capture`.
  captures: { units: ['core'], packages: ['zod'] },
  // What there is to count and to look up comes from the composition root.
  metrics: { units: ['core'], packages: [] },
  admin: { units: ['core'], packages: ['zod'] },
  gateway: {
    units: [
      'core',
      'oauth/paths',
      'proxies/auth-policy',
      'proxies/load-balancing',
      'proxies/mcp-policy',
      'proxies/schema',
      'proxies/target-policy',
      'proxies/target-url',
      'routes/schema',
      'routes/decide',
      'routes/match',
      'routes/normalise',
      'routes/own',
    ],
    packages: ['ipaddr.js', 'undici'],
  },
  interfaces: { units: ['core'], packages: ['@modelcontextprotocol/server', 'commander', 'hono', 'zod'] },
  operations: {
    units: [
      'core',
      'admin',
      'audit',
      'alerts',
      'captures',
      'certificates',
      'connectors',
      'logs',
      'oauth',
      'protection',
      'proposals',
      'proxies',
      'publications',
      'routes',
      'services',
      'tokens',
      'users',
    ].map(operationsOf),
    packages: [],
  },
  app: { units: ['*'], packages: [] },
  'app.asking': { units: ['config', 'core', 'oauth', 'sessions', 'store'], packages: [] },
  'app.audit': { units: ['alerts/service', 'audit', 'config', 'core'], packages: [] },
  'app.alerts': { units: ['*'], packages: [] },
  'app.connectors': { units: ['*'], packages: [] },
  // Little, since it is loaded before the rest.
  'app.data': { units: ['config', 'store/data-directory', 'store/storage-fault'], packages: [] },
  'app.metrics': { units: ['*'], packages: [] },
  'app.certificates': { units: ['*'], packages: [] },
  'app.edge': { units: ['*'], packages: [] },
  'app.oauth': { units: ['*'], packages: [] },
  'app.protection': { units: ['*'], packages: [] },
  'app.proposals': { units: ['*'], packages: [] },
  'app.publications': { units: ['*'], packages: [] },
  'app.people': {
    units: ['core', 'gateway/client-address', 'oauth', 'store/database', 'tokens/service', 'users'],
    packages: [],
  },
  'app.settings': {
    units: [
      'alerts/mail',
      'alerts/webhook',
      'certificates/budget',
      'certificates/dns/providers',
      'certificates/dns/schema',
      'certificates/issuers',
      'certificates/on-demand',
      'config',
      'core',
      'gateway/settings',
      'interfaces/mcp/settings',
      'logs/levels',
      'logs/sink',
      'oauth/upstreams/upstream',
      'routes/own',
      'telemetry/settings',
    ],
    packages: [],
  },
  'app.telemetry': {
    units: ['app.settings', 'config', 'core', 'logs/sink', 'outbound', 'telemetry'],
    packages: [],
  },
  telemetry: {
    units: ['core'],
    packages: [
      '@opentelemetry/api',
      '@opentelemetry/otlp-transformer',
      '@opentelemetry/resources',
      '@opentelemetry/sdk-logs',
      '@opentelemetry/sdk-metrics',
      '@opentelemetry/sdk-trace',
    ],
  },
  outbound: { units: ['core'], packages: ['undici'] },
  main: { units: ['app', 'app.data', 'banner', 'config', 'core'], packages: [] },
  banner: { units: ['gateway/own-urls'], packages: [] },
  cli: { units: ['core', 'interfaces/cli', 'operations'], packages: [] },
  // Has the engine's socket: nothing that serves the network is loaded with it.
  broker: { units: ['config', 'core', 'interfaces/cli/broker', 'services'], packages: [] },
  // The trail as files: no server, no store.
  'verify-audit-files': {
    units: ['app.audit', 'audit', 'config', 'core', 'interfaces/cli/verify'],
    packages: [],
  },
  // Opens what `app` opens, without serving.
  'reset-admin-token': {
    units: ['app.audit', 'app.settings', 'config', 'core', 'interfaces/cli', 'logs', 'store', 'tokens'],
    packages: [],
  },
};

function operationsOf(noun: string): string {
  return noun === 'core' ? noun : `${noun}/operations`;
}

const files = globSync('**/*.ts', { cwd: src })
  .filter((path) => !/\.(?:test|fixture|contract)\.ts$/.test(path))
  .map((path) => ({
    path,
    unit: path.split('/')[0]!.replace(/\.ts$/, ''),
    imports: importsOf(readFileSync(join(src, path), 'utf8')),
  }));

function importsOf(text: string): string[] {
  return [...text.matchAll(/^(?:import|export)\s(?:[^;'"]*from\s)?\s*['"]([^'"]+)['"]/gm)].map(
    (match) => match[1]!,
  );
}

test('every import crosses a boundary that is allowed', () => {
  const problems = files.flatMap((file) =>
    file.imports.filter((name) => !mayImport(file, name)).map((name) => `${file.path}: ${name}`),
  );
  const advice = 'change the design, or add the edge to `allowed` and say why in the commit';
  assert.deepEqual(problems, [], advice);
});

function mayImport({ path, unit }: { path: string; unit: string }, name: string): boolean {
  const rule = allowed[unit] ?? { units: [], packages: [] };
  if (name.startsWith('node:')) return true;
  if (!name.startsWith('.'))
    return rule.packages.some((known) => name === known || name.startsWith(`${known}/`));
  const target = relative(src, join(src, dirname(path), name)).replace(/\.ts$/, '');
  return [unit, ...rule.units].some((u) => u === '*' || target === u || target.startsWith(`${u}/`));
}

test('every unit has a rule', () => {
  const missing = [...new Set(files.map((file) => file.unit))].filter((unit) => !(unit in allowed));
  assert.deepEqual(missing, [], 'add it to `allowed`, with the fewest imports that work');
});

/** What is loaded when it is first asked for; each would cost the start a tenth of a second or more. */
const LATE = [
  '@node-rs/argon2',
  '@opentelemetry/',
  '@simplewebauthn/server',
  'nodemailer',
  'oidc-provider',
  'openid-client',
  'yaml',
] as const;

test('a start loads no package that is needed later', () => {
  const seen = new Set(['main.ts', 'app.ts']);
  const problems: string[] = [];
  for (const path of seen) {
    const text = readFileSync(join(src, path), 'utf8');
    for (const name of valueImportsOf(text)) {
      if (name.startsWith('.')) seen.add(relative(src, join(src, dirname(path), name)));
      else if (LATE.some((late) => (late.endsWith('/') ? name.startsWith(late) : late === name)))
        problems.push(`${path}: ${name}`);
    }
  }
  assert.ok(seen.size > 100, 'the walk from main.ts has reached the program');
  assert.deepEqual(problems, [], 'import it where it is used, by `await import()`, or take only its types');
});

/** Without those that only name types, which are gone when it runs. */
const valueImportsOf = (text: string): string[] =>
  importsOf(text.replace(/^(?:import|export)\s+(?:type\s|\{(?:\s*type\s+[\w\s]+,?)+\s*\})[^;]*;/gm, ''));

test('built-in modules are written with node:', () => {
  const bare = new Set(builtinModules.filter((name) => !name.startsWith('_') && !name.startsWith('node:')));
  const problems = files.flatMap((file) => file.imports.filter((name) => bare.has(name)));
  assert.deepEqual(problems, []);
});
