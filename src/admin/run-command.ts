/** `run_command`: one program for a diagnosis, never a shell. The rules are in `allow-list`, the text in `argv`. */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { defineOperation, type OperationContext } from '../core/operation.ts';
import { type Log, writeDebug } from '../core/record.ts';
import { type AllowList, createAllowList, type CommandRule, isPlainName } from './allow-list.ts';
import { MAX_COMMAND, parseArgv } from './argv.ts';
import { shortReport } from './run-command-output.ts';
import { findProgram, prepareScratch, type ProgramResult, runProgram } from './run-command-process.ts';

/** Programs that may run at once, whoever started them. */
const MAX_RUNNING = 4;

export type CommandMode = 'off' | 'allow-list' | 'any';
type Argv = [program: string, ...args: string[]];
type RunContext = Pick<OperationContext, 'signal' | 'progress'>;

export interface CommandService extends AsyncDisposable {
  readonly mode: CommandMode;
  /** @throws AppError INVALID_INPUT when it is not one command, FORBIDDEN when it is not allowed. */
  parse(command: string): Argv;
  /** @throws AppError RATE_LIMITED at once, UNAVAILABLE when the program is not installed. */
  run(argv: Argv, context: RunContext): Promise<ProgramResult>;
}

export interface CommandOptions {
  mode: CommandMode;
  /** Replaces the built-in rules. */
  allow?: readonly CommandRule[] | undefined;
  timeoutMs: number;
  maxOutputBytes: number;
  /** Made with mode 0700 when it is first needed. */
  scratchDir: string;
  clock: Clock;
  log: Log;
}

/** @throws Error when a rule of `allow` can't be used. */
export function createCommandService(options: CommandOptions): CommandService {
  const { mode, allow, timeoutMs, maxOutputBytes, clock } = options;
  const scratchDir = resolve(options.scratchDir);
  const allowList = createAllowList(allow);
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  let scratch: Promise<void> | undefined;

  /** Once; again when it failed. */
  async function prepare(): Promise<void> {
    try {
      await (scratch ??= prepareScratch(scratchDir));
    } catch (cause) {
      scratch = undefined;
      throw cause;
    }
  }

  async function start(argv: Argv, { signal, progress }: RunContext): Promise<ProgramResult> {
    const file = await findProgram(argv[0]);
    await prepare();
    const stop = AbortSignal.any([signal, closing.signal]);
    const run = { argv, file, scratchDir, timeoutMs, maxOutputBytes, signal: stop, progress };
    writeDebug(options, 'commands', () => ({ message: `${file} begins, ${running.size + 1} run` }));
    const result = await runProgram(run, clock);
    writeDebug(options, 'commands', () => ({ message: endOf(file, result), duration_ms: result.durationMs }));
    return result;
  }

  return {
    mode,
    parse: (command) => parseAllowed(command, mode, allowList),
    async run(argv, context) {
      if (running.size >= MAX_RUNNING)
        throw new AppError('RATE_LIMITED', `${MAX_RUNNING} commands are running; wait until one has ended`);
      const run = start(argv, context).finally(() => running.delete(run));
      running.add(run);
      return run;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await Promise.allSettled(running);
    },
  };
}

function parseAllowed(command: string, mode: CommandMode, allowList: AllowList): Argv {
  if (mode === 'off')
    throw new AppError('FORBIDDEN', 'commands are turned off by the setting commands.mode: off');
  const argv = parseArgv(command);
  requirePlainName(argv[0]);
  if (mode === 'allow-list') allowList.require(argv);
  return argv;
}

function requirePlainName(program: string): void {
  if (isPlainName(program)) return;
  throw new AppError(
    'INVALID_INPUT',
    'command: the program has to be a name without a path or an assignment; it is looked up in fixed folders',
  );
}

export const runCommand = defineOperation({
  name: 'run_command',
  title: 'Run a command',
  description:
    'Runs one program on this machine and returns its output, for diagnosis: uptime, df -h, free -m, docker ps, ss -tln, openssl s_client -connect HOST:443, dig NAME. No shell: no pipes, redirection or variables. A refusal says what is allowed.',
  permission: 'commands:run',
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'listed',
  toolset: 'system',
  http: { method: 'POST', path: '/v1/commands' },
  offBy: ({ commands }: { commands: CommandService }) =>
    commands.mode === 'off' ? 'commands.mode: off' : undefined,
  input: z.object({
    command: z
      .string()
      .min(1)
      .max(MAX_COMMAND)
      .describe('Program and arguments on one line; quotes and backslashes as in a shell'),
  }),
  output: z.object({
    exit_code: z.int().nullable().describe('Null when a signal ended it'),
    signal: z.string().nullable(),
    timed_out: z.boolean(),
    stdout: z.string(),
    stderr: z.string(),
    truncated: z.boolean().describe('True when it wrote more than is shown'),
    output_bytes: z.int().describe('All that it wrote'),
    duration_ms: z.number(),
    hint: z.string().optional().describe('How to see the rest'),
  }),
  shorten: shortReport,
  confirm: ({ command }) =>
    `Run this on the machine, with all rights of this process: ${JSON.stringify(parseArgv(command))}`,
  confirmIf: ({ commands }) => commands.mode === 'any',
  async handler({ command }, context, { commands }: { commands: CommandService }) {
    const argv = commands.parse(command);
    context.audit({ argv });
    return reported(await commands.run(argv, context), context);
  },
});

/** What it wrote is its caller's affair; how much, and how it ended, tells what went on. */
const endOf = (file: string, { exitCode, signal, ended, outputBytes }: ProgramResult): string =>
  `${file} ended: exit ${exitCode ?? 'none'}, signal ${signal ?? 'none'}, ${ended ?? 'by itself'}, ${outputBytes} bytes`;

/** The digest is of the text that was kept, standard output first, so that who reads all of it can compare. */
function reported(result: ProgramResult, { audit }: OperationContext) {
  const { exitCode, signal, ended, stdout, stderr } = result;
  audit({
    exit_code: exitCode,
    signal,
    ended,
    output_sha256: createHash('sha256').update(stdout).update(stderr).digest('hex'),
  });
  if (ended === 'cancelled')
    throw new AppError('CANCELLED', 'the call was cancelled; the program and what it started were ended');
  return {
    exit_code: exitCode,
    signal,
    timed_out: ended === 'timeout',
    stdout,
    stderr,
    truncated: result.truncated,
    output_bytes: result.outputBytes,
    duration_ms: result.durationMs,
  };
}
