/** `ohp verify audit-files`: asks no server, for an auditor has only files, and who doubts a server does not ask it. */
import type { Command } from 'commander';
import { AppError } from '../../core/errors.ts';
import type { CliIo } from './io.ts';
import { renderJson, renderOutput } from './output.ts';

interface Fault {
  file: string;
  /** Where the record begins, in bytes. */
  offset: number;
  seq?: number | undefined;
  message: string;
}

/** Of no paths: the data folder of the settings. Resolves to what `verify_audit` answers, and whether MACs were checked. */
export type VerifyAuditFiles = (
  wish: { paths: readonly string[]; knownHead: string | undefined },
  io: Pick<CliIo, 'env' | 'cwd' | 'signal'>,
) => Promise<{ intact: boolean; fault?: Fault | undefined; macs_checked: boolean }>;

export const VERIFY = {
  verb: 'verify',
  noun: 'audit-files',
  options: ['--known-head', '--json', '--help'],
} as const;
const HEAD = /^\d{1,15}\.[0-9a-f]{64}$/;

export function addVerify(group: Command, { io, verify }: { io: CliIo; verify: VerifyAuditFiles }): void {
  const command = group
    .command(VERIFY.noun)
    .argument('[paths...]', 'a data folder, a folder with the files of a trail, or exported files in order')
    .summary('Verifies the audit trail in files, without a server')
    .description(
      'Checks files of an audit trail as verify audit does, without a server: every record by its hash and by the one before ' +
        'it. Without paths: the data folder (OHP_DATA_DIR or OHP_CONFIG), which may be in use. That the system wrote them is ' +
        'checked where the master key is known: in a data folder, or by OHP_MASTER_KEY. Ends with 5, and the first fault, when ' +
        'the trail is not as it was written.',
    )
    .option('--known-head <head>', 'a head of before: that record has to be there, unchanged')
    .option('--json', 'print the answer as JSON');
  command.action(async (paths: string[], { knownHead, json }: { knownHead?: string; json?: boolean }) => {
    if (knownHead !== undefined && !HEAD.test(knownHead))
      throw new AppError('INVALID_INPUT', '--known-head: has to be a head as verify audit tells it');
    const verdict = await verify({ paths, knownHead }, io);
    io.stdout.write(
      json === true ? renderJson(verdict) : renderOutput({ ...verdict }, undefined, Infinity).text,
    );
    if (!verdict.macs_checked)
      io.stderr.write(
        'without the master key: the records follow each other, but whoever could write the files could make all of them anew; compare the head with one that was kept elsewhere (--known-head)\n',
      );
    if (verdict.fault) throw new AppError('PRECONDITION_FAILED', wordsOf(verdict.fault));
  });
}

function wordsOf({ file, offset, seq, message }: Fault): string {
  const record = seq === undefined ? '' : `, record ${seq}`;
  return `the audit trail is not as it was written: ${file}, byte ${offset}${record}: ${message}`;
}
