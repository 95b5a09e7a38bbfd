/** `tools/run.mjs`: what stands between `npm start` and the program, on the machine's own Node. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type TestContext } from 'node:test';

const root = join(import.meta.dirname, '..');
const runner = join(root, 'tools/run.mjs');
/** The Node of the machine, where it has one besides the project's: it may be too old for the project. */
const path = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .join(delimiter);

/** Nothing that a failed test started stays. */
function reap(t: TestContext, child: ChildProcess): ChildProcess {
  t.after(() => child.kill('SIGKILL'));
  return child;
}

interface Setting {
  env?: Record<string, string>;
  cwd?: string;
}

function start(args: string[], { env = {}, cwd = tmpdir() }: Setting = {}): ChildProcess {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(?:npm_|NODE_)/.test(name)),
  );
  return spawn('node', [runner, ...args], { cwd, env: { ...inherited, PATH: path, ...env } });
}

async function finish(child: ChildProcess) {
  const [stdout, [code, signal]] = await Promise.all([text(child.stdout!), once(child, 'exit')]);
  return { stdout, code, signal };
}

function script(t: TestContext, content: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-run-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'script.ts'), content);
  return join(folder, 'script.ts');
}

/** With and without npm in between, which decides whether a process stays to watch. */
const settings: [string, Record<string, string>][] = [
  ['started by hand', {}],
  ['below npm', { npm_lifecycle_event: 'start' }],
];

for (const [how, env] of settings) {
  test(`${how}: TypeScript runs on Node >= 24, with its arguments, in the directory of the caller`, async (t) => {
    const file = script(
      t,
      'const seen: unknown[] = [parseInt(process.versions.node) >= 24, process.argv.slice(2), process.cwd()]; console.log(JSON.stringify(seen))',
    );
    const { stdout, code } = await finish(start([file, 'a b', '--c'], { env, cwd: '/' }));
    assert.deepEqual(JSON.parse(stdout), [true, ['a b', '--c'], '/']);
    assert.equal(code, 0);
  });

  test(`${how}: the exit code and the signal that ended the program are its own`, async (t) => {
    const exit = script(t, 'process.exit(7)');
    const killed = script(t, "process.kill(process.pid, 'SIGKILL')");
    assert.equal((await finish(start([exit], { env }))).code, 7);
    assert.equal((await finish(start([killed], { env }))).signal, 'SIGKILL');
  });

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    test(`${how}: ${signal} arrives, once`, async (t) => {
      const file = script(
        t,
        `let count = 0;
        process.on('${signal}', () => { count += 1; setTimeout(() => { console.log(count); process.exit(0); }, 100); });
        console.error('ready'); setInterval(() => {}, 1000);`,
      );
      const child = reap(t, start([file], { env }));
      await once(child.stderr!, 'data');
      child.kill(signal);
      assert.equal((await finish(child)).stdout, '1\n');
    });
}

test('below npm: the program is told to stop when the shell in between is gone', async (t) => {
  const file = script(
    t,
    "process.on('SIGTERM', () => { console.log('asked to stop'); process.exit(0); }); console.log('ready'); setInterval(() => {}, 1000);",
  );
  const shell = spawn('sh', ['-c', `node ${runner} ${file}; true`], {
    env: { ...process.env, PATH: path, npm_lifecycle_event: 'start' },
  });
  const output = text(shell.stdout);
  await once(shell.stdout, 'data');
  shell.kill('SIGTERM');
  assert.match(await output, /asked to stop/);
});

test('what begins with -- goes to node as it is, in the folder of the project', async () => {
  const { stdout } = await finish(start(['--test', '--test-reporter=tap', 'src/core/ids.ts']));
  assert.match(stdout, /# fail 0/);
});

test('without a script it says how it is used', async () => {
  assert.equal((await finish(start([]))).code, 1);
});

test('ohp runs through a link, as npm makes one', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-link-'));
  t.after(() => rmSync(folder, { recursive: true }));
  symlinkSync(join(root, 'bin/ohp.mjs'), join(folder, 'ohp'));
  const printed = execFileSync(join(folder, 'ohp'), ['--version'], { env: { ...process.env, PATH: path } });
  assert.match(printed.toString(), /^\d+\.\d+\.\d+\n$/);
});
