import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { suite, type TestContext } from 'node:test';
import { AppError } from '../../core/errors.ts';
import { createSecretReader } from './secret.ts';

const CANARY = 'canary-of-a-secret';

function write(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'secret-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'token');
  writeFileSync(file, text);
  return file;
}

suite('a secret of a provider', () => {
  test('comes from a file or a variable, without the space around it, anew each time', async (t) => {
    const file = write(t, ` ${CANARY}\n`);
    const environment = { TOKEN: CANARY };
    const read = createSecretReader(environment);
    assert.equal(await read({ file }, 'token'), CANARY);
    assert.equal(await read({ env: 'TOKEN' }, 'token'), CANARY);
    writeFileSync(file, 'another');
    assert.equal(await read({ file }, 'token'), 'another');
  });

  const refused: [string, string, RegExp][] = [
    ['is empty', ' \n', /the secret token of the DNS provider: the file .* is empty$/],
    ['has two lines', `${CANARY}\r\nx: y`, /one line of printable ASCII/],
    ['has a space', `${CANARY} x`, /one line of printable ASCII/],
    ['is far too long', CANARY.repeat(1000), /18000 bytes long; at most 16384 are read/],
  ];
  for (const [what, text, words] of refused)
    test(`that ${what} is refused, and not told`, async (t) => {
      const file = write(t, text);
      await assert.rejects(createSecretReader({})({ file }, 'token'), (error) => {
        assert.ok(error instanceof AppError && error.code === 'PRECONDITION_FAILED');
        assert.match(error.message, words);
        assert.doesNotMatch(error.message, /canary/);
        return true;
      });
    });

  test('that is not there is told by the name of its place', async () => {
    const read = createSecretReader({});
    await assert.rejects(
      read({ file: '/nonexistent/token' }, 'token'),
      /file \/nonexistent\/token can't be read \(ENOENT\)/,
    );
    await assert.rejects(read({ env: 'TOKEN' }, 'token'), /environment variable TOKEN is not set/);
  });
});
