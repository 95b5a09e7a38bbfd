/**
 * Splits the text of `run_command` into arguments: spaces, single quotes, double quotes and backslashes mean what
 * they mean in a POSIX shell, and nothing else of a shell exists. What a shell would act on is refused where it
 * stands, so that no text means one thing here and another there.
 *
 * @see {@link https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02 | POSIX.1-2024 XCU §2.2}
 */
import { AppError } from '../core/errors.ts';
import { cleanLines } from '../core/untrusted.ts';

/** Characters of one command, and how many arguments it may have. */
export const MAX_COMMAND = 2000;
const MAX_ARGUMENTS = 100;

/** Unquoted, a shell acts on these: lists, pipes, redirection, expansion, grouping, patterns. */
const SHELL_ACTS_ON = new Set('|&;<>()$`*?[]{}');
/** At the start of a word a shell acts on these as well: home directory, comment. */
const SHELL_ACTS_ON_AT_START = new Set('~#');
/** Between double quotes a shell still expands these. */
const EXPANDS_IN_QUOTES = new Set('$`');
/** What a backslash takes the meaning from between double quotes; before anything else it stays. */
const ESCAPABLE_IN_QUOTES = new Set('$`"\\');

interface Scanner {
  readonly text: string;
  at: number;
  /** Undefined between words. `''` is a word: an empty argument in quotes. */
  word: string | undefined;
  readonly words: string[];
}

/** @throws AppError INVALID_INPUT that says what is wrong, at which character, and what to write instead. */
export function parseArgv(command: string): [program: string, ...args: string[]] {
  if (command.length > MAX_COMMAND) throw fault(`is longer than ${MAX_COMMAND} characters`, 'shorten it');
  refuseInvisible(command);
  const scanner: Scanner = { text: command, at: 0, word: undefined, words: [] };
  while (scanner.at < command.length) step(scanner);
  endWord(scanner);
  const [program, ...args] = scanner.words;
  if (program === undefined || program === '')
    throw fault('names no program', 'write a program and its arguments, such as: df -h');
  return [program, ...args];
}

function step(scanner: Scanner): void {
  const char = scanner.text.charAt(scanner.at);
  if (char === ' ' || char === '\t') {
    scanner.at += 1;
    endWord(scanner);
  } else if (char === "'") takeSingleQuoted(scanner);
  else if (char === '"') takeDoubleQuoted(scanner);
  else if (char === '\\') takeEscaped(scanner);
  else takePlain(scanner, char);
}

function takePlain(scanner: Scanner, char: string): void {
  const acts = SHELL_ACTS_ON.has(char) || (scanner.word === undefined && SHELL_ACTS_ON_AT_START.has(char));
  if (acts) throw noShell(char, scanner.at);
  append(scanner, char);
  scanner.at += 1;
}

function takeSingleQuoted(scanner: Scanner): void {
  const end = scanner.text.indexOf("'", scanner.at + 1);
  if (end === -1) throw unclosed("'", scanner.at);
  append(scanner, scanner.text.slice(scanner.at + 1, end));
  scanner.at = end + 1;
}

function takeDoubleQuoted(scanner: Scanner): void {
  const { text, at: start } = scanner;
  append(scanner, '');
  for (let at = start + 1; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (char === '"') {
      scanner.at = at + 1;
      return;
    }
    if (EXPANDS_IN_QUOTES.has(char)) throw noShell(char, at);
    if (char === '\\' && ESCAPABLE_IN_QUOTES.has(text.charAt(at + 1))) at += 1;
    append(scanner, text.charAt(at));
  }
  throw unclosed('"', start);
}

function takeEscaped(scanner: Scanner): void {
  if (scanner.at + 1 >= scanner.text.length)
    throw fault(`ends in a backslash (character ${scanner.at + 1})`, 'write \\\\ for a backslash');
  append(scanner, scanner.text.charAt(scanner.at + 1));
  scanner.at += 2;
}

function append(scanner: Scanner, text: string): void {
  scanner.word = (scanner.word ?? '') + text;
}

function endWord(scanner: Scanner): void {
  if (scanner.word === undefined) return;
  if (scanner.words.length === MAX_ARGUMENTS)
    throw fault(`has more than ${MAX_ARGUMENTS} arguments`, 'split the work into several calls');
  scanner.words.push(scanner.word);
  scanner.word = undefined;
}

/** Line ends, escape sequences and bidirectional marks have no honest use in an argument, quoted or not. */
export const hasInvisible = (text: string): boolean =>
  /[\n\r]/.test(text) || cleanLines(text, MAX_COMMAND) !== text;

function refuseInvisible(command: string): void {
  const line = /[\n\r]/.exec(command);
  if (line)
    throw fault(
      `has a line end (character ${line.index + 1})`,
      'there is no shell: one program and its arguments on one line',
    );
  const clean = cleanLines(command, MAX_COMMAND);
  if (clean === command) return;
  let at = 0;
  while (command[at] === clean[at]) at += 1;
  throw fault(`has a control or invisible character (character ${at + 1})`, 'leave it out');
}

function noShell(char: string, at: number): AppError {
  return fault(
    `has ${char} at character ${at + 1}, which only a shell acts on`,
    `there is no shell, so no pipes, redirection, lists or expansion: run one program a call; to pass ${char} as it is, put the argument in single quotes`,
  );
}

const unclosed = (quote: string, at: number): AppError =>
  fault(`opens a ${quote} at character ${at + 1} that is not closed`, `close it, or write \\${quote}`);

const fault = (what: string, instead: string): AppError =>
  new AppError('INVALID_INPUT', `command: it ${what}; ${instead}`);
