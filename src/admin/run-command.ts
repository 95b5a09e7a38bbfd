/**
 * `run_command`: one program, never a shell: for a diagnosis (the rules are in `allow-list`, the text in `argv`), or a
 * command of the settings by its name (`command-templates`). `docker …` is operations (`docker-command`), in every mode.
 */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { defineOperation, type OperationContext } from '../core/operation.ts';
import { holds } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { type Log, writeDebug } from '../core/record.ts';
import { cleanLines } from '../core/untrusted.ts';
import { type AllowList, createAllowList, type CommandRule, isPlainName } from './allow-list.ts';
import { MAX_COMMAND, parseArgv } from './argv.ts';
import {
  type CommandTemplate,
  createTemplates,
  type FilledCommand,
  type TemplateRules,
  type Value,
} from './command-templates.ts';
import { DOCKER, dockerUsages, type Operate, runDocker } from './docker-command.ts';
import { shortReport } from './run-command-output.ts';
import { findProgram, prepareScratch, type ProgramResult, runProgram } from './run-command-process.ts';

/** Characters of the name of a parameter. */
const MAX_KEY = 63;
/** Commands that may run at once, whoever started them. */
const MAX_RUNNING = 4;

export type CommandMode = 'off' | 'allow-list' | 'any';
type Argv = [program: string, ...args: string[]];
type Holder = Pick<Principal, 'permissions'>;

interface Called {
  command: string;
  parameters?: Readonly<Record<string, Value>> | undefined;
}

export interface CommandService extends AsyncDisposable {
  readonly mode: CommandMode;
  /** Of programs, as a person reads it; empty: any. */
  readonly usages: readonly string[];
  /** Commands of the settings that the principal may run. */
  templates(principal: Holder): readonly CommandTemplate[];
  /**
   * What is run: the command of the settings of that name, or program and arguments.
   * @throws AppError INVALID_INPUT when it is not one command or a parameter is wrong, FORBIDDEN when it is not allowed.
   */
  prepare(called: Called, principal: Holder): FilledCommand;
  /** Whether a person is asked first. */
  isAsked(command: string): boolean;
  /** @throws AppError RATE_LIMITED at once, UNAVAILABLE when the program is not installed. */
  run(command: FilledCommand, context: OperationContext): Promise<ProgramResult>;
}

export interface CommandOptions {
  mode: CommandMode;
  /** Replaces the built-in rules. */
  allow?: readonly CommandRule[] | undefined;
  templates?: TemplateRules | undefined;
  /** For `docker …`: an operation, by the gate. */
  operate: (...call: [...Parameters<Operate>, context: OperationContext]) => Promise<unknown>;
  timeoutMs: number;
  maxOutputBytes: number;
  /** Made with mode 0700 when it is first needed. */
  scratchDir: string;
  clock: Clock;
  log: Log;
}

/** @throws Error when a rule of `allow` can't be used. */
export function createCommandService(options: CommandOptions): CommandService {
  const { mode, allow, maxOutputBytes, clock } = options;
  const scratchDir = resolve(options.scratchDir);
  const allowList = createAllowList(allow);
  const templates = createTemplates(options.templates ?? {});
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  let scratch: Promise<void> | undefined;

  /** Once; again when it failed. */
  async function prepareFolder(): Promise<void> {
    try {
      await (scratch ??= prepareScratch(scratchDir));
    } catch (cause) {
      scratch = undefined;
      throw cause;
    }
  }

  async function start(
    { argv, timeoutMs = options.timeoutMs }: FilledCommand,
    { signal, progress }: OperationContext,
  ): Promise<ProgramResult> {
    const file = await findProgram(argv[0]);
    await prepareFolder();
    const stop = AbortSignal.any([signal, closing.signal]);
    const run = { argv, file, scratchDir, timeoutMs, maxOutputBytes, signal: stop, progress };
    writeDebug(options, 'commands', () => ({ message: `${file} begins, ${running.size + 1} run` }));
    const result = await runProgram(run, clock);
    writeDebug(options, 'commands', () => ({ message: endOf(file, result), duration_ms: result.durationMs }));
    return result;
  }

  const named = (command: string) => templates.find(({ name }) => name === command.trim());
  const allowedTo = ({ permissions }: Holder) =>
    templates.filter(({ permission }) => holds(permissions, permission));
  return {
    mode,
    usages: mode === 'allow-list' ? [...allowList.usages, ...dockerUsages] : [],
    templates: allowedTo,
    prepare({ command, parameters }, principal) {
      const mine = allowedTo(principal);
      const template = named(command);
      if (template && mine.includes(template)) return template.fill(parameters ?? {});
      if (!principal.permissions.has('commands:run') || parameters !== undefined) throw notAmong(mine);
      const argv = parseAllowed(command, mode, allowList);
      return { argv, shown: argv };
    },
    // What an operation asks, it asks itself.
    isAsked: (command) => named(command)?.confirm ?? (mode === 'any' && !/^docker(?: |$)/.test(command)),
    async run(command, context) {
      const [program, ...args] = command.argv;
      if (running.size >= MAX_RUNNING)
        throw new AppError('RATE_LIMITED', `${MAX_RUNNING} commands are running; wait until one has ended`);
      const begun =
        program === DOCKER ? docker(options, args, { ...context, closing }) : start(command, context);
      const run = begun.finally(() => running.delete(run));
      running.add(run);
      return run;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await Promise.allSettled(running);
    },
  };
}

/** The time limit reaches an operation as the end of its caller does: what it has begun it may finish. */
async function docker(
  { clock, timeoutMs, maxOutputBytes, operate }: CommandOptions,
  args: readonly string[],
  { closing, ...context }: OperationContext & { closing: AbortController },
): Promise<ProgramResult> {
  const started = clock.now();
  const late = new AbortController();
  const timer = clock.after(timeoutMs, () => late.abort());
  const signal = AbortSignal.any([context.signal, closing.signal, late.signal]);
  const ended = (text: string, isLate = false): ProgramResult => {
    const bytes = Buffer.from(cleanLines(text, text.length));
    return {
      exitCode: isLate ? null : 0,
      signal: null,
      ended: isLate ? 'timeout' : undefined,
      stdout: new StringDecoder().write(bytes.subarray(0, maxOutputBytes)),
      stderr: '',
      truncated: bytes.length > maxOutputBytes,
      outputBytes: bytes.length,
      durationMs: Math.max(0, clock.now() - started),
    };
  };
  try {
    const text = await runDocker(args, async (name, input) => {
      requireReached(name, context);
      return operate(name, input, { ...context, signal });
    });
    return ended(text);
  } catch (cause) {
    if (late.signal.aborted && cause instanceof AppError && cause.code === 'CANCELLED')
      return ended('', true);
    throw cause;
  } finally {
    timer.cancel();
  }
}

/** What a connection was narrowed to holds for what is asked by another spelling. */
function requireReached(operation: string, { reaches }: OperationContext): void {
  if (reaches?.(operation) === false)
    throw new AppError(
      'FORBIDDEN',
      `command: it asks ${operation}, which this connection does not reach: it was narrowed by toolsets or read_only`,
    );
}

/** The same whether there is one of that name or not. */
function notAmong(templates: readonly CommandTemplate[]): AppError {
  const names = templates.map(({ name }) => name).join(', ') || 'none';
  return new AppError(
    'FORBIDDEN',
    `command: it is not among the commands of the settings that you may run (${names}); each takes the permission commands:run:NAME, programs commands:run, without parameters`,
  );
}

function parseAllowed(command: string, mode: CommandMode, allowList: AllowList): Argv {
  const argv = parseArgv(command);
  requirePlainName(argv[0]);
  if (mode === 'allow-list' && argv[0] !== DOCKER) allowList.require(argv);
  return argv;
}

function requirePlainName(program: string): void {
  if (isPlainName(program)) return;
  throw new AppError(
    'INVALID_INPUT',
    'command: the program has to be a name without a path or an assignment; it is looked up in fixed folders',
  );
}

type Services = { commands: CommandService };

const common = {
  permission: 'commands:run',
  inParts: true,
  confinement: 'refused',
  untrusted: true,
  toolset: 'system',
  offBy: ({ commands }: Services): string | undefined =>
    commands.mode === 'off' ? 'commands.mode: off' : undefined,
} as const;

export const runCommand = defineOperation({
  ...common,
  name: 'run_command',
  title: 'Run a command',
  description:
    'Runs one program on this machine and returns its output, for diagnosis: uptime, df -h, free -m, docker ps, ss -tln, openssl s_client -connect HOST:443, dig NAME; or a command of the settings. No shell: no pipes. list_commands lists both.',
  effect: 'update',
  mcp: 'listed',
  http: { method: 'POST', path: '/v1/commands' },
  input: z.object({
    command: z
      .string()
      .min(1)
      .max(MAX_COMMAND)
      .describe('Program and arguments, quoted as in a shell; or the name of a command of the settings'),
    parameters: z
      .record(z.string().max(MAX_KEY), z.union([z.string().max(MAX_COMMAND), z.number(), z.boolean()]))
      .optional()
      .meta({ secret: true, description: 'Of a command of the settings: {"lines": 20}' }),
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
  confirm: ({ command }) => `Run this on the machine: ${JSON.stringify(command)}`,
  confirmAs({ commands }, called, principal) {
    const shown = JSON.stringify(commands.prepare(called, principal).shown);
    const name = called.command.trim();
    return commands.templates(principal).some((one) => one.name === name)
      ? `Run the command ${name} of the settings on the machine: ${shown}`
      : `Run this on the machine, with all rights of this process: ${shown}`;
  },
  confirmIf: ({ commands }, { command }) => commands.isAsked(command),
  async handler(called, context, { commands }: Services) {
    const command = commands.prepare(called, context.principal);
    context.audit({ argv: command.shown });
    return reported(await commands.run(command, context), context);
  },
});

export const listCommands = defineOperation({
  ...common,
  name: 'list_commands',
  title: 'List commands',
  description:
    'Lists what run_command takes of the caller: commands of the settings with their parameters, and programs.',
  effect: 'read',
  mcp: 'searchable',
  http: { method: 'GET', path: '/v1/commands' },
  input: z.object({}),
  output: z.object({
    commands: z.array(
      z.object({
        name: z.string(),
        description: z.string().optional(),
        permission: z.string(),
        parameters: z.array(
          z.object({
            name: z.string(),
            is: z.string(),
            required: z.boolean(),
            description: z.string().optional(),
          }),
        ),
      }),
    ),
    programs: z
      .object({
        mode: z.enum(['allow-list', 'any']),
        usages: z.array(z.string()).describe('Empty in mode any, in which every program may be'),
      })
      .optional()
      .describe('Absent for who may run commands of the settings only'),
  }),
  async handler(_input, { principal }, { commands }: Services) {
    const { mode, usages } = commands;
    const isAll = principal.permissions.has('commands:run');
    return {
      commands: commands.templates(principal).map(({ name, description, permission, parameters }) => ({
        name,
        description,
        permission,
        parameters: [...parameters],
      })),
      ...(mode !== 'off' && isAll && { programs: { mode, usages: [...usages] } }),
    };
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
