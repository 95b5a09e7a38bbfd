/** What reads the words of a CA: whatever comes, the answer is a value within its bounds, and never a throw. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { DAY, SECOND } from '../../core/clock.ts';
import { linksOf, parseLinks } from './links.ts';
import { FIRST_OWN_POLL_MS, MAX_POLL_MS, MIN_POLL_MS, pollWait } from './poll.ts';
import { consequenceOf, parseProblem } from './problem.ts';
import { MAX_RETRY_AFTER_MS, parseRetryAfter } from './retry-after.ts';

const BASE = 'https://ca.test/acme/order/7';
const now = Date.UTC(2026, 10, 30, 12);

const target = fc
  .tuple(fc.webPath(), fc.webQueryParameters())
  .map(([path, query]) => new URL(`https://ca.test${path}?${query}`.replace(/[<>]/g, '')).href);
const relation = fc.stringMatching(/^[a-z][a-z0-9.-]{0,12}$/);
const otherParameter = fc.constantFrom(
  '',
  '; title="a, <b>; rel=fake \\" c"',
  ';type=text/html',
  ' ; crossorigin',
  ";title*=UTF-8''x",
);

test('property: links come back as they were written, whatever parameters stand around them', () => {
  const link = fc.record({
    url: target,
    relations: fc.array(relation, { minLength: 1, maxLength: 3 }),
    before: otherParameter,
    after: otherParameter,
    isQuoted: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(link, { maxLength: 8 }), (links) => {
      const header = links
        .map(({ url, relations, before, after, isQuoted }) => {
          const rel = isQuoted || relations.length > 1 ? `"${relations.join(' ')}"` : relations[0];
          return `<${url}>${before};REL=${rel}${after}`;
        })
        .join(', ');
      assert.deepEqual(
        parseLinks(header, BASE),
        links.map(({ url, relations }) => ({ url, relations })),
      );
    }),
  );
});

test('property: a Link header of any text is read without a throw, and gives absolute URLs only', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('<', '>', ';', ',', 'rel=', '"', '\\', '<https://a.test/>;rel=next'),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      for (const { url, relations } of parseLinks(pieces.join(''), BASE)) {
        assert.ok(URL.canParse(url));
        assert.ok(relations.length > 0);
      }
    }),
  );
});

test('a hostile Link header is read in no time', () => {
  const parts = [
    '<a>;'.repeat(4_000),
    `<a>${';rel'.repeat(5_000)}`,
    `<a>;a="${'\\"'.repeat(8_000)}`,
    '<'.repeat(16_000),
  ];
  for (const header of [...parts, `<a>${' ;'.repeat(8_000)}x`, `<a>${'; '.repeat(8_000)}"`])
    assert.ok(parseLinks(header, BASE).length <= 1);
});

test('relative targets are of the reply, relations are compared in lower case, `up` and `index` disturb nothing', () => {
  const links = parseLinks(
    '<../cert/7/1>; rel="Alternate", </dir>;rel="index", <x>;rel=up, <y>;rel=alternate',
    BASE,
  );
  assert.deepEqual(linksOf(links, 'alternate'), [
    'https://ca.test/acme/cert/7/1',
    'https://ca.test/acme/order/y',
  ]);
  assert.deepEqual(parseLinks(undefined, BASE), []);
});

test('property: Retry-After in seconds, and as a date in each of the three forms of HTTP', () => {
  const seconds = fc.integer({ min: 0, max: (MAX_RETRY_AFTER_MS / SECOND) * 2 });
  fc.assert(
    fc.property(seconds, (delta) => {
      const expected = Math.min(delta * SECOND, MAX_RETRY_AFTER_MS);
      assert.equal(parseRetryAfter(String(delta), now), expected);
      for (const text of dateForms(now + delta * SECOND))
        assert.equal(parseRetryAfter(text, now), expected, text);
    }),
  );
});

function dateForms(at: number): string[] {
  const imf = new Date(at).toUTCString();
  const [, weekday = '', day = '', month = '', year = '', time = ''] =
    /^(\w+), (\d+) (\w+) (\d+) (\S+) GMT$/.exec(imf) ?? [];
  const long = new Intl.DateTimeFormat('en', { weekday: 'long', timeZone: 'UTC' }).format(at);
  return [
    imf,
    `${long}, ${day}-${month}-${year.slice(2)} ${time} GMT`,
    `${weekday} ${month} ${String(Number(day)).padStart(2)} ${time} ${year}`,
  ];
}

test('property: Retry-After of any text is nothing, or within its bounds', () => {
  const text = fc.oneof(
    fc.string(),
    fc.stringMatching(/^-?\d{0,40}$/),
    fc.date({ noInvalidDate: true }).map(String),
  );
  fc.assert(
    fc.property(text, (value) => {
      const ms = parseRetryAfter(value, now) ?? 0;
      assert.ok(ms >= 0 && ms <= MAX_RETRY_AFTER_MS);
    }),
  );
  assert.equal(parseRetryAfter('Sun, 06 Nov 1994 08:49:37 GMT', now), 0, 'a date that has passed is now');
  for (const wrong of [
    '',
    '-1',
    '1.5',
    '1e3',
    'tomorrow',
    '2026-12-01T00:00:00Z',
    'Xyz, 99 Foo 2026 08:49:37 GMT',
  ])
    assert.equal(parseRetryAfter(wrong, now), undefined, wrong);
});

test('property: between two questions there is never less than a second nor more than an hour where the CA says when, and a quarter where it does not', () => {
  fc.assert(
    fc.property(
      fc.option(fc.nat({ max: 30 * DAY }), { nil: undefined }),
      fc.nat({ max: 5_000 }),
      (asked, count) => {
        const wait = pollWait(asked, count);
        const least = asked === undefined ? FIRST_OWN_POLL_MS : MIN_POLL_MS;
        assert.ok(wait >= least && wait <= MAX_POLL_MS, String(wait));
      },
    ),
  );
});

test('property: of any JSON the problem is undefined or has every member in its type and bounds', () => {
  const value = fc.oneof(
    fc.jsonValue(),
    fc.record(
      {
        type: fc.oneof(fc.string({ maxLength: 400 }), fc.jsonValue()),
        detail: fc.oneof(fc.string({ size: 'max', maxLength: 9_000 }), fc.jsonValue()),
        status: fc.oneof(fc.integer(), fc.string()),
        instance: fc.jsonValue(),
        identifier: fc.jsonValue(),
        subproblems: fc.oneof(fc.array(fc.jsonValue(), { maxLength: 120 }), fc.jsonValue()),
      },
      { requiredKeys: [] },
    ),
  );
  const isObject = (candidate: unknown) =>
    typeof candidate === 'object' && candidate !== null && !Array.isArray(candidate);
  fc.assert(
    fc.property(value, (document) => {
      const problem = parseProblem(document, 400);
      assert.equal(problem !== undefined, isObject(document));
      if (!problem) return;
      assert.ok(problem.type.length <= 200 && (problem.detail ?? '').length <= 4_096);
      assert.ok(problem.raw.length <= 8_192 && problem.subproblems.length <= 100);
      assert.ok(['retry_later', 'order', 'account', 'person'].includes(consequenceOf(problem, 'order')));
    }),
  );
});

test('a problem survives being stored: it is plain data', () => {
  const document = {
    type: 'urn:ietf:params:acme:error:dns',
    detail: 'NXDOMAIN',
    status: 400,
    extra: { kept: true },
  };
  const problem = parseProblem(document);
  assert.deepEqual(JSON.parse(problem?.raw ?? ''), document);
  assert.equal(problem?.detail, 'NXDOMAIN');
});

test('of several names the gravest decides, and `unauthorized` is about what was asked for', () => {
  const problemOf = (type: string, ...subproblems: string[]) =>
    parseProblem({ type: urn(type), subproblems: subproblems.map((each) => ({ type: urn(each) })) }) ??
    assert.fail();
  const urn = (type: string) => `urn:ietf:params:acme:error:${type}`;
  assert.equal(consequenceOf(problemOf('compound', 'dns', 'rateLimited'), 'order'), 'order');
  assert.equal(consequenceOf(problemOf('compound', 'rateLimited', 'rateLimited'), 'order'), 'retry_later');
  assert.equal(consequenceOf(problemOf('compound', 'caa', 'userActionRequired'), 'order'), 'person');
  assert.equal(consequenceOf(problemOf('compound'), 'order'), 'order');
  assert.equal(consequenceOf(problemOf('unauthorized'), 'order'), 'order');
  assert.equal(consequenceOf(problemOf('unauthorized'), 'account'), 'account');
  assert.equal(consequenceOf(problemOf('constructor'), 'order'), 'order');
});
