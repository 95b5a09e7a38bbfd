/** How several targets are written, and what is refused of it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { proxySettings } from './schema.ts';
import { targetsFault, targetsOf } from './load-balancing.ts';

const first = 'http://127.0.0.1:3000';
const second = 'http://127.0.0.1:3001';

const parse = (targets: object[], more: object = {}) =>
  proxySettings.parse({ target_url: first, load_balancing: { targets, ...more } });

test('one more URL is all that is needed', () => {
  const proxy = parse([{ url: second }]);
  assert.deepEqual(proxy.load_balancing, {
    targets: [{ url: second, weight: 1, drain: false }],
    policy: 'round_robin',
    retries: { tries: 3, budget_percent: 20 },
  });
  assert.deepEqual(
    targetsOf(proxy).map(({ url }) => url),
    [first, second],
  );
  assert.equal(targetsFault(proxy), undefined);
});

test('target_url has a weight and a drain of its own when it is listed, in any spelling', () => {
  const listed = [{ url: second }, { url: `${first}/`, weight: 5, drain: true }];
  const proxy = parse(listed);
  assert.deepEqual(
    targetsOf(proxy).map(({ weight, drain }) => [weight, drain]),
    [
      [1, false],
      [5, true],
    ],
  );
});

test('without load_balancing there is one target', () => {
  assert.deepEqual(targetsOf({ target_url: first }), [{ url: first, weight: 1, drain: false }]);
});

test('a target twice, and none that is left, are refused with what to do', () => {
  assert.match(targetsFault(parse([{ url: second }, { url: `${second}/` }])) ?? '', /there twice.*weight/);
  const drained = [
    { url: first, drain: true },
    { url: second, drain: true },
  ];
  assert.match(targetsFault(parse(drained)) ?? '', /every target is drained.*enabled: false/);
});

test('a sticky cookie needs no more than to be asked for; its name is none of ours, and no other text', () => {
  assert.deepEqual(parse([{ url: second }], { sticky: {} }).load_balancing?.sticky, { cookie: 'ohp-target' });
  for (const cookie of [
    'ohp-session',
    '__Host-ohp',
    '__Host-x',
    'OHP',
    '',
    'a b',
    'a;b',
    'ä',
    'a'.repeat(65),
  ])
    assert.throws(() => parse([{ url: second }], { sticky: { cookie } }), /cookie/, cookie);
  for (const max_age_seconds of [0, 400 * 86_400 + 1, 1.5])
    assert.throws(() => parse([{ url: second }], { sticky: { max_age_seconds } }), /max_age_seconds/);
});

test('what is no target, too many of them and unknown settings are refused', () => {
  for (const targets of [
    [],
    [{ url: 'ftp://a' }],
    [{ url: second, weight: 0 }],
    [{ url: second, color: 'red' }],
    Array.from({ length: 16 }, (_, i) => ({ url: `http://127.0.0.1:${4000 + i}` })),
  ])
    assert.throws(() => parse(targets), /load_balancing/);
});
