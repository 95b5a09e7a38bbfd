import assert from 'node:assert/strict';
import { chmodSync, lchownSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { openTrail } from './app.audit.ts';
import { loadMasterKey } from './config/secrets.ts';
import { ManualClock } from './core/clock.ts';
import { silentLog } from './core/record.ts';
import { verifyAuditFiles } from './verify-audit-files.ts';

const SOMEBODY = 65_534;

/** A data folder with one record, and what is said of it. */
async function makeFolder(t: TestContext) {
  const dataDir = mkdtempSync(join(tmpdir(), 'verify-files-'));
  t.after(() => rmSync(dataDir, { recursive: true }));
  const masterKey = loadMasterKey({ dataDir, masterKey: undefined, dataExists: false });
  const trail = openTrail({ dataDir, masterKey, clock: new ManualClock(), log: silentLog });
  trail.write({ time: 0, kind: 'audit', level: 'info', component: 'audit', message: 'a call' });
  await trail.close();
  const { signal } = new AbortController();
  const look = () =>
    verifyAuditFiles({ paths: [dataDir], knownHead: undefined }, { env: {}, cwd: dataDir, signal });
  return { dataDir, look };
}

test('an administrator verifies the folder of the user under whom the server runs', {
  skip: process.getuid?.() !== 0 && 'only root may give files away',
}, async (t) => {
  const { dataDir, look } = await makeFolder(t);
  const names = readdirSync(dataDir, { recursive: true, encoding: 'utf8' });
  for (const name of ['', ...names]) lchownSync(join(dataDir, name), SOMEBODY, SOMEBODY);
  const { intact, macs_checked: areChecked } = await look();
  assert.deepEqual([intact, areChecked], [true, true]);
  lchownSync(dataDir, 0, 0);
  await assert.rejects(look(), { code: 'UNAVAILABLE', message: /belongs to another user/ });
});

test('a master key that is not used is no trail that was changed', async (t) => {
  const { dataDir, look } = await makeFolder(t);
  chmodSync(join(dataDir, 'master.key'), 0o644);
  await assert.rejects(look(), {
    code: 'UNAVAILABLE',
    message: /^the trail was not looked at: .*chmod 600/,
  });
});

test('of a head only what a head holds is read, however long its file is', async (t) => {
  const { dataDir, look } = await makeFolder(t);
  truncateSync(join(dataDir, 'audit', 'head'), 3 * 2 ** 30);
  assert.equal((await look()).intact, true);
});
