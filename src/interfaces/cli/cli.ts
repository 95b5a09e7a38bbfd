/**
 * The command line `ohp`: one grammar, `ohp <verb> <noun> [values] [--options]`, which is the name of an operation with
 * a space in it. Derived from the operations; talks to the server's REST interface and decides nothing itself.
 * `src/cli.ts` calls it with the process's streams; tests call it with theirs.
 */
import { Command, CommanderError } from 'commander';
import { isCredential } from '../../core/bearer.ts';
import { parseInput } from '../../core/dispatch.ts';
import { AppError, errorSurface, toAppError } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { DEFAULT_SCOPE } from '../../core/permissions.ts';
import { cleanLines, cleanText } from '../../core/untrusted.ts';
import { argumentsOf } from '../arguments.ts';
import { addArguments, commandWordsOf, readArguments } from './arguments.ts';
import { addBroker, type RunBroker } from './broker.ts';
import { call, type Server } from './client.ts';
import { completionScript, shells } from './completion.ts';
import { addConnectionOptions, type ConnectionOptions, resolveServer, valueOf } from './connection.ts';
import { forgetLogin, readCredentials, storeLogin } from './credentials.ts';
import { loginByDevice } from './device-login.ts';
import { writeDocument } from './document.ts';
import type { CliIo } from './io.ts';
import { renderJson, renderOutput, tableShapeOf } from './output.ts';
import { askSecret, askYesNo, questionOf } from './prompt.ts';
import { addReset, RESET, type ResetAdminToken } from './reset.ts';
import { revoke } from './session.ts';
import { addVerify, VERIFY, type VerifyAuditFiles } from './verify.ts';

const MAX_MESSAGE = 4000;
const HELP_WIDTH = 100;
const USAGE = errorSurface.INVALID_INPUT.exit;

export interface CliOptions {
  operations: readonly AnyOperation[];
  version: string;
  resetAdminToken: ResetAdminToken;
  verifyAuditFiles: VerifyAuditFiles;
  runBroker: RunBroker;
}

/** Returns the exit code; never throws and never ends the process. */
export async function runCli(args: readonly string[], io: CliIo, options: CliOptions): Promise<number> {
  try {
    await createProgram(io, options).parseAsync(args, { from: 'user' });
    return 0;
  } catch (cause) {
    if (cause instanceof CommanderError && cause.exitCode === 0) return 0;
    return report(io, cause);
  }
}

function report(io: CliIo, cause: unknown): number {
  if (cause instanceof UsageError) {
    io.stderr.write(`${cleanLines(cause.message, MAX_MESSAGE)}\n`);
    return USAGE;
  }
  const error = io.signal.aborted ? new AppError('CANCELLED', 'cancelled') : toAppError(cause);
  io.stderr.write(`${error.code}: ${cleanLines(messageFor(error), MAX_MESSAGE)}\n`);
  return errorSurface[error.code].exit;
}

/** A fault of this program shows its cause: the person at the terminal is the one who can report it. */
function messageFor({ code, message, details, cause }: AppError): string {
  const traceId = details?.trace_id;
  const hint = code === 'UNAUTHENTICATED' ? '\nrun: ohp login (npx ohp login), or set OHP_TOKEN' : '';
  const fault = code === 'INTERNAL' && cause instanceof Error ? `\n${cause.stack ?? cause.message}` : '';
  return `${message}${hint}${fault}${typeof traceId === 'string' ? `\ntrace id: ${traceId}` : ''}`;
}

function createProgram(io: CliIo, options: CliOptions): Command {
  const program = new Command('ohp')
    .description('Operates an OAuth HTTPS Proxy: ohp <verb> <noun> [values] [--options]')
    .version(options.version, '-V, --version')
    .enablePositionalOptions()
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      getOutHelpWidth: () => helpWidthOf(io),
      outputError: () => undefined, // `report` says it, with what is valid.
    });
  for (const operation of options.operations) addOperation(program, operation, io, options);
  addLogin(program, io, options);
  addLogout(program, io);
  addBroker(program, { io, run: options.runBroker });
  addReset(verbGroup(program, RESET.verb), { io, reset: options.resetAdminToken, confirm });
  addVerify(verbGroup(program, VERIFY.verb), { io, verify: options.verifyAuditFiles });
  program
    .command('completion')
    .argument('<shell>', shells.join(', '))
    .description('Prints a completion script: eval "$(ohp completion bash)"')
    .action((shell: string) => void io.stdout.write(completionScript(shell, options.operations)));
  for (const verb of program.commands) summarizeVerb(verb);
  for (const command of [program, ...program.commands, ...program.commands.flatMap((c) => c.commands)])
    explainFaults(command);
  return program;
}

function addOperation(
  program: Command,
  operation: AnyOperation,
  io: CliIo,
  { operations }: CliOptions,
): void {
  const [verb, noun] = commandWordsOf(operation);
  const group = noun === undefined ? program : verbGroup(program, verb);
  const command = group
    .command(noun ?? verb)
    .summary(operation.title)
    .description(operation.description);
  const args = argumentsOf(operation);
  addArguments(command, args);
  addConnectionOptions(command).option('--json', 'print the answer as JSON');
  const question = questionOf(operation);
  if (question) command.option('--yes', 'do not ask for confirmation');
  const { document } = operation;
  if (document) command.option('--out <file>', 'write it into this new file, which only you can read');
  command.action(async () => {
    const given = await readArguments(command, args, io);
    const input = parseInput(operation, given);
    const options = command.opts<ConnectionOptions & { json?: boolean; yes?: boolean; out?: string }>();
    const server = await resolveServer(options, io);
    const message = options.yes === true ? undefined : question?.(input);
    if (message !== undefined) await confirm(message, io);
    const tell = (text: string) => void io.stderr.write(`… ${cleanText(text)}\n`);
    const ask = () => call(server, operation, given, { signal: io.signal, tell });
    if (document && options.out !== undefined) {
      const text = async () => (options.json === true ? renderJson : document)(await ask());
      return void io.stderr.write(`wrote ${await writeDocument(options.out, io, text)}\n`);
    }
    const output = await ask();
    if (options.json === true) io.stdout.write(renderJson(output));
    else if (document) io.stdout.write(document(output));
    else print(io, renderOutput(output, tableShapeOf(operation, operations), widthOf(io)));
  });
}

function print(io: CliIo, { text, notes }: { text: string; notes: string }): void {
  io.stdout.write(text);
  io.stderr.write(notes);
}

const helpWidthOf = ({ stdout }: CliIo): number => (stdout.isTTY === true && stdout.columns) || HELP_WIDTH;

/** A pipe gets whole lines; a terminal gets lines that fit. */
const widthOf = ({ stdout }: CliIo): number => (stdout.isTTY === true ? (stdout.columns ?? 80) : Infinity);

function verbGroup(program: Command, verb: string): Command {
  const existing = program.commands.find((command) => command.name() === verb);
  if (existing) return existing;
  return program.command(verb).usage('<noun> [values] [options]').helpCommand(false);
}

async function confirm(message: string, io: CliIo): Promise<void> {
  if (io.stdin.isTTY !== true)
    throw new AppError('CONFIRMATION_REQUIRED', `${message}\nnobody is here to confirm; repeat with --yes`);
  if (!(await askYesNo(io, message)))
    throw new AppError('CONFIRMATION_REQUIRED', 'not confirmed; nothing was done');
}

interface LoginOptions extends ConnectionOptions {
  device?: boolean;
  scope: string;
}

function addLogin(program: Command, io: CliIo, { operations }: CliOptions): void {
  const command = program
    .command('login')
    .argument('[url]', 'the control host, such as https://localhost:8443')
    .description(
      'Asks for an API token, or signs a person in; keeps what comes of it in a file only you can read',
    )
    .option('--device', 'sign in with a browser, here or elsewhere, in the place of an API token')
    .option('--scope <scopes>', 'with --device: what to ask for, such as "operator"', DEFAULT_SCOPE);
  addConnectionOptions(command).action(async (url: string | undefined, options: LoginOptions) => {
    const server = await resolveServer(url === undefined ? options : { ...options, url }, io, {
      anonymous: true,
    });
    const { token, session } = options.device
      ? await loginByDevice(server, options.scope, io)
      : { token: await askToken(server, io), session: undefined };
    await checkToken({ ...server, token }, operations, io.signal);
    const path = storeLogin(io, { origin: server.url.origin, token, caFile: server.caFile, session });
    io.stderr.write(`signed in to ${server.url.origin}; the token is kept in ${path}\n`);
  });
}

async function askToken({ url }: Server, io: CliIo): Promise<string> {
  const token = (await askSecret(io, `API token for ${url.origin}: `)).trim();
  if (isCredential(token)) return token;
  throw new AppError('INVALID_INPUT', 'that is not a token: it has to be one line of printable ASCII');
}

/** Any call that needs a credential tells whether this is one; being refused for a permission tells it too. */
async function checkToken(
  server: Server,
  operations: readonly AnyOperation[],
  signal: AbortSignal,
): Promise<void> {
  const needed = ({ permission, effect, input }: AnyOperation) =>
    permission !== 'public' && effect === 'read' && input.safeParse({}).success;
  const candidates = operations.filter(needed);
  const probe = candidates.find(({ permission }) => permission === 'authenticated') ?? candidates[0];
  if (!probe) throw new AppError('INTERNAL', 'no operation can check a token');
  try {
    await call(server, probe, {}, { signal });
  } catch (cause) {
    if (!(cause instanceof AppError) || cause.code !== 'FORBIDDEN') throw cause;
  }
}

function addLogout(program: Command, io: CliIo): void {
  const command = program
    .command('logout')
    .argument('[url]', 'the control host')
    .description(
      'Forgets the kept token. A sign-in ends with it; an API token stays valid until it is revoked',
    );
  addConnectionOptions(command).action(async (url: string | undefined, options: ConnectionOptions) => {
    const server = await resolveServer(url === undefined ? options : { ...options, url }, io, {
      anonymous: true,
    });
    const { origin } = server.url;
    const session = valueOf(readCredentials(io).sessions, origin);
    const found = forgetLogin(io, origin);
    io.stderr.write(found ? `forgot the token for ${origin}\n` : `no token was kept for ${origin}\n`);
    if (session && !(await revoke(server, session, io.signal)))
      io.stderr.write(`the server did not end the sign-in; end it with: ohp list grants, ohp revoke grant\n`);
  });
}

class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Says what is valid where commander only says what is not. */
function explainFaults(command: Command): void {
  command.exitOverride((error) => {
    if (error.exitCode === 0) throw error;
    // A verb without its noun: commander has just written the help, which lists the nouns.
    const message = error.code === 'commander.help' ? '' : error.message.replace(/^error: /, '');
    throw new UsageError(`${message}\n${validFor(command, error.code)}`.trim(), { cause: error });
  });
}

/** A verb is explained by its nouns. */
function summarizeVerb(command: Command): void {
  if (command.commands.length > 0) command.summary(command.commands.map((noun) => noun.name()).join(', '));
}

function validFor(command: Command, code: string): string {
  const usage = `usage: ${pathOf(command)} ${command.usage()}`;
  if (code === 'commander.unknownOption' && command.options.length > 0) {
    const valid = `valid options: ${command.options.map((option) => option.long ?? option.flags).join(', ')}`;
    // What was typed as an option may be a value that is given without a name.
    return command.registeredArguments.length > 0 ? `${valid}\n${usage}` : valid;
  }
  if (command.commands.length > 0)
    return `${pathOf(command)} takes one of: ${command.commands.map((one) => one.name()).join(', ')}`;
  return `${usage}\nsee: ${pathOf(command)} --help`;
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}
