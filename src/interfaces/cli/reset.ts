/** `ohp reset admin-token`, the one command that asks no server: it is for who can't sign in to one any more. */
import type { Command } from 'commander';
import type { CliIo } from './io.ts';
import { renderJson, renderOutput } from './output.ts';

/** Does it, on the files of this machine. `secret` is absent when `OHP_ADMIN_TOKEN` says what it has to be. */
export type ResetAdminToken = (
  io: Pick<CliIo, 'env' | 'cwd'>,
) => Promise<{ id: string; secret?: string; revoked: string[] }>;

export const RESET = { verb: 'reset', noun: 'admin-token', options: ['--json', '--yes', '--help'] } as const;

const QUESTION =
  "This ends the administrator's token that the first start made, with whatever is signed in by it, and makes a new one.";

export interface ResetParts {
  io: CliIo;
  reset: ResetAdminToken;
  confirm: (message: string, io: CliIo) => Promise<void>;
}

export function addReset(group: Command, { io, reset, confirm }: ResetParts): void {
  const command = group
    .command(RESET.noun)
    .summary("Makes a new administrator's token when the first one is lost")
    .description(
      "Makes a new administrator's token when the first one is lost, prints it once, and revokes the old one. Works on the " +
        'data folder of a stopped server: run it as the same user, in the same directory and with the same OHP_DATA_DIR or ' +
        'OHP_CONFIG. With OHP_ADMIN_TOKEN set, that becomes the token.',
    )
    .option('--json', 'print the answer as JSON')
    .option('--yes', 'do not ask for confirmation');
  command.action(async ({ json, yes }: { json?: boolean; yes?: boolean }) => {
    if (yes !== true) await confirm(QUESTION, io);
    const made = await reset(io);
    if (json === true) io.stdout.write(renderJson(made));
    else io.stdout.write(renderOutput({ ...made }, undefined, Infinity).text);
    io.stderr.write(
      made.secret === undefined
        ? "the administrator's token is the one in OHP_ADMIN_TOKEN\n"
        : 'the secret is shown this once, only its hash is kept; put it into OHP_TOKEN and start the server\n',
    );
  });
}
