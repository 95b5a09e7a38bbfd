import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { createSealer, deriveKey, loadMasterKey } from './secrets.ts';

const key = Buffer.alloc(32, 7);

function temporary(t: TestContext): string {
  const dataDir = mkdtempSync(join(tmpdir(), 'secrets-'));
  t.after(() => rmSync(dataDir, { recursive: true }));
  return dataDir;
}

test('the first start makes a master key that only its owner can read, and later starts take the same', (t) => {
  const dataDir = temporary(t);
  const first = loadMasterKey({ dataDir, dataExists: false });
  assert.equal(first.length, 32);
  assert.equal(statSync(join(dataDir, 'master.key')).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(dataDir), ['master.key'], 'no draft is left behind');
  assert.deepEqual(loadMasterKey({ dataDir, dataExists: true }), first);
});

test('a master key from the setting wins, in base64url or hex, and no file is made', (t) => {
  const dataDir = temporary(t);
  for (const masterKey of [key.toString('hex'), key.toString('base64url')])
    for (const dataExists of [true, false])
      assert.deepEqual(loadMasterKey({ dataDir, masterKey, dataExists }), key);
  assert.deepEqual(readdirSync(dataDir), []);
});

test('a master key that others can read is refused with the command that repairs it', (t) => {
  const dataDir = temporary(t);
  loadMasterKey({ dataDir, dataExists: false });
  for (const mode of [0o640, 0o604, 0o620]) {
    chmodSync(join(dataDir, 'master.key'), mode);
    assert.throws(() => loadMasterKey({ dataDir, dataExists: true }), /mode 06.*chmod 600 .*master\.key/);
  }
});

test('a master key of the wrong size is refused, and its text is not shown', (t) => {
  const dataDir = temporary(t);
  const path = join(dataDir, 'master.key');
  for (const text of ['', 'tooshort', 'x'.repeat(44), 'x'.repeat(5000)]) {
    writeFileSync(path, text, { mode: 0o600 });
    assert.throws(
      () => loadMasterKey({ dataDir, dataExists: false }),
      (error: Error) => /master\.key/.test(error.message) && !/tooshort|xxx/.test(error.message),
    );
    assert.equal(readFileSync(path, 'utf8'), text, 'it is never replaced');
  }
  assert.throws(
    () => loadMasterKey({ dataDir, masterKey: 'short', dataExists: false }),
    /setting master_key: it has to hold 32 bytes/,
  );
});

test('where data is kept a missing master key is not made anew', (t) => {
  const dataDir = temporary(t);
  assert.throws(() => loadMasterKey({ dataDir, dataExists: true }), /master\.key: is missing.*restore it/);
  assert.deepEqual(readdirSync(dataDir), []);
});

test('what is sealed opens again with the same key and context', () => {
  const [sealer, again] = [createSealer(key), createSealer(key)];
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (plain, context) => {
      assert.equal(again.open(sealer.seal(plain, context), context), plain.toWellFormed());
    }),
  );
});

test('sealing twice gives different texts, and neither holds the plain text', () => {
  const sealer = createSealer(key);
  const [a, b] = [sealer.seal('canary-secret', 'c'), sealer.seal('canary-secret', 'c')];
  assert.notEqual(a, b);
  for (const text of [a, b]) {
    const bytes = Buffer.from(text.split('.')[2] ?? '', 'base64url');
    assert.equal(bytes.includes('canary-secret'), false);
  }
});

test('another master key is told apart from damage, and says what to restore', () => {
  const sealed = createSealer(key).seal('x', 'certificate:crt_1');
  assert.throws(
    () => createSealer(Buffer.alloc(32, 8)).open(sealed, 'certificate:crt_1'),
    /certificate:crt_1 was sealed with another master key .*master\.key or OHP_MASTER_KEY/,
  );
});

test('a sealed text that was changed anywhere, or moved to another place, does not open', () => {
  const sealer = createSealer(key);
  const sealed = sealer.seal('private', 'certificate:crt_1');
  assert.throws(
    () => sealer.open(sealed, 'certificate:crt_2'),
    /changed since it was sealed, or belongs elsewhere/,
  );
  fc.assert(
    fc.property(
      fc.nat(sealed.length - 1),
      fc.constantFrom('A', 'Z', 'a', 'z', '0', '9', '-', '_', '.'),
      (at, character) => {
        const changed = sealed.slice(0, at) + character + sealed.slice(at + 1);
        fc.pre(!sameBytes(changed, sealed));
        assert.throws(() => sealer.open(changed, 'certificate:crt_1'), Error);
      },
    ),
  );
  for (const text of ['', 'v1', 'v1..', `${sealed.slice(0, 20)}`])
    assert.throws(() => sealer.open(text, 'c'), Error);
});

/** The last character of base64url may carry bits that mean nothing. */
function sameBytes(a: string, b: string): boolean {
  const [x, y] = [a.split('.'), b.split('.')];
  const bytes = (part = '') => Buffer.from(part, 'base64url');
  return x.length === 3 && x[0] === y[0] && x[1] === y[1] && bytes(x[2]).equals(bytes(y[2]));
}

test('keys derived for different purposes differ, and are the same every time', () => {
  assert.deepEqual(deriveKey(key, 'a'), deriveKey(key, 'a'));
  assert.notDeepEqual(deriveKey(key, 'a'), deriveKey(key, 'b'));
  assert.equal(deriveKey(key, 'a').length, 32);
});
