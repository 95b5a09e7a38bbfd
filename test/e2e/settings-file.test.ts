/** docs/guides/settings-file.md: its file starts the product as it says, and its mistakes are told as they stand there. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { PATIENCE_MS } from '../support/eventually.ts';
import { Guide } from '../support/guide.ts';
import { startProduct } from '../support/product.ts';

const guide = new Guide('settings-file');
const root = join(import.meta.dirname, '../..');

function fileOf(content: string): { path: string; [Symbol.dispose](): void } {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-settings-'));
  const path = join(folder, 'config.yaml');
  writeFileSync(path, content);
  return { path, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

const yaml = guide.block('yaml', 'http_port: 80');

test('the file of the guide is taken as it stands; a variable wins over it', async () => {
  using file = fileOf(yaml);
  // Ports below 1024 are not this test's, and another process may have them: `startProduct` sets the variables.
  await using product = await startProduct({ env: { OHP_CONFIG: file.path, OHP_BIND: '127.0.0.1' } });
  assert.ok(![80, 443].includes(product.httpPort), 'OHP_HTTP_PORT wins');
  const run = await product.api('POST', '/v1/commands', { command: 'uptime' });
  assert.equal(run.body.error.code, 'FORBIDDEN', 'commands.mode is off');
  const { status } = await product.get('proxy.example.com', '/healthz');
  assert.equal(status, 200, 'control.hosts names it');
});

test('the schema that its first line names is there, and the generated table has each of its keys', () => {
  const [, schema = ''] = /\$schema=(\S+)/.exec(yaml) ?? [];
  assert.ok(existsSync(join(root, schema)));
  const table = readFileSync(join(root, 'docs/generated/config.md'), 'utf8');
  for (const key of [
    'bind',
    'http_port',
    'control.hosts',
    'log.level',
    'log.retention_days',
    'mcp.confirm',
    'commands.mode',
  ])
    assert.ok(table.includes(`\`${key}\``), key);
});

async function start(path: string, env: Record<string, string> = {}) {
  const dataDir = mkdtempSync(join(tmpdir(), 'ohp-settings-data-'));
  try {
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', join(root, 'src/main.ts')],
      {
        env: {
          PATH: process.env['PATH'],
          NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
          OHP_DATA_DIR: dataDir,
          OHP_CONFIG: path,
          ...env,
        },
        stdio: ['ignore', 'ignore', 'pipe'],
        timeout: PATIENCE_MS,
        killSignal: 'SIGKILL',
      },
    );
    const [err, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    return { err, code };
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

test('a setting that is wrong stops the start with exit code 2, and is told in the words of the guide', async () => {
  const wrong = yaml.replace('https_port: 443', 'https_prot: 443').replace('level: info', 'level: verbose');
  using file = fileOf(wrong);
  const { err, code } = await start(file.path);
  assert.equal(code, 2);
  const told = guide.block('', 'the configuration is not usable').trimEnd().split('\n');
  assert.equal(told.length, 3);
  for (const line of told) {
    // It goes on where the guide leaves off.
    const words = line.replace(/…$/, '').replaceAll('config.yaml', file.path).trim();
    const bare = line.replace(/…$/, '').trim();
    assert.ok(err.includes(words) || err.includes(bare), `${line}\n---\n${err}`);
  }
});

test('what the parser refuses is told once, with line and column', async () => {
  const [, said = ''] = /`config\.yaml:3:9: ([^`…]+) …`/.exec(guide.text) ?? [];
  using file = fileOf('bind: 127.0.0.1\nlog:\n  level: info: debug\n');
  const { err, code } = await start(file.path);
  assert.equal(code, 2);
  assert.ok(err.includes(said.trim()), err);
  assert.match(err, /:3:\d+: /);
});
