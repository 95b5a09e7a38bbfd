/** What reading an owner's CAs and revocation lists costs, and when it is done. What counts is in test/incidents/row-17. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { before, test, type TestContext } from 'node:test';
import { DAY } from '../core/clock.ts';
import {
  describeClientTrust,
  readClientTrust,
  requireClientTrust,
  usableClientTrust,
} from './client-trust.ts';
import { boolean, sequence } from './der.ts';
import { extension, newKeys, type Signer, writeCertificate, writeRoot } from './x509.ts';

const NOW = Date.UTC(2026, 0, 1);
const validity = { notBefore: NOW - DAY, notAfter: NOW + DAY };
/** basicConstraints, and no word of keys. */
const extensionsOfCa = [extension('2.5.29.19', true, sequence(boolean(true)))];
const signer = async (): Promise<Signer> => ({ commonName: 'One Name', ...(await newKeys()) });

let signers: Signer[];
before(async () => {
  signers = await Promise.all(Array.from({ length: 21 }, signer));
});

const rootsOf = (some: readonly Signer[]): string => some.map((one) => writeRoot(one, validity)).join('');

function countVerifications(t: TestContext): () => number {
  const { mock } = t.mock.method(X509Certificate.prototype, 'verify');
  return () => mock.callCount();
}

test('roots of one name are each checked by their own key only', (t) => {
  const count = countVerifications(t);
  assert.equal(readClientTrust({ ca_pem: rootsOf(signers.slice(0, 20)) }).authorities.length, 20);
  assert.equal(count(), 20);
});

test('more CAs than anybody needs are refused before any is looked at', (t) => {
  const count = countVerifications(t);
  assert.throws(() => readClientTrust({ ca_pem: rootsOf(signers) }), /holds 21 blocks; at most 20 are taken/);
  assert.equal(count(), 0);
});

test('CAs whose issuer is found by trying only are refused after a bounded number of signatures', (t) => {
  const last = signers[19];
  assert.ok(last);
  const below = signers
    .slice(0, 19)
    .map(({ commonName: subject, publicKey }) =>
      writeCertificate(last, { subject, publicKey, extensions: extensionsOfCa }, validity),
    );
  const count = countVerifications(t);
  const pem = { ca_pem: below.join('') + writeRoot(last, validity) };
  assert.throws(() => requireClientTrust(pem, NOW), /client_auth\.ca_pem: .*too many .*one name/);
  assert.ok(count() <= 80, `${count()} signatures`);
  const counted = count();
  assert.match(describeClientTrust(pem, NOW).problem ?? '', /too many/);
  assert.equal(count(), counted, 'what can not be used is not read again');
});

test('what was read once is not read again, whoever asks and whenever; only its dates are looked at', (t) => {
  const pem = { ca_pem: rootsOf(signers.slice(0, 2)) };
  const count = countVerifications(t);
  const trust = usableClientTrust(pem, NOW);
  assert.equal(count(), 2);
  assert.equal(usableClientTrust(pem, NOW + 1000), trust);
  assert.equal(readClientTrust({ ...pem }), trust, 'the same text, from the store');
  assert.equal(describeClientTrust({ ...pem }, NOW).problem, null);
  assert.equal(count(), 2);
  assert.throws(() => usableClientTrust(pem, NOW + DAY), /expired/);
  assert.notEqual(readClientTrust({ ca_pem: rootsOf(signers.slice(0, 2)) }).key, trust.key);
});
