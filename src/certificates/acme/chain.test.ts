import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import test from 'node:test';
import { makeCa, makeLeaf } from '../openssl.fixture.ts';
import { leadsTo, readChain } from './chain.ts';

const identifiers = [{ type: 'dns', value: 'a.test' }];
const root = makeCa('/CN=Root of Names, Inc');
const ca = makeCa('/O=Names/CN=Intermediate', root);
const namesake = makeCa('/O=Names/CN=Intermediate', root);
const leaf = makeLeaf(['a.test', 'b.test'], ca);
const key = createPrivateKey(leaf.keyPem);
const read = (...parts: { certificatePem: string }[]) =>
  readChain(parts.map(({ certificatePem }) => certificatePem).join('\n'), { key, identifiers }, Date.now());

test('a chain whose certificates sign each other is taken, for the private key as for the public one', () => {
  const { certificates, chainPem } = read(leaf, ca, root);
  assert.equal(certificates.length, 3);
  assert.equal(chainPem, [leaf, ca, root].map(({ certificatePem }) => certificatePem).join(''));
  const expected = { key: createPublicKey(leaf.keyPem), identifiers };
  assert.equal(readChain(leaf.certificatePem, expected, Date.now()).certificates.length, 1);
});

test('an issuer of the right name that did not sign is not taken', () => {
  assert.throws(() => read(leaf, namesake), { code: 'wrong_certificate', message: /not signed by/ });
});

test('a chain leads to every issuer in it, by its whole common name, and to nobody else', () => {
  const chain = read(leaf, ca);
  assert.deepEqual(
    ['Intermediate', 'Root of Names, Inc', 'Root of Names', 'Names', 'leaf', ''].map((name) =>
      leadsTo(chain, name),
    ),
    [true, true, false, false, false, false],
  );
});
