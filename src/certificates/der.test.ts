/** The writer against readers that are not ours: OpenSSL, and the rules of X.690 spelled out. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { domainToASCII } from 'node:url';
import fc from 'fast-check';
import { parseHostname } from '../core/hostname.ts';
import { bits, boolean, explicit, implicit, integer, octets, oid, sequence, set, time, utf8 } from './der.ts';
import { hostnamesOf } from './facts.ts';
import { openssl } from './openssl.fixture.ts';
import { newKeys, writeLeaf, writeRoot } from './x509.ts';

interface Node {
  tag: number;
  content: Buffer;
  /** Bytes of the whole node. */
  size: number;
}

/** Reads one node and refuses every length that DER does not allow. @see X.690 §8.1.3 and §10.1 */
function readNode(bytes: Buffer): Node {
  const tag = bytes.readUInt8(0);
  const first = bytes.readUInt8(1);
  const digits = first < 0x80 ? 0 : first & 0x7f;
  const length = digits === 0 ? first : bytes.readUIntBE(2, digits);
  const least = length < 0x80 ? 0 : Math.ceil(length.toString(16).length / 2);
  assert.equal(digits, least, 'the shortest form of a length');
  const start = 2 + digits;
  assert.ok(bytes.length >= start + length, 'the content is whole');
  return { tag, content: bytes.subarray(start, start + length), size: start + length };
}

function readAll(bytes: Buffer): Node[] {
  const nodes: Node[] = [];
  for (let at = 0; at < bytes.length; ) {
    const node = readNode(bytes.subarray(at));
    nodes.push(node);
    at += node.size;
  }
  return nodes;
}

const numberOf = (content: Buffer): bigint =>
  BigInt.asIntN(8 * content.length, BigInt(`0x${content.toString('hex')}`));

test('property: whatever is put together comes apart as it was, with the shortest lengths', () => {
  const leaf = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((content) => ({ tag: 0x04, bytes: octets(content) })),
    fc.string({ unit: 'binary', maxLength: 100 }).map((text) => ({ tag: 0x0c, bytes: utf8(text) })),
    fc.boolean().map((value) => ({ tag: 0x01, bytes: boolean(value) })),
    fc.uint8Array({ maxLength: 70 }).map((content) => ({ tag: 0x82, bytes: implicit(2, content) })),
    fc.uint8Array({ maxLength: 70 }).map((content) => ({ tag: 0x03, bytes: bits(content) })),
  );
  fc.assert(
    fc.property(fc.array(leaf, { maxLength: 20 }), (leaves) => {
      const items = leaves.map(({ bytes }) => bytes);
      const outer = readNode(explicit(3, sequence(...items, set(sequence(...items)))));
      assert.equal(outer.tag, 0xa3);
      const [inner, ...more] = readAll(outer.content);
      assert.deepEqual([inner?.tag, more.length], [0x30, 0]);
      const read = readAll(inner?.content ?? Buffer.alloc(0));
      assert.deepEqual(
        read.map(({ tag }) => tag),
        [...leaves.map(({ tag }) => tag), 0x31],
      );
    }),
  );
});

test('lengths are right at every border', () => {
  for (const length of [0, 1, 127, 128, 129, 255, 256, 257, 65_535, 65_536, 100_000, 16_777_216])
    assert.equal(readNode(octets(Buffer.alloc(length))).content.length, length);
});

test('property: an integer is never negative and has no byte too many', () => {
  const written = (value: number | Uint8Array) => {
    const { tag, content } = readNode(integer(value));
    assert.equal(tag, 0x02);
    const [first = 0, second = 0] = content;
    assert.ok(content.length === 1 || first !== 0 || second >= 0x80, 'no leading zero that says nothing');
    return numberOf(content);
  };
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => assert.equal(written(value), BigInt(value))),
    { examples: [[0], [127], [128], [255], [256], [65_535], [2 ** 31], [2 ** 53 - 1]] },
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), (bytes) =>
      assert.equal(written(bytes), BigInt(`0x${Buffer.from(bytes).toString('hex')}`)),
    ),
    {
      examples: [[Uint8Array.of(0)], [Uint8Array.of(0, 0)], [Uint8Array.of(0, 0x80)], [Uint8Array.of(0x80)]],
    },
  );
});

test('an object identifier is written as OpenSSL writes it', () => {
  const arc = fc.oneof(fc.nat({ max: 300 }), fc.nat({ max: 2 ** 31 - 1 }));
  const dotted = fc
    .tuple(fc.nat({ max: 2 }), fc.nat({ max: 39 }), fc.array(arc, { minLength: 1, maxLength: 6 }))
    .map((parts) => parts.flat().join('.'));
  for (const text of [...fc.sample(dotted, 12), '2.100.3', '2.999.1', '1.2.840.10045.4.3.2', '2.5.29.17']) {
    const theirs = openssl('', 'asn1parse', '-genstr', `OID:${text}`, '-dump');
    assert.equal(
      /OBJECT\s+:(\S+)/.exec(openssl(pemOf(oid(text)), 'asn1parse'))?.[1] ?? '',
      nameOf(theirs),
      text,
    );
  }
});

const nameOf = (parsed: string): string => /OBJECT\s+:(\S+)/.exec(parsed)?.[1] ?? '';
const pemOf = (der: Buffer): string => `-----BEGIN ANY-----\n${der.toString('base64')}\n-----END ANY-----\n`;

test('property: every second that a certificate can name is read back as it was written', async () => {
  const signer = { ...(await newKeys()), commonName: 'Times' };
  // RFC 5280 §4.1.2.5: two digits of a year stand for 1950 to 2049.
  const second = fc.integer({ min: Date.UTC(1950, 0, 1) / 1000, max: Date.UTC(9999, 11, 31) / 1000 });
  const border = (Date.UTC(2050, 0, 1) / 1000) as number;
  fc.assert(
    fc.property(second, second, (from, to) => {
      const { validFromDate, validToDate } = new X509Certificate(
        writeRoot(signer, { notBefore: from * 1000, notAfter: to * 1000 + 999 }),
      );
      assert.deepEqual([validFromDate.getTime(), validToDate.getTime()], [from * 1000, to * 1000]);
      assert.deepEqual(
        [time(from * 1000)[0], time(to * 1000)[0]],
        [from, to].map((at) => (at < border ? 0x17 : 0x18)),
      );
    }),
    { numRuns: 60, examples: [[border - 1, border]] },
  );
});

const unicodeName = fc
  .array(
    fc.constantFrom(
      'bücher',
      'straße',
      '例え',
      'пример',
      'MÜNCHEN',
      'faß',
      'ελλάδα',
      'مثال',
      'a-b',
      'xn--bcher-kva',
      '😀x',
    ),
    {
      minLength: 1,
      maxLength: 3,
    },
  )
  .map((labels) => [...labels, 'example'].join('.'));
const plainName = fc
  .array(fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/), { minLength: 1, maxLength: 3 })
  .map((labels) => [...labels, 'test'].join('.'));
const canonical = fc
  .oneof(unicodeName, plainName)
  .map((name) => parseHostname(name) ?? domainToASCII('a.test'))
  .chain((name) => fc.constantFrom(name, `*.${name}`.slice(0, 253)));

test('property: names of every kind, IDNA and wildcards too, are what OpenSSL and our own reader find', async () => {
  const root = { ...(await newKeys()), commonName: 'Names' };
  const { publicKey } = await newKeys();
  const validity = { notBefore: Date.now() - 1000, notAfter: Date.now() + 86_400_000 };
  const wanted: string[][] = [];
  const pems: string[] = [];
  fc.assert(
    fc.property(fc.uniqueArray(canonical, { minLength: 1, maxLength: 200 }), (hostnames) => {
      const pem = writeLeaf(root, { hostnames, addresses: [], publicKey }, validity);
      assert.deepEqual(hostnamesOf(new X509Certificate(pem)), hostnames);
      wanted.push(hostnames);
      pems.push(pem);
    }),
    { numRuns: 40 },
  );
  const folder = mkdtempSync(join(tmpdir(), 'der-'));
  writeFileSync(join(folder, 'all.pem'), pems.join(''));
  const printed = openssl('', 'storeutl', '-noout', '-text', '-certs', join(folder, 'all.pem'));
  rmSync(folder, { recursive: true });
  const found = [...printed.matchAll(/Subject Alternative Name: *\n +(.*)\n/g)].map(([, names = '']) =>
    names.split(', ').map((name) => name.replace(/^DNS:/, '')),
  );
  assert.deepEqual(found, wanted);
});

test('a certificate with as many and as long names as there can be is one that OpenSSL accepts', async () => {
  const root = { ...(await newKeys()), commonName: 'Long' };
  const { publicKey } = await newKeys();
  const label = 'x'.repeat(61);
  const hostnames = Array.from(
    { length: 200 },
    (_, i) => `${label}.${label}.${label}.${label}.${String(i).padStart(4, '0')}`,
  ).map((name) => `${name}a`);
  assert.deepEqual([hostnames[0]?.length, parseHostname(hostnames[0] ?? '')], [253, hostnames[0]]);
  const now = Date.now();
  const pem = writeLeaf(
    root,
    { hostnames, addresses: [], publicKey },
    { notBefore: now, notAfter: now + 1e9 },
  );
  assert.deepEqual(hostnamesOf(new X509Certificate(pem)), hostnames);
  const printed = openssl(pem, 'x509', '-noout', '-subject', '-ext', 'subjectAltName');
  assert.match(printed, /subject=CN = see subject alternative name\n/);
  assert.equal(printed.match(/DNS:/g)?.length, 200);
});
