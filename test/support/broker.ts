/** `ohp broker` as its users run it: a process of its own, with a settings file of its own. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface BrokerProcess extends AsyncDisposable {
  socket: string;
  printed: () => string;
}

/** @param docker socket of the engine
 * @param services what its settings file says of them */
export async function startBroker(docker: string, services: object): Promise<BrokerProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-broker-'));
  const socket = join(folder, 'broker.sock');
  const settings = join(folder, 'broker.yaml');
  writeFileSync(settings, JSON.stringify({ docker: { socket: docker }, services }));
  const root = join(import.meta.dirname, '../..');
  const child = spawn(process.execPath, ['src/cli.ts', 'broker'], {
    cwd: root,
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      OHP_CONFIG: settings,
      OHP_BROKER_SOCKET: socket,
    },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let printed = '';
  const { promise: up, resolve, reject } = Promise.withResolvers<void>();
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
    if (printed.includes('the broker listens at')) resolve();
  });
  child.once('exit', () => reject(new Error(`the broker ended: ${printed}`)));
  await up;
  return {
    socket,
    printed: () => printed,
    async [Symbol.asyncDispose]() {
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      const [code] = await gone;
      rmSync(folder, { recursive: true, force: true });
      assert.equal(code, 0, printed);
    },
  };
}
