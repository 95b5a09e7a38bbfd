import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { EventFilter, EventTooLarge } from './event-filter.ts';

/** Events as the algorithm of the HTML standard reads them, written from its text. */
function eventsOf(text: string): { type: string; data: string; id: string }[] {
  const lines = text.replace(/^\ufeff/, '').split(/\r\n|\n|\r/);
  // What comes behind the last line end is no line.
  lines.pop();
  const events: { type: string; data: string; id: string }[] = [];
  let [data, type, id] = [[] as string[], '', ''];
  for (const line of lines) {
    if (line === '') {
      if (data.length > 0) events.push({ type, data: data.join('\n'), id });
      [data, type] = [[], ''];
      continue;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') type = value;
    else if (field === 'id') id = value;
  }
  return events;
}

/** Stands for a list: what begins with `!` becomes another. */
const change = (data: string): string | undefined =>
  data.startsWith('!') ? `changed ${data.length}` : undefined;

const filtered = (parts: readonly Uint8Array[]): string => {
  const filter = new EventFilter(change);
  return Buffer.concat(parts.map((part) => filter.push(part))).toString();
};

function chunked(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...at].map((start, i) => bytes.subarray(start, at[i] ?? bytes.length));
}

const lineEnd = fc.constantFrom('\n', '\r\n', '\r');
const line = fc.oneof(
  fc.constantFrom(
    '',
    '',
    'data',
    'data:',
    'data:!',
    'data: !x',
    'data:!é€',
    'data: y',
    'datax: !',
    'id: 1',
    'event: e',
    ': c',
    'retry: 5',
  ),
  fc.string({ maxLength: 6 }).map((text) => text.replace(/[\r\n\ufeff]/g, '')),
);
const stream = fc
  .tuple(fc.constantFrom('', '\ufeff'), fc.array(fc.tuple(line, lineEnd), { maxLength: 30 }), line)
  .map(([mark, lines, rest]) => mark + lines.flat().join('') + rest);

test('property: however the bytes are cut, the same comes out', () => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 10 }), (text, cuts) => {
      const bytes = Buffer.from(text);
      const whole = filtered([bytes]);
      assert.equal(filtered(chunked(bytes, cuts)), whole);
      assert.equal(filtered([...bytes].map((byte) => Buffer.from([byte]))), whole);
    }),
  );
});

test('property: every event is there as it was or changed, with its type and id, and none that had to be changed passes', () => {
  fc.assert(
    fc.property(stream, (text) => {
      const expected = eventsOf(text).map((event) => ({ ...event, data: change(event.data) ?? event.data }));
      assert.deepEqual(eventsOf(filtered([Buffer.from(text)])), expected);
    }),
  );
});

test('property: a stream in which nothing is changed passes byte for byte, up to a line or event that is not whole', () => {
  const harmless = stream.filter((text) => !text.includes('!'));
  fc.assert(
    fc.property(harmless, fc.array(fc.nat(), { maxLength: 5 }), (text, cuts) => {
      const out = filtered(chunked(Buffer.from(text), cuts));
      assert.ok(text.startsWith(out));
      assert.equal(filtered([Buffer.from(`${text}\n\n`)]), `${text}\n\n`);
    }),
  );
});

test('lines of an event that is changed keep their ends apart, whatever ends its data had', () => {
  assert.equal(filtered([Buffer.from('data:!\nid: 1\rdata:!\n\n')]), 'data: changed 3\nid: 1\n\n');
});

test('what is no data passes as soon as its line is whole', () => {
  const filter = new EventFilter(change);
  const push = (text: string) => filter.push(Buffer.from(text)).toString();
  assert.equal(push(': keep'), '');
  assert.equal(push('-alive\n'), ': keep-alive\n');
  assert.equal(push('id: 1\r'), 'id: 1\r');
  assert.equal(push('\ndata: x\r\n'), '\n');
  assert.equal(push('event: late\r\n\r'), 'data: x\r\nevent: late\r\n\r');
  assert.equal(push('\n: more\n'), '\n: more\n');
});

test('a line or an event beyond the limit is an error, and nothing of it passes', () => {
  for (const text of ['data: 123456789', 'data: 1\ndata: 2\n', ': 123456789']) {
    const filter = new EventFilter(change, 10);
    assert.equal(filter.push(Buffer.from('data: 1\n\n')).length, 9);
    assert.throws(() => filter.push(Buffer.from(text)), EventTooLarge);
  }
});

test('an event of millions of lines costs no more memory than a few times its size', () => {
  const before = process.memoryUsage().rss;
  for (const lines of ['data\n'.repeat(1_600_000), `data: x\n${':\n'.repeat(4_000_000)}`]) {
    const filter = new EventFilter((data) => `${data.length}`);
    assert.match(
      filter
        .push(Buffer.from(`${lines}\n`))
        .subarray(0, 40)
        .toString(),
      /^data: (1599999|1)\n/,
    );
  }
  const grown = process.memoryUsage().rss - before;
  assert.ok(grown < 300 * 1024 * 1024, `${grown} bytes`);
});
