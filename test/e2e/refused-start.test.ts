/** A start that can't succeed says at once what is wrong, where, and what to do; it shows no stack and leaves nothing. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type TestContext } from 'node:test';
import { PATIENCE_MS } from '../support/eventually.ts';
import { startProduct } from '../support/product.ts';

const main = join(import.meta.dirname, '../../src/main.ts');
const NOBODY = 65_534;
const NOT_USABLE = 5;
const isRoot = process.getuid?.() === 0;

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'ohp-refused-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

interface Setting {
  env?: Record<string, string>;
  uid?: number;
  /** Shell commands that prepare what only this start sees. */
  before?: string;
}

async function start(dataDir: string, { env = {}, uid, before }: Setting = {}) {
  const program = [process.execPath, '--disable-warning=ExperimentalWarning', main];
  const [command = '', ...args] =
    before === undefined ? program : ['unshare', '-m', 'sh', '-ec', `${before}; exec "$@"`, 'sh', ...program];
  const child = spawn(command, args, {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      OHP_DATA_DIR: dataDir,
      OHP_HTTP_PORT: '0',
      OHP_HTTPS_PORT: '0',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    // One that hangs is ended and has no exit code.
    timeout: PATIENCE_MS,
    killSignal: 'SIGKILL',
    ...(uid !== undefined && { uid }),
  });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

/** One line, with what and where in it. */
async function assertRefused(dataDir: string, message: RegExp, setting?: Setting): Promise<void> {
  const { code, stdout, stderr } = await start(dataDir, setting);
  assert.match(stderr, message);
  assert.doesNotMatch(stderr, /^\s+at /m, 'no stack');
  assert.deepEqual([code, stdout, stderr.trimEnd().split('\n').length], [NOT_USABLE, '', 1], stderr);
}

/** The audit trail and the log go on without room, and say so; the last line is what stopped it. */
async function assertFull(dataDir: string, setting: Setting): Promise<void> {
  const { code, stdout, stderr } = await start(dataDir, setting);
  const lines = stderr.trimEnd().split('\n');
  assert.match(lines.at(-1) ?? '', /: the disk is full \(.*make room/);
  for (const line of lines) assert.match(line, /no space left|disk is full/, stderr);
  assert.deepEqual([code, stdout], [NOT_USABLE, '']);
}

const canBeNobody =
  isRoot && spawnSync(process.execPath, ['--check', main], { uid: NOBODY, cwd: '/' }).status === 0;
const canMount = isRoot && spawnSync('unshare', ['-m', 'true']).status === 0;

test('a data folder that can not be made: a place where nothing can be made', {
  skip: !existsSync('/proc/self') && 'no /proc',
}, async () => {
  await assertRefused('/proc/nope', /^\/proc\/nope: .*ENOENT.*OHP_DATA_DIR/);
  await assertRefused('/proc/nope/deeper/still', /^\/proc\/nope\/deeper\/still: .*OHP_DATA_DIR/);
});

test('a data folder that is a file, or below one', async (t) => {
  const file = join(folder(t), 'file');
  writeFileSync(file, 'mine');
  await assertRefused(file, /file: is a file and no folder/);
  await assertRefused(join(file, 'below'), /file\/below: .*is a file.*OHP_DATA_DIR/);
  assert.equal(readFileSync(file, 'utf8'), 'mine');
});

test('a data folder that this user may not make, or not write', {
  skip: !canBeNobody && 'only root can become another user',
}, async (t) => {
  const parent = folder(t);
  chmodSync(parent, 0o755);
  await assertRefused(join(parent, 'data'), /data: this user may not .*EACCES.*OHP_DATA_DIR/, {
    uid: NOBODY,
  });
  mkdirSync(join(parent, 'theirs'));
  await assertRefused(join(parent, 'theirs'), /theirs: belongs to another user .*OHP_DATA_DIR/, {
    uid: NOBODY,
  });
});

test('a data folder on a file system that is read-only', {
  skip: !canMount && 'only root can mount',
}, async (t) => {
  const path = folder(t);
  const before = `mount -t tmpfs -o mode=700 none ${path}; mount -o remount,ro ${path}`;
  await assertRefused(path, /the file system is read-only .*OHP_DATA_DIR/, { before });
  await assertRefused(join(path, 'data'), /the file system is read-only .*OHP_DATA_DIR/, { before });
});

for (const size of ['16k', '128k'])
  test(`a disk that is full at the first start: ${size} are left`, {
    skip: !canMount && 'only root can mount',
  }, async (t) => {
    const path = folder(t);
    await assertFull(path, { before: `mount -t tmpfs -o mode=700,size=${size} none ${path}` });
  });

test('a symbolic link to a folder is followed; one to nothing is refused and not filled in', async (t) => {
  const parent = folder(t);
  mkdirSync(join(parent, 'real'), { mode: 0o700 });
  symlinkSync('real', join(parent, 'link'));
  symlinkSync('gone', join(parent, 'dangling'));
  await using product = await startProduct({ dataDir: join(parent, 'link') });
  assert.ok(readdirSync(join(parent, 'real')).includes('state.sqlite'));
  await product.stop();
  await assertRefused(join(parent, 'dangling'), /dangling: is a symbolic link to nothing/);
  assert.ok(!existsSync(join(parent, 'gone')));
});

test('a folder with files of others in it keeps its mode and gets none of ours', async (t) => {
  const path = folder(t);
  chmodSync(path, 0o755);
  writeFileSync(join(path, 'letters.txt'), '');
  await assertRefused(path, /holds other files .*name a folder of its own, or run: chmod 700/);
  assert.equal(statSync(path).mode & 0o777, 0o755);
  assert.deepEqual(readdirSync(path), ['letters.txt']);
});

test('a folder of another user is not used, though it is private', {
  skip: !isRoot && 'only root can make one',
}, async (t) => {
  const path = folder(t);
  chownSync(path, NOBODY, NOBODY);
  await assertRefused(
    path,
    new RegExp(`^${path}: belongs to another user \\(id ${NOBODY}, .*OHP_DATA_DIR.*chown`),
  );
  assert.deepEqual(readdirSync(path), []);
});

test('what another user laid into the folder while it was open is not used, nor are links followed', async (t) => {
  const victim = join(folder(t), 'victim');
  for (const name of ['ohp.pid', 'master.key', 'lock.sqlite', 'state.sqlite', 'ca.pem', 'logs', 'scratch']) {
    const path = folder(t);
    chmodSync(path, 0o777);
    // The folder looks as if this program had used it before.
    writeFileSync(join(path, 'lock.sqlite'), '');
    rmSync(join(path, name), { force: true });
    writeFileSync(victim, 'mine');
    symlinkSync(victim, join(path, name));
    await assertRefused(path, new RegExp(`${name}: is a symbolic link`));
    assert.equal(readFileSync(victim, 'utf8'), 'mine');
    if (!isRoot) continue;
    rmSync(join(path, name));
    writeFileSync(join(path, name), '', { mode: 0o600 });
    chownSync(join(path, name), NOBODY, NOBODY);
    await assertRefused(path, new RegExp(`${name}: belongs to another user`));
  }
});

test("a folder that is empty, or was this program's, becomes private", async (t) => {
  const path = folder(t);
  chmodSync(path, 0o755);
  await using first = await startProduct({ dataDir: path });
  await first.stop();
  assert.equal(statSync(path).mode & 0o777, 0o700);
  chmodSync(path, 0o750);
  await using second = await startProduct({ dataDir: path });
  assert.equal(statSync(path).mode & 0o777, 0o700);
  await second.stop();
});

test('a master key that is not one: what is wrong with it and what is allowed, and the file stays', async (t) => {
  const path = folder(t);
  const file = join(path, 'master.key');
  const good = Buffer.alloc(32, 1).toString('hex');
  const faults: [content: string, mode: number, message: RegExp][] = [
    ['not a key', 0o600, /master\.key: holds no master key: .*43 characters.*64 characters/],
    ['', 0o600, /master\.key: holds no master key/],
    ['x'.repeat(5000), 0o600, /master\.key: holds no master key: it is 5000 bytes long/],
    [good, 0o640, /master\.key: has mode 0640, .*run: chmod 600 .*master\.key/],
  ];
  for (const [content, mode, message] of faults) {
    writeFileSync(file, content);
    chmodSync(file, mode);
    await assertRefused(path, message);
    assert.equal(readFileSync(file, 'utf8'), content);
    assert.ok(!existsSync(join(path, 'state.sqlite')));
  }
  rmSync(file);
  mkdirSync(file);
  await assertRefused(path, /master\.key: is no file/);
});

test('data without its master key: what to restore, and no new key is left behind', async (t) => {
  const path = folder(t);
  await using product = await startProduct({ dataDir: path });
  await product.stop();
  const key = readFileSync(join(path, 'master.key'));
  rmSync(join(path, 'master.key'));
  const before = readdirSync(path);
  await assertRefused(path, /master\.key: is missing.*restore.*OHP_MASTER_KEY/);
  assert.deepEqual(readdirSync(path), before);
  writeFileSync(join(path, 'master.key'), key, { mode: 0o600 });
  await using again = await startProduct({ dataDir: path });
  await again.stop();
});

test('a state that is no database, or of a newer program', async (t) => {
  const path = folder(t);
  await using product = await startProduct({ dataDir: path });
  await product.stop();
  writeFileSync(join(path, 'state.sqlite'), 'x'.repeat(8192));
  for (const suffix of ['-wal', '-shm']) rmSync(join(path, `state.sqlite${suffix}`), { force: true });
  await assertRefused(path, /state\.sqlite: is damaged .*restore/);
});

test("an administrator's token that was cut is refused at the first start, without a stack, and is not shown", async (t) => {
  const { code, stderr } = await start(folder(t), {
    env: { OHP_ADMIN_TOKEN: `ohp_${'secretA1b2'.repeat(4)}123456789` },
  });
  assert.equal(code, 2);
  assert.match(stderr, /OHP_ADMIN_TOKEN.*mistyped or cut\n$/);
  assert.doesNotMatch(stderr, /secret|^\s+at /m);
});

test('a start that is refused leaves no folder of the tests behind', async (t) => {
  const parent = folder(t);
  const usual = process.env.TMPDIR;
  process.env.TMPDIR = parent;
  t.after(() => {
    if (usual === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = usual;
  });
  await assert.rejects(startProduct({ env: { OHP_LOG_LEVEL: 'loud' } }), /ended with 2/);
  assert.deepEqual(readdirSync(parent), []);
});
