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
  core: { units: [], packages: ['zod'] },
  config: { units: ['core'], packages: ['yaml', 'zod'] },
  store: { units: ['core'], packages: ['better-sqlite3', 'kysely'] },
  proxies: { units: ['core', 'store/database', 'routes/schema'], packages: ['ipaddr.js', 'kysely', 'zod'] },
  routes: { units: ['core', 'store/database', 'proxies/schema'], packages: ['kysely', 'zod'] },
  certificates: { units: ['core', 'store/database'], packages: ['kysely', 'zod'] },
  tokens: { units: ['core', 'store/database'], packages: ['kysely', 'zod'] },
  sessions: { units: ['core', 'store/database'], packages: ['kysely', 'zod'] },
  services: { units: ['core'], packages: ['dockerode', 'zod'] },
  logs: { units: ['core'], packages: ['better-sqlite3', 'zod'] },
  admin: { units: ['core'], packages: ['zod'] },
  gateway: {
    units: [
      'core',
      'proxies/schema',
      'proxies/target-policy',
      'routes/schema',
      'routes/match',
      'routes/normalise',
    ],
    packages: ['ipaddr.js', 'undici'],
  },
  interfaces: { units: ['core'], packages: ['@modelcontextprotocol/server', 'commander', 'hono', 'zod'] },
  operations: {
    units: ['core', 'admin', 'certificates', 'logs', 'proxies', 'routes', 'services', 'tokens'].map(
      operationsOf,
    ),
    packages: [],
  },
  app: { units: ['*'], packages: [] },
  'app.settings': { units: ['config', 'core', 'gateway/settings', 'interfaces/mcp/settings'], packages: [] },
  main: { units: ['app', 'banner', 'config', 'core'], packages: [] },
  banner: { units: ['config'], packages: [] },
  cli: { units: ['core', 'interfaces/cli', 'operations'], packages: [] },
};

function operationsOf(noun: string): string {
  return noun === 'core' ? noun : `${noun}/operations`;
}

const files = globSync('**/*.ts', { cwd: src })
  .filter((path) => !path.endsWith('.test.ts'))
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

test('built-in modules are written with node:', () => {
  const bare = new Set(builtinModules.filter((name) => !name.startsWith('_') && !name.startsWith('node:')));
  const problems = files.flatMap((file) => file.imports.filter((name) => bare.has(name)));
  assert.deepEqual(problems, []);
});
