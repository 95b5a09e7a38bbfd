import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { DAY } from '../core/clock.ts';
import { integer, oid, sequence, time } from './der.ts';
import { openssl } from './openssl.fixture.ts';
import { newKeys, writeLeaf, writeRoot } from './x509.ts';

const now = Date.now();
const validity = { notBefore: now - DAY, notAfter: now + 90 * DAY };

async function newRoot() {
  const signer = { ...(await newKeys()), commonName: 'Test internal CA' };
  return { signer, pem: writeRoot(signer, { notBefore: now - DAY, notAfter: now + 3650 * DAY }) };
}

function verify(t: TestContext, rootPem: string, leafPem: string, ...options: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'x509-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'root.pem'), rootPem);
  return openssl(leafPem, 'verify', '-x509_strict', '-CAfile', join(folder, 'root.pem'), ...options);
}

test('a leaf verifies under its root for its name and purpose, by the strict rules of OpenSSL', async (t) => {
  const { signer, pem } = await newRoot();
  for (const name of [
    'app.example.com',
    '*.example.com',
    `${'a'.repeat(63)}.${'b'.repeat(63)}.example.com`,
  ]) {
    const { publicKey } = await newKeys();
    const leaf = writeLeaf(signer, { hostnames: [name], addresses: [], publicKey }, validity);
    const host = name.replace('*', 'any');
    const answer = verify(t, pem, leaf, '-purpose', 'sslserver', '-verify_hostname', host);
    assert.match(answer, /stdin: OK/);
    assert.throws(() => verify(t, pem, leaf, '-verify_hostname', 'other.example.org'));
    assert.throws(() => verify(t, pem, leaf, '-purpose', 'sslclient'));
  }
});

test('a leaf for localhost is good for the loopback addresses, too', async () => {
  const { signer } = await newRoot();
  const { publicKey } = await newKeys();
  const addresses = [Buffer.from([127, 0, 0, 1]), Buffer.from('1'.padStart(32, '0'), 'hex')];
  const leaf = new X509Certificate(
    writeLeaf(signer, { hostnames: ['localhost'], addresses, publicKey }, validity),
  );
  assert.equal(leaf.checkHost('localhost'), 'localhost');
  assert.equal(leaf.checkIP('127.0.0.1'), '127.0.0.1');
  assert.equal(leaf.checkIP('::1'), '::1');
});

test('the root can sign leaves and no further authorities, and says so', async () => {
  const { pem } = await newRoot();
  const text = openssl(pem, 'x509', '-noout', '-text');
  assert.match(text, /CA:TRUE, pathlen:0/);
  assert.match(text, /X509v3 Basic Constraints: critical/);
  assert.match(text, /X509v3 Key Usage: critical\s+Certificate Sign, CRL Sign/);
  const root = new X509Certificate(pem);
  assert.equal(root.subject, 'CN=Test internal CA');
  assert.ok(root.verify(root.publicKey));
});

test('no two certificates share a serial number, and each is positive and of at most 20 bytes', async () => {
  const { signer } = await newRoot();
  const { publicKey } = await newKeys();
  const serials = Array.from(
    { length: 50 },
    () =>
      new X509Certificate(writeLeaf(signer, { hostnames: ['a.test'], addresses: [], publicKey }, validity))
        .serialNumber,
  );
  assert.equal(new Set(serials).size, 50);
  for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/);
});

test('times before and after 2050 are written as OpenSSL reads them', async () => {
  const signer = { ...(await newKeys()), commonName: 'Far' };
  const notBefore = Date.UTC(2049, 11, 31, 23, 59, 59);
  const notAfter = Date.UTC(2050, 0, 1);
  const root = new X509Certificate(writeRoot(signer, { notBefore, notAfter }));
  assert.equal(root.validFromDate.getTime(), notBefore);
  assert.equal(root.validToDate.getTime(), notAfter);
  assert.equal(time(notBefore)[0], 0x17);
  assert.equal(time(notAfter)[0], 0x18);
});

test('DER is written as in the standard', () => {
  assert.equal(oid('1.2.840.10045.4.3.2').toString('hex'), '06082a8648ce3d040302');
  assert.equal(integer(0).toString('hex'), '020100');
  assert.equal(integer(0x80).toString('hex'), '02020080');
  for (const [length, head] of [
    [127, '307f'],
    [128, '308180'],
    [256, '30820100'],
  ] as const)
    assert.equal(
      sequence(Buffer.alloc(length))
        .subarray(0, head.length / 2)
        .toString('hex'),
      head,
    );
});

test('whatever the hostname, the certificate says exactly that one', async () => {
  const { signer } = await newRoot();
  const { publicKey } = await newKeys();
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
  fc.assert(
    fc.property(fc.array(label, { minLength: 1, maxLength: 3 }), (labels) => {
      const name = [...labels, 'test'].join('.');
      const leaf = new X509Certificate(
        writeLeaf(signer, { hostnames: [name], addresses: [], publicKey }, validity),
      );
      assert.equal(leaf.subjectAltName, `DNS:${name}`);
      assert.ok(leaf.verify(signer.publicKey));
    }),
    { numRuns: 30 },
  );
});
