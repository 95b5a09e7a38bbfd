/** A program of somebody else's as a peer of a test: started in a folder of its own, ended by its process id. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type ListenOptions, type NetConnectOpts, type Server } from 'node:net';
import { text } from 'node:stream/consumers';
import { eventually } from './eventually.ts';

export const isInstalled = (program: string): boolean =>
  spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;

export interface Program extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Resolves when `probe` does to something; rejects with what the program printed when it ended before. */
  until<T>(probe: () => Promise<T | undefined>, what: string): Promise<T>;
}

export function startProgram(command: readonly string[], options: { cwd: string; env?: object }): Program {
  const [name = '', ...args] = command;
  const child = spawn(name, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = once(child, 'exit');
  const printed = Promise.all([text(child.stdout), text(child.stderr)]);
  return {
    child,
    until: (probe, what) =>
      eventually(async () => {
        if (child.exitCode !== null) throw new Error(`${name} ended: ${(await printed).join('\n')}`);
        return probe();
      }, what),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await Promise.all([gone, printed]);
    },
  };
}

/** Whether somebody listens there; undefined when not, as `eventually` wants it. */
export async function isListening(port: number, host = '127.0.0.1'): Promise<true | undefined> {
  const socket = connect({ port, host });
  const isUp = await once(socket, 'connect').then(
    () => true as const,
    () => undefined,
  );
  socket.destroy();
  return isUp;
}

export async function closed(server: Server): Promise<void> {
  const gone = once(server, 'close');
  server.close();
  await gone;
}

/** Every connection to one place goes on to another. */
export async function relay(from: ListenOptions, to: NetConnectOpts): Promise<Server> {
  const server = createServer((near) => {
    const far = connect(to);
    const end = () => {
      near.destroy();
      far.destroy();
    };
    near.on('error', end).on('close', end).pipe(far).on('error', end).on('close', end).pipe(near);
  });
  server.listen(from);
  await once(server, 'listening');
  return server;
}
