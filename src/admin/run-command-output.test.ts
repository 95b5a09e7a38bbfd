import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { shortReport } from './run-command-output.ts';

const text = fc.string({ unit: fc.constantFrom('a', '\n', '"', '\u{1f600}', 'é', '\\'), maxLength: 400 });

test('property: a short report fits, and has of each stream what it began with', () => {
  fc.assert(
    fc.property(text, text, fc.integer({ min: 400, max: 1200 }), (stdout, stderr, characters) => {
      const report = { stdout, stderr, truncated: false, exit_code: 0 };
      const short = shortReport(report, characters);
      assert.ok(JSON.stringify(short).length <= characters);
      assert.ok(stdout.startsWith(short.stdout) && stderr.startsWith(short.stderr));
      assert.ok(short.stdout.isWellFormed() && short.stderr.isWellFormed());
      assert.deepEqual([short.truncated, short.exit_code, short.hint !== undefined], [true, 0, true]);
    }),
  );
});

test('a stream that says little leaves its room to the other', () => {
  const report = { stdout: 'x'.repeat(5000), stderr: 'warning', truncated: false };
  for (const { stdout, stderr } of [report, { ...report, stdout: 'warning', stderr: report.stdout }]) {
    const short = shortReport({ stdout, stderr, truncated: false }, 2000);
    const [little, much] = [short.stdout, short.stderr].sort((a, b) => a.length - b.length);
    assert.equal(little, 'warning');
    assert.ok((much?.length ?? 0) > 1500, String(much?.length));
  }
});
