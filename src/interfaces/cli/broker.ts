/** `ohp broker`, a process of its own that has the socket of the container engine, so that the server need not. */
import type { Command } from 'commander';
import type { CliIo } from './io.ts';

/** Serves until `signal`, or until the process is told to end. */
export type RunBroker = (io: Pick<CliIo, 'env' | 'cwd' | 'stderr' | 'signal'>) => Promise<void>;

export function addBroker(program: Command, { io, run }: { io: CliIo; run: RunBroker }): void {
  program
    .command('broker')
    .summary('Serves the container engine to the server, by a policy, from a process of its own')
    .description(
      'Serves the container engine to the server, by a policy, from a process of its own: run it as a user who may use the ' +
        "engine's socket, and the server as one who may not. Reads OHP_CONFIG and the variables as the server does, of which " +
        'broker, docker and services count here: give it a settings file of its own, which the server can not write. Listens at ' +
        'broker.socket (OHP_BROKER_SOCKET) until it is told to end.',
    )
    .action(() => run(io));
}
