import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import test from 'node:test';
import fc from 'fast-check';
import { DAY } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { hostnamesOf } from './facts.ts';
import { parseImport } from './import.ts';
import { type Made, makeCa, makeLeaf, newKey, openssl } from './openssl.fixture.ts';

const now = Date.now();
const root = makeCa('/CN=Root');
const middle = makeCa('/CN=Middle', root, newKey('rsa'));
const lower = makeCa('/O=Lower Inc/CN=Lower', middle);
const leaf = makeLeaf(['app.example.com', '*.Example.com'], lower);
const pem = (...made: Made[]) => made.map(({ certificatePem }) => certificatePem).join('');
const subjects = (chain: string) =>
  chain.split(/(?<=-----END CERTIFICATE-----\n)/).map((one) => new X509Certificate(one).subject);

const refused = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, 'INVALID_INPUT');
  assert.match(error.message, message);
  assert.doesNotMatch(error.message, /MII|BEGIN .*KEY/);
  return true;
};
const refuses = (certificate: string, key: string, message: RegExp) =>
  assert.throws(() => parseImport(certificate, key, now), refused(message));

test('a chain in any order, with duplicates and the root, comes out leaf first and without the root', () => {
  for (const text of [
    pem(leaf, lower, middle),
    pem(middle, leaf, lower),
    pem(root, middle, lower, leaf),
    pem(leaf, leaf, lower, middle, lower, root, root),
  ]) {
    const { chainPem, names } = parseImport(text, leaf.keyPem, now);
    assert.deepEqual(subjects(chainPem), ['CN=leaf', 'O=Lower Inc\nCN=Lower', 'CN=Middle']);
    assert.deepEqual(names, ['app.example.com', '*.example.com']);
  }
});

test('a cross-signed root is part of the chain, and its self-signed twin is dropped', () => {
  const old = makeCa('/CN=Old root');
  const cross = makeCa('/CN=Root', old, root.keyPem).certificatePem;
  const short = makeLeaf(['a.test'], root);
  const { chainPem } = parseImport(pem(short, root, { ...root, certificatePem: cross }), short.keyPem, now);
  assert.deepEqual(subjects(chainPem), ['CN=leaf', 'CN=Root']);
  assert.equal(new X509Certificate(cross).issuer, 'CN=Old root');
  assert.ok(chainPem.endsWith(new X509Certificate(cross).toString()));
});

test('keys in PKCS#8, SEC1 and PKCS#1 are taken, with parameters and certificates around them', () => {
  const ec = leaf.keyPem;
  const sec1 = openssl(ec, 'ec');
  const parameters = openssl('', 'ecparam', '-name', 'prime256v1');
  assert.match(sec1, /BEGIN EC PRIVATE KEY/);
  const expected = parseImport(pem(leaf, lower, middle), ec, now);
  for (const key of [
    sec1,
    parameters + sec1,
    `${pem(leaf)}${ec}`,
    `explanation\n${ec}\nmore`,
    ec.replaceAll('\n', '\r\n'),
  ])
    assert.deepEqual(parseImport(pem(leaf, lower, middle), key, now), expected);
  const rsa = makeLeaf(['rsa.test'], undefined, { keyPem: newKey('rsa') });
  const pkcs1 = openssl(rsa.keyPem, 'rsa', '-traditional');
  assert.match(pkcs1, /BEGIN RSA PRIVATE KEY/);
  assert.deepEqual(parseImport(pem(rsa), pkcs1, now).names, ['rsa.test']);
  const ed = makeLeaf(['ed.test'], undefined, { keyPem: newKey('ed25519') });
  assert.deepEqual(parseImport(pem(ed), ed.keyPem, now).names, ['ed.test']);
});

test('an encrypted key is refused with how to decrypt it', () => {
  const pkcs8 = openssl(leaf.keyPem, 'pkcs8', '-topk8', '-passout', 'pass:x');
  const old = openssl(leaf.keyPem, 'ec', '-aes128', '-passout', 'pass:x');
  assert.match(old, /Proc-Type: 4,ENCRYPTED/);
  for (const key of [pkcs8, old])
    refuses(pem(leaf), key, /private_key_pem: is encrypted; decrypt it first.*openssl pkey/);
});

test('a key that belongs to another certificate is refused', () => {
  refuses(pem(leaf), newKey('ec'), /private_key_pem: does not belong to the certificate/);
  refuses(pem(leaf), newKey('rsa'), /does not belong/);
  refuses(pem(lower, middle), leaf.keyPem, /does not belong to any of the 2 certificates/);
});

test('an expired leaf, and an expired certificate above it, is refused with its name and time', () => {
  assert.throws(
    () => parseImport(pem(leaf, lower), leaf.keyPem, now + 31 * DAY),
    refused(/CN=leaf expired at 20/),
  );
  const long = makeLeaf(['long.test'], lower, { days: 90 });
  assert.throws(
    () => parseImport(pem(long, lower), long.keyPem, now + 31 * DAY),
    refused(/O=Lower Inc, CN=Lower expired at/),
  );
});

test('a certificate without a hostname in subjectAltName is refused, whatever its subject says', () => {
  const named = makeLeaf([], undefined, { subject: '/CN=app.example.com' });
  refuses(pem(named), named.keyPem, /names no hostname in subjectAltName/);
  const address = makeLeaf([], undefined, {
    extensions: ['subjectAltName=IP:192.0.2.1,URI:https://a.test,email:a@b.test'],
  });
  refuses(pem(address), address.keyPem, /names no hostname/);
});

test('a name that was made up to look like several is not believed', () => {
  const names = (san: string) => hostnamesOf({ subjectAltName: san } as X509Certificate);
  assert.deepEqual(names('DNS:a.test, IP Address:127.0.0.1, DNS:*.B.test, DNS:a.test'), [
    'a.test',
    '*.b.test',
  ]);
  assert.deepEqual(names('URI:"http://x/, DNS:evil.test, y", DNS:a.test'), ['a.test']);
  assert.deepEqual(names('DNS:"a.test, DNS:evil.test"'), []);
  assert.deepEqual(names('DNS:a.test, garbage'), []);
  assert.deepEqual(names('DNS:a_b.test, DNS:1.2.3.4, DNS:, DNS:*.*.test'), []);
  const tricky = makeLeaf([], undefined, {
    extensions: ['subjectAltName=@n', '[n]', 'DNS.1=a.test', 'URI.1=http://x/\\, DNS:evil.test\\, y'],
  });
  assert.deepEqual(hostnamesOf(new X509Certificate(tricky.certificatePem)), ['a.test']);
});

test('a certificate for clients is refused', () => {
  const client = makeLeaf(['a.test'], undefined, { extensions: ['extendedKeyUsage=clientAuth'] });
  refuses(pem(client), client.keyPem, /not for TLS servers/);
});

test('a key that is too short to be served is refused now, not at the first handshake', () => {
  const weak = makeLeaf(['weak.test'], undefined, { keyPem: newKey('rsa1024') });
  refuses(pem(weak), weak.keyPem, /can't be served: .*key too small/);
});

test('a certificate that is not part of the chain is refused by name', () => {
  refuses(
    pem(leaf, lower, makeCa('/CN=Stranger')),
    leaf.keyPem,
    /CN=Stranger is not part of the chain of CN=leaf/,
  );
  refuses(pem(leaf, middle), leaf.keyPem, /CN=Middle is not part of the chain/);
});

test('a private key in the field of the certificate is refused, and so are cut, foreign and too many blocks', () => {
  refuses(pem(leaf) + leaf.keyPem, leaf.keyPem, /certificate_pem: holds a private key/);
  refuses(pem(leaf).slice(0, -40), leaf.keyPem, /certificate_pem: a block between BEGIN and END is cut/);
  refuses(pem(leaf), leaf.keyPem.slice(0, -40), /private_key_pem: a block .* is cut/);
  refuses(pem(leaf), pem(leaf), /private_key_pem: holds no private key/);
  refuses(pem(leaf), leaf.keyPem + newKey('ec'), /more than one private key/);
  refuses('', leaf.keyPem, /holds no certificate/);
  const request = '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n';
  refuses(request, leaf.keyPem, /block 1 is CERTIFICATE REQUEST/);
  refuses(pem(leaf).repeat(11), leaf.keyPem, /holds 11 blocks; at most 10/);
  refuses('x'.repeat(65_537), leaf.keyPem, /longer than 65536/);
  const garbage = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  refuses(pem(leaf) + garbage, leaf.keyPem, /certificate 2 can't be read/);
});

test('whatever the text is, the answer is a result or INVALID_INPUT, and shows nothing of the key', () => {
  const good = pem(leaf, lower, middle);
  const soundly = (certificate: string, key: string) => {
    try {
      assert.ok(parseImport(certificate, key, now).names.length > 0);
    } catch (error) {
      refused(/^(?:certificate|private_key)_pem: /)(error);
    }
  };
  const around = (label: string) =>
    fc
      .base64String({ maxLength: 400 })
      .map((body) => `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`);
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    around('CERTIFICATE'),
    around('PRIVATE KEY'),
    around('EC PRIVATE KEY'),
  );
  fc.assert(fc.property(text, text, soundly), { numRuns: 300 });
  fc.assert(fc.property(text, (garbage) => soundly(good, garbage)));
  fc.assert(fc.property(text, (garbage) => soundly(good + garbage, leaf.keyPem)));
});

test('a certificate with any byte changed is refused or still consistent, never a crash', () => {
  const der = new X509Certificate(leaf.certificatePem).raw;
  const wrap = (bytes: Buffer) =>
    `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64')}\n-----END CERTIFICATE-----\n`;
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.nat(255), (at, value) => {
      const bytes = Buffer.from(der);
      bytes[at] = value;
      try {
        parseImport(wrap(bytes), leaf.keyPem, now);
      } catch (error) {
        refused(/_pem: /)(error);
      }
    }),
    { numRuns: 2000 },
  );
});
