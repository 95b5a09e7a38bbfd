import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';

const MOST = 19;
const script = `
import { getPriority } from 'node:os';
import { giveWay } from ${JSON.stringify(join(import.meta.dirname, 'thread.ts'))};
giveWay();
console.log(getPriority());
`;

/** Started with `nice`; as an ordinary user it would fail where it raises a priority. */
function niceAfter(adjustment: number): number {
  const { stdout, stderr } = spawnSync(
    'nice',
    ['-n', String(adjustment), process.execPath, '--input-type=module', '-e', script],
    { encoding: 'utf8' },
  );
  assert.equal(stderr, '');
  return Number(stdout);
}

test('the threads of the log give way to requests, and whoever was started with a lower priority keeps it', {
  skip: process.platform !== 'linux',
}, () => {
  const here = getPriority();
  assert.equal(niceAfter(0), Math.max(here, 5));
  assert.equal(niceAfter(10), Math.min(here + 10, MOST));
});
