/**
 * Runs one program: without a shell, found in fixed folders, in a process group of its own, with three environment
 * variables, an empty folder to work in, no input, and an end in time. When this returns, the group is gone. (A
 * program that starts a session of its own leaves the group; the built-in rules have none that does.)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, SECOND, type Timer } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Progress } from '../core/operation.ts';
import { createOutput, type Output } from './run-command-output.ts';

const PROGRAM_FOLDERS = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
] as const;
/** Between asking a group to end and ending it. */
const GRACE_MS = 2 * SECOND;
/** After the program has ended, how long its last output may take to arrive. */
const DRAIN_MS = SECOND / 2;
/** A program that writes more is ended: reading it costs the edge time, whether it is kept or not. */
const FLOOD_BYTES = 32 * 1024 * 1024;
const OWNER_ONLY = 0o700;
const RUN_PREFIX = 'run-';

export interface ProgramRun {
  argv: readonly [program: string, ...args: string[]];
  /** Absolute, from `findProgram`. */
  file: string;
  /** From `prepareScratch`. Holds the folder the program works in, which is made for it and removed after it. */
  scratchDir: string;
  timeoutMs: number;
  maxOutputBytes: number;
  signal: AbortSignal;
  progress: ((update: Progress) => void) | undefined;
}

export interface ProgramResult {
  exitCode: number | null;
  signal: string | null;
  /** Why it was ended from here; undefined when it ended by itself. */
  ended: Ended | undefined;
  stdout: string;
  stderr: string;
  truncated: boolean;
  outputBytes: number;
  durationMs: number;
}

type Ended = 'timeout' | 'flood' | 'cancelled';

/** Makes the folder with mode 0700 and removes what runs have left in it that could not end properly. */
export async function prepareScratch(scratchDir: string): Promise<void> {
  await mkdir(scratchDir, { recursive: true, mode: OWNER_ONLY });
  await chmod(scratchDir, OWNER_ONLY);
  const left = (await readdir(scratchDir)).filter((name) => name.startsWith(RUN_PREFIX));
  for (const name of left) await removeFolder(join(scratchDir, name));
}

/** @throws AppError UNAVAILABLE when the program is not installed. */
export async function findProgram(program: string): Promise<string> {
  for (const folder of PROGRAM_FOLDERS) {
    const file = join(folder, program);
    if (await isExecutable(file)) return file;
  }
  throw new AppError(
    'UNAVAILABLE',
    `${program} is not installed on this machine (looked in ${PROGRAM_FOLDERS.join(', ')})`,
  );
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false; // Absent, or not for us: both mean that it can't be started from here.
  }
}

export async function runProgram(run: ProgramRun, clock: Clock): Promise<ProgramResult> {
  const started = clock.now();
  const folder = await mkdtemp(join(run.scratchDir, RUN_PREFIX));
  try {
    const output = createOutput({ clock, maxBytes: run.maxOutputBytes, progress: run.progress });
    const { exitCode, signal, ended } = await runInGroup(start(run, folder), run, output, clock);
    return {
      exitCode,
      signal,
      ended,
      stdout: output.text('stdout'),
      stderr: output.text('stderr'),
      truncated: output.truncated,
      outputBytes: output.totalBytes,
      durationMs: Math.max(0, clock.now() - started),
    };
  } finally {
    await removeFolder(folder);
  }
}

const removeFolder = (folder: string) => rm(folder, { recursive: true, force: true, maxRetries: 3 });

function start({ argv: [program, ...args], file }: ProgramRun, folder: string): ChildProcess {
  return spawn(file, args, {
    argv0: program,
    cwd: folder,
    env: { PATH: PROGRAM_FOLDERS.join(':'), LANG: 'C.UTF-8', HOME: folder },
    detached: true, // A session and group of its own, so that all of it can be ended at once.
    shell: false,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function runInGroup(child: ChildProcess, run: ProgramRun, output: Output, clock: Clock) {
  const group = createGroup(child, clock);
  const onAbort = () => group.end('cancelled');
  const timeout = clock.after(run.timeoutMs, () => group.end('timeout'));
  run.signal.addEventListener('abort', onAbort, { once: true });
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (chunk: Buffer) => {
      output.add(name, chunk);
      if (output.totalBytes > FLOOD_BYTES) group.end('flood');
    });
  const closed = new Promise<void>((resolve) => void child.once('close', () => resolve()));
  try {
    const exit = exitOf(child);
    if (run.signal.aborted) onAbort();
    const { exitCode, signal } = await exit;
    group.kill();
    await drain(child, closed, clock);
    return { exitCode, signal, ended: group.ended };
  } finally {
    timeout.cancel();
    run.signal.removeEventListener('abort', onAbort);
    group.dispose();
    output.end();
  }
}

function exitOf(child: ChildProcess): Promise<{ exitCode: number | null; signal: string | null }> {
  return new Promise((resolve, reject) => {
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
    child.once('error', (cause) =>
      reject(new AppError('UNAVAILABLE', 'the program could not be started', { cause })),
    );
  });
}

/** What left the group may hold the pipes open; it is not waited for. */
async function drain(child: ChildProcess, closed: Promise<void>, clock: Clock): Promise<void> {
  const cut = clock.after(DRAIN_MS, () => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  });
  await closed;
  cut.cancel();
}

/** The process group that the child leads. Ending it asks first and insists after a while; a flood can't wait. */
function createGroup(child: ChildProcess, clock: Clock) {
  let ended: Ended | undefined;
  let insist: Timer | undefined;

  function send(signal: NodeJS.Signals): void {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // Nobody is left in the group (ESRCH), or who is left runs as another user (EPERM): nothing more can be done.
    }
  }

  return {
    get ended(): Ended | undefined {
      return ended;
    },
    end(reason: Ended): void {
      if (ended !== undefined) return;
      ended = reason;
      send(reason === 'flood' ? 'SIGKILL' : 'SIGTERM');
      insist = clock.after(GRACE_MS, () => send('SIGKILL'));
    },
    kill: () => send('SIGKILL'),
    dispose: () => insist?.cancel(),
  };
}
