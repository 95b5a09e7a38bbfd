/** What the client writes and reads in DER, against OpenSSL and @peculiar/x509: requests, challenge certificates, ids. */
import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, hash, type KeyObject, X509Certificate } from 'node:crypto';
import test from 'node:test';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import type { CertificateKeyType } from '../../core/key-type.ts';
import { readAll } from '../der-reader.ts';
import { makeCa, makeLeaf, openssl } from '../openssl.fixture.ts';
import { x509 } from '../peculiar.fixture.ts';
import { certificateId } from './certificate-id.ts';
import { newCertificateKey, writeCsr } from './csr.ts';
import { dns01Answer } from './dns-01.ts';
import { http01Answer } from './http-01.ts';
import { canonicalIdentifier, type Identifier, MAX_IDENTIFIERS } from './identifier.ts';
import { reverseName, tlsAlpn01Answer } from './tls-alpn-01.ts';

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/);
const hostname = fc
  .tuple(fc.boolean(), fc.array(label, { minLength: 1, maxLength: 3 }))
  .map(([isWildcard, labels]) => `${isWildcard ? '*.' : ''}${labels.join('.')}.test`);
const address = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map((bytes) => ipaddr.fromByteArray([...bytes]))
  .map((ip) => (ip instanceof ipaddr.IPv6 ? ip.toRFC5952String() : ip.toString()));
const identifier: fc.Arbitrary<Identifier> = fc.oneof(
  hostname.map((value) => ({ type: 'dns', value })),
  address.map((value) => ({ type: 'ip', value })),
);
const identifiers = fc.uniqueArray(identifier, {
  minLength: 1,
  maxLength: 20,
  selector: ({ value }) => value,
});

const pemOf = (csr: Buffer): string =>
  ['BEGIN', ...(csr.toString('base64').match(/.{1,64}/g) ?? []), 'END']
    .map((line) => (/^(?:BEGIN|END)$/.test(line) ? `-----${line} CERTIFICATE REQUEST-----\n` : `${line}\n`))
    .join('');

const keys = new Map<CertificateKeyType, KeyObject>();
for (const type of ['p256', 'p384', 'rsa2048', 'rsa3072', 'rsa4096'] as const)
  keys.set(type, await newCertificateKey(type));

const sorted = (values: Iterable<string>): string[] => [...values].sort();

test('property: a request says exactly the names, and its signature verifies, for @peculiar/x509', async () => {
  await fc.assert(
    fc.asyncProperty(identifiers, fc.constantFrom(...keys.keys()), async (names, type) => {
      const request = new x509.Pkcs10CertificateRequest(writeCsr(names, keys.get(type)!));
      const { rawData } = request.getExtension('2.5.29.17') ?? assert.fail('no names');
      const { items } = new x509.SubjectAlternativeNameExtension(rawData).names;
      const found = items.map((name) => `${name.type} ${plain(name.value)}`);
      assert.deepEqual(
        sorted(found),
        sorted(names.map(({ type: kind, value }) => `${kind} ${plain(value)}`)),
      );
      assert.equal(request.subject, '');
      assert.ok(await request.verify());
    }),
    { numRuns: 60 },
  );
});

/** Addresses have many spellings. */
const plain = (value: string): string =>
  ipaddr.isValid(value) && /[.:]/.test(value) && !value.endsWith('test')
    ? ipaddr.parse(value).toNormalizedString()
    : value;

test('a request with every kind of key verifies for OpenSSL, and has its key and digest', () => {
  const names = [
    { type: 'dns', value: 'a.example.com' },
    { type: 'dns', value: '*.example.com' },
    { type: 'ip', value: '192.0.2.7' },
    { type: 'ip', value: '2001:db8::7' },
  ];
  const expected = {
    p256: [/ecdsa-with-SHA256/, /\(256 bit\)/],
    p384: [/ecdsa-with-SHA384/, /\(384 bit\)/],
    rsa2048: [/sha256WithRSAEncryption/, /\(2048 bit\)/],
    rsa3072: [/sha256WithRSAEncryption/, /\(3072 bit\)/],
    rsa4096: [/sha256WithRSAEncryption/, /\(4096 bit\)/],
  };
  for (const [type, patterns] of Object.entries(expected)) {
    const pem = pemOf(writeCsr(names, keys.get(type as CertificateKeyType)!));
    const printed = openssl(pem, 'req', '-verify', '-noout', '-text');
    for (const pattern of patterns) assert.match(printed, pattern, type);
    assert.match(
      printed,
      /DNS:a\.example\.com, DNS:\*\.example\.com, IP Address:192\.0\.2\.7, IP Address:2001:DB8:/,
    );
  }
});

test('a request that was changed does not verify', async () => {
  const csr = writeCsr([{ type: 'dns', value: 'a.example.com' }], keys.get('p256')!);
  const at = csr.indexOf('a.example.com');
  csr.write('b', at);
  assert.equal(await new x509.Pkcs10CertificateRequest(csr).verify(), false);
});

test('what no certificate can be for is refused before a CA hears of it', () => {
  const refused = (names: Identifier[]) =>
    assert.throws(() => writeCsr(names, keys.get('p256')!), { code: 'INVALID_INPUT' });
  refused([]);
  for (const value of ['', 'a b.test', 'a..test', '*.*.test', '127.0.0.1', 'https://a.test'])
    refused([{ type: 'dns', value }]);
  for (const value of ['', 'a.test', '127.1', '010.0.0.1', '1.2.3.4/32', 'fe80::1%eth0'])
    refused([{ type: 'ip', value }]);
  refused([{ type: 'email', value: 'a@example.com' }]);
  refused(Array.from({ length: MAX_IDENTIFIERS + 1 }, (_, i) => ({ type: 'dns', value: `n${i}.test` })));
  const ed25519 = generateKeyPairSync('ed25519').privateKey;
  assert.throws(() => writeCsr([{ type: 'dns', value: 'a.test' }], ed25519), { code: 'INVALID_INPUT' });
});

test('names are ordered in one form: lower case, punycode, and addresses as in RFC 5952', () => {
  const of = (type: string, value: string) => canonicalIdentifier({ type, value }).value;
  assert.equal(of('dns', 'Bücher.Example'), 'xn--bcher-kva.example');
  assert.equal(of('ip', '2001:DB8:0:0:0:0:0:1'), '2001:db8::1');
});

test('the answers of HTTP-01 and DNS-01 are those of RFC 8555, for the key of RFC 7515 appendix A.3', async () => {
  const key = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'EC',
      crv: 'P-256',
      x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
      y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
      d: 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI',
    },
  });
  // RFC 7638 §3: SHA-256 of the required members in this order, without spaces.
  const members = `{"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`;
  const authorization = `token-1.${hash('sha256', members, 'base64url')}`;
  assert.deepEqual(await http01Answer('token-1', key), {
    path: '/.well-known/acme-challenge/token-1',
    body: authorization,
  });
  assert.deepEqual(await dns01Answer('example.com', 'token-1', key), {
    recordName: '_acme-challenge.example.com',
    value: hash('sha256', authorization, 'base64url'),
  });
});

test('the certificate of TLS-ALPN-01 has one name, and the proof in a critical extension', async () => {
  const accountKey = await newCertificateKey();
  const { body } = await http01Answer('token-2', accountKey);
  const now = Date.UTC(2026, 10, 30);
  for (const [wanted, names, serverName] of [
    [{ type: 'dns', value: 'a.example.com' }, 'DNS:a.example.com', 'a.example.com'],
    [{ type: 'ip', value: '192.0.2.7' }, 'IP Address:192.0.2.7', '7.2.0.192.in-addr.arpa'],
  ] as const) {
    const answer = await tlsAlpn01Answer({ identifier: wanted, token: 'token-2', accountKey, now });
    const certificate = new X509Certificate(answer.certificatePem);
    assert.equal(certificate.subjectAltName, names);
    assert.equal(answer.serverName, serverName);
    assert.ok(certificate.checkPrivateKey(createPrivateKey(answer.keyPem)));
    assert.ok(certificate.verify(certificate.publicKey));
    assert.ok(certificate.validFromDate.getTime() < now && certificate.validToDate.getTime() > now);
    const extension = new x509.X509Certificate(answer.certificatePem).getExtension('1.3.6.1.5.5.7.1.31');
    assert.equal(extension?.critical, true);
    const proof = Buffer.from(extension?.value ?? new ArrayBuffer(0)).toString('hex');
    assert.equal(proof, `0420${hash('sha256', body, 'hex')}`);
  }
});

test('an address has the name of its reverse', () => {
  assert.equal(reverseName('192.0.2.1'), '1.2.0.192.in-addr.arpa');
  // RFC 3596 §2.5
  assert.equal(
    reverseName('4321:0:1:2:3:4:567:89ab'),
    'b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa',
  );
});

/** @see RFC 9773 appendix A */
const EXAMPLE = `-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
`;

test('the id of a certificate is that of the example in RFC 9773', () => {
  assert.equal(certificateId(EXAMPLE), 'aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE');
});

test('the id of a certificate is made of what @peculiar/x509 finds in it; without an authority there is none', () => {
  const ca = makeCa('/CN=Ids');
  const extensions = ['extendedKeyUsage=serverAuth', 'authorityKeyIdentifier=keyid,issuer:always'];
  for (const more of [{}, { extensions }]) {
    const { certificatePem } = makeLeaf(['a.test'], ca, more);
    const read = new x509.X509Certificate(certificatePem);
    const keyId = read.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId;
    const serial = /^[89a-f]/i.test(read.serialNumber) ? `00${read.serialNumber}` : read.serialNumber;
    const expected =
      keyId === undefined
        ? undefined
        : [keyId, serial].map((hex) => Buffer.from(hex, 'hex').toString('base64url')).join('.');
    assert.equal(certificateId(certificatePem), expected);
  }
  const { certificatePem: alone } = makeLeaf(['a.test'], undefined, {
    extensions: ['authorityKeyIdentifier=none'],
  });
  assert.equal(certificateId(alone), undefined);
});

test('property: DER of any bytes is read without a throw, and never beyond its end', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const total = readAll(Buffer.from(bytes)).reduce((sum, { content }) => sum + content.length + 2, 0);
      assert.ok(total <= bytes.length);
    }),
    {
      examples: [
        [Uint8Array.of(0x30, 0x84, 0xff, 0xff, 0xff, 0xff)],
        [Uint8Array.of(0x30, 0x80)],
        [Uint8Array.of(0x1f, 1)],
      ],
    },
  );
});

test('a key on a curve that no CA takes can not be used', async () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey;
  assert.throws(() => writeCsr([{ type: 'dns', value: 'a.test' }], key), { code: 'INVALID_INPUT' });
});
