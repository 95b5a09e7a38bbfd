/** A document that is given out once is in its file whole, or not at all. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';

const FILE = 'key.pem';
const DOCUMENT_BYTES = 5000;

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'document-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A program that writes it into the folder; `ask`: an expression for what the server answers. */
const program = (folder: string, ask: string): string => `
  import { writeDocument } from ${JSON.stringify(new URL('document.ts', import.meta.url).href)};
  await writeDocument(${JSON.stringify(FILE)}, { cwd: ${JSON.stringify(folder)} }, async () => ${ask});`;

test('where there is no room for all of it there is no file, and the command fails', (t) => {
  const folder = folderOf(t);
  const code = program(folder, `'x'.repeat(${DOCUMENT_BYTES})`);
  // One block is 1024 bytes: the first write takes a part.
  const script = 'ulimit -f 1; exec "$0" --input-type=module --eval "$1"';
  const { status, stderr } = spawnSync('bash', ['-c', script, process.execPath, code], { encoding: 'utf8' });
  assert.notEqual(status, 0);
  assert.match(stderr, /EFBIG/);
  assert.deepEqual(readdirSync(folder), []);
});

test('killed before the answer, it leaves an empty file that only its owner can read', async (t) => {
  const folder = folderOf(t);
  const ask = `(console.log('asked'), new Promise(() => setInterval(() => {}, 1000)))`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program(folder, ask)]);
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const { size, mode } = statSync(join(folder, FILE));
  assert.deepEqual([size, mode & 0o777], [0, 0o600]);
});
