/** What the tests of the whole product stand on. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'node:test';
import { eventually } from './eventually.ts';

test('a file that throws after it started the product leaves no process behind', async () => {
  const script = `
    const { startProduct } = await import(${JSON.stringify(join(import.meta.dirname, 'product.ts'))});
    const { child, dataDir } = await startProduct();
    console.log(JSON.stringify({ pid: child.pid, dataDir }));
    throw new Error('before the first test');
  `;
  const file = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const { pid, dataDir } = JSON.parse(await text(file.stdout));
  await eventually(async () => (isAlive(pid) ? undefined : true), `the end of ${pid}`);
  assert.equal(isAlive(pid), false);
  rmSync(dataDir, { recursive: true, force: true });
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    // ESRCH: there is none.
    return false;
  }
}
