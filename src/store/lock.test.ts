import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { lockDirectory } from './lock.ts';

const holder = `
  import { lockDirectory } from ${JSON.stringify(new URL('./lock.ts', import.meta.url).href)};
  globalThis.lock = lockDirectory(process.argv[1]);
  process.send('locked');
  process.stdin.resume();
`;

test('a second process is refused with the pid of the first; kill -9 of the first frees the directory', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'ohp-lock-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const child = spawn(process.execPath, ['--input-type=module', '-e', holder, directory], {
    stdio: ['pipe', 'inherit', 'inherit', 'ipc'],
  });
  await once(child, 'message');
  assert.throws(() => lockDirectory(directory), new RegExp(`in use by the process with pid ${child.pid};`));
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockDirectory(directory)[Symbol.dispose]();
  lockDirectory(directory)[Symbol.dispose]();
});
