/** What the process takes from the machine. Its time is measured in bench/, never in a test. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { eventually } from '../support/eventually.ts';
import { startProduct } from '../support/product.ts';

const MAX_IDLE_KB = 150 * 1024;

test('after a start, without traffic, the process holds at most 150 MB', {
  skip: process.platform !== 'linux' && 'only Linux tells it in /proc',
}, async (t) => {
  // As `npm start` has it: what was compiled by one start is there for the next.
  const cache = mkdtempSync(join(tmpdir(), 'ohp-cache-'));
  t.after(() => rmSync(cache, { recursive: true }));
  const env = { NODE_COMPILE_CACHE: cache };
  await using first = await startProduct({ env });
  await first.stop();
  await using second = await first.restart();
  let held = 0;
  const settled = async () => {
    held = residentKb(second.child.pid);
    return held <= MAX_IDLE_KB ? held : undefined;
  };
  await eventually(settled, `at most ${MAX_IDLE_KB} KB`).catch(() => assert.fail(`it holds ${held} KB`));
});

function residentKb(pid: number | undefined): number {
  const [, kb = ''] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kb);
}
