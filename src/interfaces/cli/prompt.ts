/** What is read from the person or from standard input. Questions go to standard error: output stays output. */
import type { Readable } from 'node:stream';
import { AppError } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { cleanLines } from '../../core/untrusted.ts';
import type { CliIo } from './io.ts';

const MAX_INPUT_BYTES = 4 * 1024 * 1024;
const MAX_LINE = 8192;
const MAX_QUESTION = 2000;
const ENTER = new Set(['\r', '\n']);
const BACKSPACE = new Set(['\u0008', '\u007f']);
const CTRL_C = '\u0003';
const CTRL_D = '\u0004';

export async function readAll(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk as Buffer | string);
    size += bytes.length;
    if (size > MAX_INPUT_BYTES)
      throw new AppError('TOO_LARGE', `standard input is larger than ${MAX_INPUT_BYTES} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks, size).toString('utf8');
}

/** What a person is asked first. Where a setting of the server decides that, having typed the command is the yes. */
export const questionOf = ({ confirm, confirmIf }: AnyOperation): AnyOperation['confirm'] =>
  confirmIf ? undefined : confirm;

export async function askYesNo(io: CliIo, question: string): Promise<boolean> {
  io.stderr.write(`${cleanLines(question, MAX_QUESTION)}\nGo on? [y/N] `);
  return /^y(?:es)?$/i.test((await readLine(io, false)).trim());
}

/** From a terminal without echo; otherwise the whole standard input. */
export async function askSecret(io: CliIo, question: string): Promise<string> {
  if (io.stdin.isTTY !== true) return readAll(io.stdin);
  io.stderr.write(question);
  const secret = await readLine(io, true);
  io.stderr.write('\n');
  return secret;
}

/** Raw, so that the terminal shows nothing of a secret; editing keys are then this function's to handle. */
function readLine({ stdin, signal }: CliIo, hidden: boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let line = '';
    const onData = (chunk: Buffer | string) => {
      for (const char of chunk.toString()) {
        if (ENTER.has(char) || (char === CTRL_D && line === '')) return finish(() => resolve(line));
        if (char === CTRL_C) return finish(() => reject(cancelled()));
        if (BACKSPACE.has(char)) line = line.slice(0, -1);
        else if (line.length < MAX_LINE) line += char;
      }
    };
    const onEnd = () => finish(() => resolve(line));
    const onAbort = () => finish(() => reject(cancelled()));
    const finish = (settle: () => void) => {
      stdin.off('data', onData).off('end', onEnd).pause();
      signal.removeEventListener('abort', onAbort);
      if (hidden) stdin.setRawMode?.(false);
      settle();
    };
    if (hidden) stdin.setRawMode?.(true);
    stdin.on('data', onData).on('end', onEnd).resume();
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

const cancelled = () => new AppError('CANCELLED', 'cancelled');
