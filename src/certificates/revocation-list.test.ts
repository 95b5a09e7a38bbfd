import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import test from 'node:test';
import fc from 'fast-check';
import { ClientPki } from '../../test/support/client-pki.ts';
import { maySignLists, readRevocationList, subjectOf } from './revocation-list.ts';

const derOf = (pem: string): Buffer => Buffer.from(pem.replace(/-----[A-Z0-9 ]+-----|\s/g, ''), 'base64');

test('a list that openssl wrote is read: whose it is, until when it counts, how many are on it', () => {
  using pki = new ClientPki();
  const root = pki.root('List Root');
  const other = pki.root('Other');
  for (const name of ['a', 'b']) root.revoke(root.issue(name));
  const certificate = new X509Certificate(root.pem);
  const list = readRevocationList(derOf(root.list({ from: '20260102030405Z', until: '20600102030405Z' })));
  assert.equal(list?.thisUpdate, Date.UTC(2026, 0, 2, 3, 4, 5));
  assert.equal(list.nextUpdate, Date.UTC(2060, 0, 2, 3, 4, 5));
  assert.equal(list.revoked, 2);
  assert.deepEqual(list.issuer, subjectOf(certificate));
  assert.equal(list.isSignedBy(certificate.publicKey), true);
  assert.equal(list.isSignedBy(new X509Certificate(other.pem).publicKey), false);
  assert.equal(maySignLists(certificate), true);
  assert.equal(maySignLists(new X509Certificate(pki.root('Mute', 'keyCertSign').pem)), false);
});

test('a list that was changed after it was signed is signed by nobody', () => {
  using pki = new ClientPki();
  const root = pki.root('List Root');
  root.revoke(root.issue('a'));
  const der = derOf(root.list());
  const { publicKey } = new X509Certificate(root.pem);
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(der);
      changed.writeUInt8(changed.readUInt8(at) ^ change, at);
      return readRevocationList(changed)?.isSignedBy(publicKey) !== true;
    }),
  );
});

test('bytes of any kind are a list or nothing, never an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      readRevocationList(Buffer.from(bytes));
    }),
  );
});
