/**
 * Which commands `run_command` may start: a rule names a program and, as regular expressions that have to match a
 * whole argument, what its arguments may be. The built-in rules only look. They leave out every option with which
 * such a program reads a file of the caller's choice, writes one, runs another program, ends sockets, or shows
 * environments and command lines of other processes.
 */
import { AppError, messageOf } from '../core/errors.ts';
import { DOCKER } from './docker-command.ts';

export interface CommandRule {
  /** A name without a path. */
  program: string;
  /** For each argument, in order; all of them have to be there. */
  arguments: readonly string[];
  /** For every further argument; absent: there may be none. */
  rest?: string | undefined;
  /** How a person reads the rule; absent: the patterns are shown. */
  usage?: string;
}

export interface AllowList {
  readonly usages: readonly string[];
  /** @throws AppError FORBIDDEN that says what is allowed. */
  require(argv: readonly [program: string, ...args: string[]]): void;
}

interface CompiledRule {
  program: string;
  arguments: readonly RegExp[];
  rest: RegExp | undefined;
  usage: string;
}

/** Characters of one argument that a pattern sees, which bounds what a slow pattern can cost. */
export const MAX_ARGUMENT = 500;

/** @throws Error when a pattern is not a regular expression: a bad setting stops the start. */
export function createAllowList(rules: readonly CommandRule[] = readOnlyDiagnostics): AllowList {
  const compiled = rules.map(compileRule);
  return {
    usages: compiled.map(({ usage }) => usage),
    require(argv) {
      const [program, ...args] = argv;
      const candidates = compiled.filter((rule) => rule.program === program);
      if (!candidates.some((rule) => accepts(rule, args)))
        throw refusal(program, candidates.length > 0 ? candidates : compiled, candidates.length > 0);
    },
  };
}

function accepts(rule: CompiledRule, args: readonly string[]): boolean {
  if (args.length < rule.arguments.length) return false;
  return args.every((argument, index) => {
    const pattern = rule.arguments[index] ?? rule.rest;
    return pattern !== undefined && argument.length <= MAX_ARGUMENT && pattern.test(argument);
  });
}

function refusal(program: string, rules: readonly CompiledRule[], known: boolean): AppError {
  const allowed = rules.map(({ usage }) => usage);
  const what = known ? `${program} is not allowed with these arguments` : `${program} is not allowed`;
  const list = allowed.length > 0 ? allowed.join(' | ') : 'nothing (commands.allow is empty)';
  return new AppError('FORBIDDEN', `command: ${what}; allowed: ${list}`, { details: { allowed } });
}

function compileRule(rule: CommandRule, index: number): CompiledRule {
  const { program, arguments: args, rest } = rule;
  const where = `commands.allow[${index}]`;
  const fault = programFault(program);
  if (fault !== undefined) throw new Error(`${where}.program: ${JSON.stringify(program)} ${fault}`);
  return {
    program,
    arguments: args.map((pattern, position) => wholeMatch(pattern, `${where}.arguments[${position}]`)),
    rest: rest === undefined ? undefined : wholeMatch(rest, `${where}.rest`),
    usage: rule.usage ?? [program, ...args, ...(rest === undefined ? [] : [`[${rest}]…`])].join(' '),
  };
}

/** Compiled by itself first: `a)|(b` is not an expression, but would become one between the anchors. */
export function wholeMatch(pattern: string, where: string): RegExp {
  const fault = patternFault(pattern);
  if (fault !== undefined) throw new Error(`${where}: ${JSON.stringify(pattern)} ${fault}`);
  return new RegExp(`^(?:${pattern})$`, 'u');
}

/** Why a text can't be a pattern of a rule; undefined when it can. */
export function patternFault(pattern: string): string | undefined {
  try {
    void new RegExp(pattern, 'u');
    return undefined;
  } catch (cause) {
    return `has to be a regular expression, as JavaScript writes them: ${messageOf(cause)}`;
  }
}

/** Why a text can't be the program of a rule; undefined when it can. */
export function programFault(program: string): string | undefined {
  if (program === DOCKER)
    return 'is answered by operations, within the policy of services, and no rule can start the program';
  return isPlainName(program) ? undefined : 'has to be a name without a path, such as uptime';
}

/** A program is looked up in fixed folders, so its name has no path and can't be taken for an option. */
export const isPlainName = (program: string): boolean => /^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}$/.test(program);

const LABEL = '[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?';
/** A last label that begins with a letter can't be an IPv4 address in an odd spelling (decimal, hexadecimal). */
const NAME = `(?:${LABEL}\\.){0,20}[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.?`;
const OCTET = '(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
const anyCase = (name: string) =>
  name.replaceAll('.', '\\.').replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);
/** Where clouds hand out credentials (all of link-local, and two more); no diagnostic has business there. */
const METADATA = `169\\.254\\.|100\\.100\\.100\\.200\\b|${anyCase('metadata.google.internal')}`;
const HOST = `(?!${METADATA})(?:${NAME}|(?:${OCTET}\\.){3}${OCTET})`;
const PORT = '[1-9][0-9]{0,4}';
const PS_COLUMN = '(?:pid|ppid|user|stat|comm|etime|time|pcpu|pmem|rss|vsz|nlwp)';
const ALPN = '(?:h2|http/1\\.1)(?:,(?:h2|http/1\\.1))?';
const ADDRESS = '[0-9A-Fa-f.:]{2,45}';
const OWNER_NAME = `(?:${LABEL}\\.){0,20}${LABEL}\\.?`;

export const readOnlyDiagnostics: readonly CommandRule[] = [
  { program: 'uptime', arguments: [], rest: '-[ps]', usage: 'uptime [-p]' },
  { program: 'date', arguments: [], rest: '-[uR]', usage: 'date [-u]' },
  { program: 'uname', arguments: [], rest: '-[asnrvmpio]{1,9}', usage: 'uname [-a]' },
  { program: 'df', arguments: [], rest: '-[ahHiklmPT]{1,9}|/|\\.', usage: 'df [-hiT] [/]' },
  { program: 'free', arguments: [], rest: '-[bkmghltw]{1,6}', usage: 'free [-hmt]' },
  { program: 'ps', arguments: ['-[eA]'], usage: 'ps -e' },
  {
    program: 'ps',
    arguments: ['-[eA]o', `${PS_COLUMN}(?:,${PS_COLUMN}){0,11}`],
    rest: `--sort=-?${PS_COLUMN}`,
    usage: 'ps -eo pid,ppid,user,stat,comm,etime,time,pcpu,pmem,rss,vsz,nlwp [--sort=-rss]',
  },
  { program: 'ss', arguments: [], rest: '-[tulnaHspeimo46]{1,10}', usage: 'ss [-tulnaps46]' },
  {
    program: 'openssl',
    arguments: ['s_client'],
    rest: `-(?:connect|servername|showcerts|brief|alpn|tls1_[23])|${HOST}:${PORT}|${HOST}|${ALPN}`,
    usage:
      'openssl s_client -connect HOST:PORT [-servername NAME] [-showcerts] [-brief] [-alpn h2,http/1.1] [-tls1_2] [-tls1_3]',
  },
  { program: 'openssl', arguments: ['version'], usage: 'openssl version' },
  {
    program: 'dig',
    arguments: [],
    rest: `${OWNER_NAME}|@${HOST}|-x|${ADDRESS}|-[46]|\\+(?:short|trace|dnssec|tcp|noall|answer)`,
    usage:
      'dig [@SERVER] NAME [TYPE] [-x ADDRESS] [-4] [-6] [+short] [+trace] [+dnssec] [+tcp] [+noall] [+answer]',
  },
];
