import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import fc from 'fast-check';
import { DnsFault } from './fault.ts';
import { CLASS, OPCODE, readMessage, TYPE, writeMessage, writeRecord, writeText } from './message.ts';
import { readName, writeName } from './name.ts';

const HEADER = 12;
const QUESTION = { name: 'example.test', type: TYPE.TXT };
const QUERY = writeMessage({ id: 7, opcode: OPCODE.QUERY, recursionDesired: true, question: QUESTION });

/** An answer with these records; `type` and `rdata` as they stand on the wire. */
function answerWith(...records: { type: number; rdata: Buffer; class?: number }[]): Buffer {
  const bytes = Buffer.concat([
    QUERY,
    ...records.map(({ type, rdata, class: kind = CLASS.IN }) =>
      writeRecord({ name: 'example.test', type, class: kind, ttl: 60, rdata }),
    ),
  ]);
  bytes.writeUInt16BE(0x8400, 2);
  bytes.writeUInt16BE(records.length, 6);
  return bytes;
}

const isMalformed = (error: unknown) => error instanceof DnsFault && error.kind === 'malformed';
const label = fc.uint8Array({ minLength: 1, maxLength: 63 }).map((bytes) => Buffer.from(bytes));

suite('messages of the DNS', () => {
  test('a name of any bytes comes back as its canonical text, and that text is stable', () => {
    fc.assert(
      fc.property(fc.array(label, { maxLength: 3 }), (labels) => {
        const wire = Buffer.concat([
          ...labels.flatMap((bytes) => [Buffer.of(bytes.length), bytes]),
          Buffer.of(0),
        ]);
        const { name, end } = readName(wire, 0);
        assert.equal(end, wire.length);
        assert.match(name, /^[!-~]*$/);
        assert.equal(readName(writeName(name), 0).name, name);
        assert.equal(name.split('.').filter((text) => text !== '').length, labels.length);
      }),
    );
  });

  test('names are compared in lower case', () => {
    assert.equal(readName(Buffer.from('\x03WwW\x07ExAmPlE\x00', 'latin1'), 0).name, 'www.example');
  });

  test('what is no name is not written', () => {
    for (const name of ['a..b', '.a', 'a.', 'x'.repeat(64), `${'a.'.repeat(130)}a`, 'ü\\999'])
      assert.throws(() => writeName(name), Error, name);
  });

  test('any bytes are a message or malformed, never another fault and never without end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        readOrMalformed(Buffer.from(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  const genuine = answerWith(
    { type: TYPE.CNAME, rdata: Buffer.of(0xc0, HEADER) },
    { type: TYPE.TXT, rdata: writeText('v'.repeat(300)) },
    { type: TYPE.CAA, rdata: Buffer.from('\x00\x05issueca.test') },
    { type: TYPE.A, rdata: Buffer.of(192, 0, 2, 1) },
    { type: TYPE.AAAA, rdata: Buffer.alloc(16, 1) },
    { type: TYPE.SOA, rdata: Buffer.concat([writeName('ns.test'), writeName('h.test'), Buffer.alloc(20)]) },
    { type: 99, rdata: Buffer.from('unknown') },
    { type: TYPE.TSIG, class: CLASS.ANY, rdata: Buffer.from('x') },
  );

  test('a genuine answer is read as what it says', () => {
    const { answers, isResponse, isAuthoritative, question, signature } = readMessage(genuine);
    assert.deepEqual([isResponse, isAuthoritative, question], [true, true, QUESTION]);
    assert.deepEqual(
      answers.map(({ data }) => data),
      [
        { type: 'CNAME', target: 'example.test' },
        { type: 'TXT', text: 'v'.repeat(300) },
        { type: 'CAA', flags: 0, tag: 'issue', value: 'ca.test' },
        { type: 'A', address: '192.0.2.1' },
        { type: 'AAAA', address: Array.from({ length: 8 }, () => '101').join(':') },
        { type: 'SOA', primary: 'ns.test' },
        { type: 'other', code: 99 },
        { type: 'other', code: TYPE.TSIG },
      ],
    );
    assert.equal(signature?.keyName, 'example.test');
  });

  test('a genuine answer with any byte changed, or cut anywhere, is a message or malformed', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(genuine.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(genuine.length),
        (changes, cut) => {
          const bytes = Buffer.from(genuine);
          for (const [at, value] of changes) bytes[at] = value;
          readOrMalformed(bytes);
          readOrMalformed(bytes.subarray(0, cut));
        },
      ),
      { numRuns: 2000 },
    );
    for (let cut = 0; cut < genuine.length; cut += 1)
      assert.throws(() => readMessage(genuine.subarray(0, cut)), isMalformed, `cut at ${cut}`);
  });

  const pointers: [string, number[]][] = [
    ['to itself', [0xc0, HEADER]],
    ['forwards', [0xc0, 0x40]],
    ['in a circle of two', [1, 97, 0xc0, HEADER]],
    ['beyond the end', [0xff, 0xff]],
    ['cut off', [0xc0]],
    ['of an unknown kind', [0x80, 1]],
  ];
  for (const [what, name] of pointers)
    test(`a pointer ${what} is malformed`, () => {
      const header = Buffer.from(QUERY.subarray(0, HEADER));
      const bytes = Buffer.concat([header, Buffer.from(name), Buffer.from([0, 16, 0, 1])]);
      assert.throws(() => readMessage(bytes), isMalformed);
    });

  test('a chain of pointers ends, and a name that they make longer than 255 bytes is malformed', () => {
    const part = Buffer.concat([Buffer.of(60), Buffer.alloc(60, 97)]);
    const parts = [Buffer.concat([part, Buffer.of(0)])];
    let start = 0;
    for (let i = 0; i < 4; i += 1) {
      parts.push(Buffer.concat([part, Buffer.of(0xc0, start)]));
      start = parts.slice(0, -1).reduce((sum, { length }) => sum + length, 0);
    }
    const wire = Buffer.concat(parts);
    assert.equal(readName(wire, 62).name.length, 121);
    assert.throws(() => readName(wire, start), isMalformed);
  });

  const wrong: [string, number, Buffer][] = [
    ['an A of 5 bytes', TYPE.A, Buffer.alloc(5)],
    ['an AAAA of 4 bytes', TYPE.AAAA, Buffer.alloc(4)],
    ['a TXT that says it is longer', TYPE.TXT, Buffer.of(9, 97)],
    ['a CAA without a tag', TYPE.CAA, Buffer.of(0, 0, 97)],
    ['a CAA whose tag is longer than it', TYPE.CAA, Buffer.of(0, 9, 97)],
    ['a CNAME with something behind it', TYPE.CNAME, Buffer.concat([writeName('a.test'), Buffer.of(0)])],
    ['a SOA without numbers', TYPE.SOA, Buffer.concat([writeName('a'), writeName('b')])],
  ];
  for (const [what, type, rdata] of wrong)
    test(`${what} is malformed`, () => {
      assert.throws(() => readMessage(answerWith({ type, rdata })), isMalformed);
    });

  test('something behind the message, two questions or 1,001 records are malformed', () => {
    assert.throws(() => readMessage(Buffer.concat([QUERY, Buffer.of(0)])), isMalformed);
    const two = Buffer.concat([QUERY, QUERY.subarray(HEADER)]);
    two.writeUInt16BE(2, 4);
    assert.throws(() => readMessage(two), isMalformed);
    const record = { type: TYPE.TXT, rdata: Buffer.of(0) };
    assert.equal(readMessage(answerWith(...Array(1000).fill(record))).answers.length, 1000);
    assert.throws(() => readMessage(answerWith(...Array(1001).fill(record))), isMalformed);
  });
});

function readOrMalformed(bytes: Buffer): void {
  try {
    readMessage(bytes);
  } catch (error) {
    assert.ok(isMalformed(error), String(error));
  }
}
