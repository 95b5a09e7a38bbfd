/**
 * A program of the operator's own: the words of the setting, then action, name, value and zone. No shell, three
 * environment variables, an empty folder, no input (see `run-command-process`). Exit code 0 means done.
 */
import type { Clock } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { prepareScratch, type ProgramResult, runProgram } from '../../../admin/run-command-process.ts';
import type { DnsProvider, TxtRecord } from '../provider.ts';
import type { SettingsOf } from '../schema.ts';
import { cancelled } from '../transport.ts';
import { quoted } from './api.ts';

const MAX_OUTPUT_BYTES = 64 * 1024;

export interface ExecParts {
  readonly clock: Clock;
  /** For the folders that programs work in; of this adapter alone. */
  readonly scratchDir: string;
}

export function createExec(settings: SettingsOf<'exec'>, { clock, scratchDir }: ExecParts): DnsProvider {
  const { command, timeout_ms: timeoutMs } = settings;
  const [file, ...words] = command;
  let turn: Promise<unknown> = Promise.resolve();

  async function run(action: 'publish' | 'withdraw', record: TxtRecord, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw cancelled(signal);
    const { name, value, zone } = record;
    await prepareScratch(scratchDir);
    const argv = [file, ...words, action, name, value, zone] as const;
    const options = {
      argv,
      file,
      scratchDir,
      timeoutMs,
      maxOutputBytes: MAX_OUTPUT_BYTES,
      signal,
      progress: undefined,
    };
    requireDone(file, action, await runProgram(options, clock));
  }

  /** One at a time: programs that read, change and write would undo each other. */
  function inTurn(action: 'publish' | 'withdraw', record: TxtRecord, signal: AbortSignal): Promise<void> {
    const work = turn.then(() => run(action, record, signal));
    turn = work.catch(() => undefined); // Told to who asked; the next one runs all the same.
    return work;
  }

  return {
    publish: (record, signal) => inTurn('publish', record, signal),
    withdraw: (record, signal) => inTurn('withdraw', record, signal),
  };
}

function requireDone(file: string, action: string, result: ProgramResult): void {
  const { ended, exitCode, signal, stderr, stdout } = result;
  if (ended === 'cancelled')
    throw new AppError('CANCELLED', `${file} was ended because the work was cancelled`);
  if (ended === 'timeout')
    throw new AppError(
      'TIMEOUT',
      `${file} did not ${action} in the time it has (timeout_ms) and was ended; it may have been done`,
    );
  if (ended === 'flood') throw new AppError('UPSTREAM_FAILED', `${file} wrote far too much and was ended`);
  if (exitCode === 0) return;
  const said = (stderr.trim() || stdout.trim()).split('\n').at(-1) ?? '';
  const how = exitCode === null ? `was ended by ${signal}` : `ended with code ${exitCode}`;
  throw new AppError('UPSTREAM_FAILED', `${file} ${how} (${quoted(said)})`);
}
