import assert from 'node:assert/strict';
import test from 'node:test';
import { ohp } from '../../../test/surface-harness.ts';
import { errorSurface } from '../../core/errors.ts';
import type { VerifyAuditFiles } from './verify.ts';

test('a trail that is not as it was written ends with a code of its own and says where; its verdict is in the output', async () => {
  const asked: unknown[] = [];
  const fault = { file: 'audit.ndjson', offset: 7, seq: 3, message: 'was changed\u001b[2J' };
  const run = (args: string[], verdict: Awaited<ReturnType<VerifyAuditFiles>>) =>
    ohp(['verify', 'audit-files', ...args], {
      verifyAuditFiles: async (wish) => {
        asked.push(wish);
        return verdict;
      },
    });
  const head = `12.${'a'.repeat(64)}`;
  const whole = await run(['a', 'b', '--known-head', head], { intact: true, macs_checked: true });
  assert.deepEqual(whole, { code: 0, stdout: 'intact:       true\nmacs_checked: true\n', stderr: '' });
  const bad = await run(['--json'], { intact: false, fault, macs_checked: false });
  assert.equal(bad.code, errorSurface.PRECONDITION_FAILED.exit);
  assert.deepEqual(JSON.parse(bad.stdout), { intact: false, fault, macs_checked: false });
  assert.match(bad.stderr, /^without the master key.*\n.*audit\.ndjson, byte 7, record 3: was changed/);
  assert.ok(!bad.stderr.includes('\u001b'));
  assert.deepEqual(asked, [
    { paths: ['a', 'b'], knownHead: head },
    { paths: [], knownHead: undefined },
  ]);
  const refused = await run(['--known-head', '12'], { intact: true, macs_checked: true });
  assert.equal(refused.code, errorSurface.INVALID_INPUT.exit);
  assert.equal(asked.length, 2);
});
