import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { HOUR } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { logLevels, recordKinds } from '../core/record.ts';
import { aRecord, asTexts, NOON, someFiles } from './fixtures.test.ts';
import { parseFilter } from './filter.ts';
import { levelRank } from './levels.ts';
import type { LogFiles } from './query.ts';

/** Messages of what a filter finds, oldest first. */
function search(files: LogFiles, filter: string): string[] {
  const { terms, since, until } = parseFilter(filter, NOON);
  const question = { filter: { terms, since, until }, limit: 1000, after: undefined };
  const { rows } = files.search(question, { milliseconds: Infinity, now: () => 0 });
  return rows.map(({ message }) => message).reverse();
}

const refusal = (filter: string): string => {
  try {
    parseFilter(filter, NOON);
  } catch (cause) {
    assert.ok(cause instanceof AppError && cause.code === 'INVALID_INPUT');
    return cause.message;
  }
  return 'taken';
};

const requests = [
  aRecord({
    message: 'ok',
    hostname: 'app.example.com',
    method: 'GET',
    path: '/',
    status: 200,
    duration_ms: 5,
  }),
  aRecord({
    message: 'health',
    hostname: 'app.example.com',
    path: '/health/live',
    status: 200,
    duration_ms: 1,
  }),
  aRecord({ message: 'slow', hostname: 'a.example.com', path: '/api', status: 503, duration_ms: 2500 }),
  aRecord({
    message: 'refused',
    hostname: 'example.org',
    path: '/api',
    status: 401,
    client_address: '192.0.2.7',
  }),
  aRecord({ message: 'old', hostname: 'a.example.com', status: 500, time: NOON - 2 * HOUR }),
  aRecord({ message: 'say "so"', level: 'warn', kind: 'system' }),
];

const cases: [filter: string, messages: string[]][] = [
  ['status>=500 host:*.example.com since:1h', ['slow']],
  ['status>=500 host:*.example.com', ['old', 'slow']],
  ['host:*.example.com -path:/health since:1h', ['ok', 'slow']],
  ['path:/health', ['health']],
  ['path=/health', []],
  ['status:5xx', ['old', 'slow']],
  ['status:401,503', ['slow', 'refused']],
  ['status:400..499', ['refused']],
  ['status<300', ['ok', 'health']],
  ['status!=200', ['old', 'slow', 'refused']],
  ['-status:200', ['old', 'slow', 'refused', 'say "so"']],
  ['duration>2s', ['slow']],
  ['duration<=5ms', ['ok', 'health']],
  ['level:info', ['old', 'ok', 'health', 'slow', 'refused', 'say "so"']],
  ['level>info', ['say "so"']],
  ['level=warn', ['say "so"']],
  ['level!=warn status:200', ['ok', 'health']],
  ['kind:system', ['say "so"']],
  ['client:192.0.2.7', ['refused']],
  ['method:get', ['ok']],
  ['"say \\"so\\""', ['say "so"']],
  ['-"e" since:1h', ['ok', 'slow', 'say "so"']],
  ['REFUSED', ['refused']],
  ['message:slow', ['slow']],
  ['message=slo', []],
  ['STATUS:503', ['slow']],
  ['hostname:EXAMPLE.org', ['refused']],
  ['until:1h', ['old']],
  ['', ['old', 'ok', 'health', 'slow', 'refused', 'say "so"']],
];

test('every part of the language finds what it says, and nothing else', (t) => {
  const { store, files } = someFiles(t);
  store.append(asTexts(...requests));
  for (const [filter, messages] of cases) assert.deepEqual(search(files, filter), messages, filter);
});

const refusals: [filter: string, message: RegExp][] = [
  ['status>=500 statsu:404', /^filter, character 13: "statsu" is no field; fields are level, kind, /],
  ['status:4o4', /^filter, character 8: "4o4" can't be had here; 404, 5xx or 500\.\.503$/],
  ['status:404,xx', /^filter, character 12: "xx"/],
  ['status>5xx', /^filter, character 8: "5xx"/],
  ['status>=400,500', /^filter, character 13: one value only after >=$/],
  ['status:500..400', /character 8/],
  ['host:*.*.com', /^filter, character 6: "\*\.\*\.com" can't be had here; app\.example\.com/],
  ['host>a.example.com', /^filter, character 1: host can't be compared by >; it takes : = !=$/],
  ['path: /x', /^filter, character 6: a value has to follow; write it without a space/],
  ['a "b', /^filter, character 3: this quote has no end$/],
  ['a ""', /^filter, character 3: there is nothing between the quotes$/],
  ['status:500 OR status:404', /^filter, character 12: OR is no word here: .*commas are alternatives/],
  ['(status:500)', /^filter, character 1: "\(status" is no field/],
  ['(a b)', /^filter, character 1: there are no brackets here/],
  ['since:yesterday', /^filter, character 7: since: "yesterday" is not a time; use 2026/],
  ['since:1h since:2h', /^filter, character 10: since is there twice$/],
  ['-since:1h', /^filter, character 1: since takes one time and no -/],
  ['since>1h', /^filter, character 1: since takes one time/],
  ['kind:everything', /access, audit, mcp, tls, system, all$/],
  ['level:loud', /debug, info, warn, error$/],
  ['client:10.0.0.0/8', /one IP address$/],
  ['12:30', /^filter, character 1: "12" is no field; .* text with : in it goes in "quotes"$/],
  [
    Array.from({ length: 21 }, (_, index) => `w${index}`).join(' '),
    /^filter, character 71: more than 20 terms$/,
  ],
];

test('what is no filter is refused with the character where it stands and what is allowed', () => {
  for (const [filter, message] of refusals) assert.match(refusal(filter), message, filter);
});

test('any text is a filter or a refusal that points into it', () => {
  const pieces = fc.constantFrom(
    'status',
    'host',
    'since',
    ':',
    '>=',
    '-',
    '"',
    ',',
    ' ',
    '1h',
    '\\',
    '..',
    '💥',
    '*',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(pieces).map((parts) => parts.join('')),
      ),
      (text) => {
        const character = Number(/^filter, character (\d+):/.exec(refusal(text))?.[1] ?? 1);
        assert.ok(character >= 1 && character <= text.length + 1);
      },
    ),
  );
});

const quoted = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;
const path = fc.constantFrom('/', '/api/x', '/api', '/50%', undefined);
const record = fc.record({
  level: fc.constantFrom(...logLevels),
  kind: fc.constantFrom(...recordKinds),
  status: fc.constantFrom(200, 301, 400, 404, 503, undefined),
  hostname: fc.constantFrom('a.example.com', 'b.a.example.com', 'example.org', undefined),
  principal: fc.constantFrom('anonymous', 'tok_1', undefined),
  client_address: fc.constantFrom('192.0.2.1', '2001:db8::1', undefined),
  path,
});
type Plain = typeof record extends fc.Arbitrary<infer Value> ? Value : never;
const isBelow = (name: string, zone: string): boolean => name.endsWith(zone.slice(1));
/** A term, and by itself what it says. */
const term: fc.Arbitrary<[string, (it: Plain) => boolean]> = fc.oneof(
  fc
    .constantFrom(...logLevels)
    .map((level): [string, (it: Plain) => boolean] => [
      `level:${level}`,
      (it) => levelRank(it.level) >= levelRank(level),
    ]),
  fc
    .constantFrom(200, 399, 400, 503)
    .map((status): [string, (it: Plain) => boolean] => [
      `status>=${status}`,
      (it) => it.status !== undefined && it.status >= status,
    ]),
  fc
    .constantFrom('a.example.com', '*.example.com')
    .map((host): [string, (it: Plain) => boolean] => [
      `host:${host}`,
      ({ hostname = '' }) => hostname === host || (host.startsWith('*') && isBelow(hostname, host)),
    ]),
  fc
    .constantFrom('anonymous', 'tok_1')
    .map((id): [string, (it: Plain) => boolean] => [`principal:${id}`, ({ principal }) => principal === id]),
  fc
    .constantFrom('192.0.2.1', '2001:db8::1')
    .map((address): [string, (it: Plain) => boolean] => [
      `client:${address}`,
      ({ client_address: client }) => client === address,
    ]),
  fc
    .constantFrom('/api', '/50%')
    .map((start): [string, (it: Plain) => boolean] => [
      `path:${quoted(start)}`,
      (it) => it.path?.startsWith(start) === true,
    ]),
);
const anyTerm = fc
  .tuple(term, fc.boolean())
  .map(([[text, holds], not]): [string, (it: Plain) => boolean] => [
    not ? `-${text}` : text,
    (it) => holds(it) !== not,
  ]);

test('terms that are joined find what each of them finds', (t) => {
  const { store, files } = someFiles(t);
  let round = 0;
  fc.assert(
    fc.property(fc.array(record, { maxLength: 12 }), fc.array(anyTerm, { maxLength: 3 }), (plain, terms) => {
      round += 1;
      const marked = plain.map((it, index) => ({
        ...it,
        message: `m${index}`,
        trace_id: `${round}`,
        time: NOON,
      }));
      store.append(asTexts(...marked.map((it) => aRecord(it))));
      const text = [`trace:${round}`, ...terms.map(([said]) => said)].join(' ');
      const wanted = marked
        .filter((it) => terms.every(([, holds]) => holds(it)))
        .map(({ message }) => message);
      assert.deepEqual(search(files, text), wanted, text);
    }),
    { numRuns: 100 },
  );
});
