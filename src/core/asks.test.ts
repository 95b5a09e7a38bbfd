import assert from 'node:assert/strict';
import test from 'node:test';
import {
  AGREED_MS,
  ASK_MS,
  Asks,
  MAX_ASKS,
  MAX_ASKS_FOR_ADMINISTRATORS,
  MAX_ASKS_PER_PERSON,
  MAX_ASKS_PER_PRINCIPAL,
  MAX_MESSAGE,
  mayAnswer,
} from './asks.ts';
import { ManualClock, MINUTE } from './clock.ts';
import { AppError } from './errors.ts';
import { permissions } from './permissions.ts';
import { principal } from './principal.fixture.ts';
import type { Principal } from './principal.ts';

const reason = { why: 'delete_thing has to be confirmed', otherwise: 'Otherwise: wait', details: { x: 1 } };

function setUp() {
  const clock = new ManualClock();
  const asks = new Asks({ clock, urlOf: (id) => `https://here/${id}` });
  const call = (
    inputDigest = 'd',
    who: string | Principal = 'a',
    operation = 'delete_thing',
    wish = inputDigest,
  ) =>
    asks.require(
      { operation, inputDigest, wish: () => wish, message: 'Delete?' },
      { principal: typeof who === 'string' ? principal(who) : who, client: 'c' },
      reason,
    );
  const refused = (...which: Parameters<typeof call>): AppError => {
    try {
      call(...which);
    } catch (cause) {
      if (cause instanceof AppError) return cause;
    }
    return assert.fail('it went through');
  };
  const link = (...which: Parameters<typeof call>) =>
    String(refused(...which).details?.['confirm_url']).slice('https://here/'.length);
  return { clock, asks, call, refused, link };
}

const oauth = { clientId: 'client', grantId: 'g', scopes: [] };
const clientOf = (id: string, userId: string | undefined) => principal(id, { oauth: { ...oauth, userId } });
const token = (id: string) => principal(id, { kind: 'token', oauth: undefined });

test('a call is refused with one link until it is answered; a yes lets it through once', () => {
  const { asks, call, refused, link } = setUp();
  const id = link();
  assert.equal(link(), id);
  assert.equal(refused().code, 'CONFIRMATION_REQUIRED');
  assert.equal(asks.find(id)?.message, 'Delete?');
  asks.answer(id, true, 'usr_1');
  assert.equal(asks.find(id), undefined, 'the link is used up');
  assert.throws(() => asks.answer(id, false, 'usr_1'), /answered already/);
  assert.equal(call(), 'usr_1');
  assert.notEqual(link(), id);
});

test('a yes is for this principal, this operation and these arguments', () => {
  const { asks, refused, link, call } = setUp();
  asks.answer(link(), true, 'usr_1');
  for (const other of [['other'], ['d', 'b'], ['d', 'a', 'delete_more']] as const)
    assert.ok(refused(...other).details?.['confirm_url'], other.join());
  assert.equal(call(), 'usr_1');
});

test('a no holds as long as the link would have, and asks nobody again', () => {
  const { asks, refused, link, clock } = setUp();
  asks.answer(link(), false, 'usr_1');
  clock.advance(ASK_MS - 1);
  assert.match(refused().message, /the person has refused this call/);
  assert.equal(refused().details?.['confirm_url'], undefined);
  clock.advance(1);
  assert.ok(link());
});

test('a no is for what the call wants, however it asks; a yes is for the call as it was shown', () => {
  const { asks, call, refused, link } = setUp();
  const isRefused = (...which: Parameters<typeof call>) =>
    refused(...which).details?.['reason'] === 'refused_by_person';
  const other = link('v2', 'a', 'delete_thing', 'thing');
  asks.answer(link('v1', 'a', 'delete_thing', 'thing'), false, 'usr_1');
  assert.ok(isRefused('v3', 'a', 'delete_thing', 'thing'));
  assert.ok(isRefused('v2', 'a', 'delete_thing', 'thing'), 'also where another link waits');
  assert.equal(isRefused('v3', 'b', 'delete_thing', 'thing'), false, 'of another client');
  assert.equal(isRefused('v3', 'a', 'delete_more', 'thing'), false);
  assert.equal(isRefused('v3', 'a', 'delete_thing', 'another'), false);
  asks.answer(other, true, 'usr_1');
  assert.ok(isRefused('v3', 'a', 'delete_thing', 'thing'));
  assert.equal(call('v2', 'a', 'delete_thing', 'thing'), 'usr_1', 'the person has changed their mind');
});

test('the refusal tells a model what to do, and for how long', () => {
  const { refused, clock } = setUp();
  const first = refused();
  const { confirm_url: url, confirm_until: until } = Object(first.details);
  clock.advance(3 * MINUTE + 1);
  for (const [{ message }, minutes] of [
    [first, 10],
    [refused(), 7],
  ] as const)
    assert.equal(
      message,
      `delete_thing has to be confirmed. Nothing was done. Show the person this link, whole: ${url} . It is good for ${minutes} minutes (until ${until}): they open it, sign in and agree. Wait until they say that they did; then repeat this call with exactly the same arguments within 5 minutes, and it goes through once. Otherwise: wait`,
    );
});

test('a link and a yes expire', () => {
  const { asks, refused, link, clock } = setUp();
  const id = link();
  clock.advance(ASK_MS);
  assert.equal(asks.find(id), undefined);
  assert.throws(() => asks.answer(id, true, 'usr_1'), /has expired/);
  const next = link();
  assert.notEqual(next, id);
  asks.answer(next, true, 'usr_1');
  clock.advance(AGREED_MS);
  assert.ok(refused().details?.['confirm_url']);
});

test('what ended takes its questions and its yes with it', () => {
  const { asks, refused, link } = setUp();
  asks.answer(link(), true, 'usr_1');
  const id = link('other');
  asks.forget('a');
  assert.equal(asks.find(id), undefined);
  assert.ok(refused().details?.['confirm_url']);
});

test('questions are bounded, for one and for all, and nobody takes the place of another', () => {
  const { asks, refused, link, clock } = setUp();
  const first = link('0');
  for (let n = 1; n < MAX_ASKS_PER_PRINCIPAL; n++) link(String(n));
  assert.match(
    refused('one more').message,
    /^delete_thing has to be confirmed.*Too many other calls.*Otherwise/,
  );
  assert.equal(link('0'), first, 'what waits goes on');
  for (let n = MAX_ASKS_PER_PRINCIPAL; n < MAX_ASKS; n++) link('d', clientOf(`p${n}`, `usr_${n}`));
  assert.match(refused('d', clientOf('z', 'usr_z')).message, /Too many other calls/);
  assert.ok(asks.find(first));
  clock.advance(ASK_MS);
  assert.ok(link('d', clientOf('z', 'usr_z')));
});

test('however many clients one person lets in, and however many tokens there are, there is room for others', () => {
  const { refused, link } = setUp();
  for (let n = 0; n < MAX_ASKS_PER_PERSON; n++) link('d', `a${n}`);
  assert.match(refused('d', 'one more').message, /Too many other calls/);
  for (let n = 0; n < MAX_ASKS_FOR_ADMINISTRATORS; n++)
    link('d', n % 2 === 0 ? token(`t${n}`) : clientOf(`own${n}`, undefined));
  for (const one of [token('one more'), clientOf('own', undefined)])
    assert.match(refused('d', one).message, /Too many other calls/);
  assert.ok(link('d', clientOf('b', 'usr_2')));
});

test('with the rights of a person end the yes that they gave and the questions that wait for them', () => {
  const { asks, link, refused } = setUp();
  asks.answer(link(), true, 'usr_1');
  const waiting = link('other');
  asks.forgetPerson('usr_2');
  assert.ok(asks.find(waiting));
  asks.forgetPerson('usr_1');
  assert.equal(asks.find(waiting), undefined);
  assert.equal(refused().code, 'CONFIRMATION_REQUIRED');
});

test('what could not be shown whole has no link, and no sign that moves a line is shown', () => {
  const { asks, link } = setUp();
  const asker = { principal: principal('a'), client: undefined };
  const ask = (message: string) =>
    asks.require(
      { operation: 'delete_thing', inputDigest: message, wish: () => message, message },
      asker,
      reason,
    );
  assert.throws(() => ask('x'.repeat(MAX_MESSAGE + 1)), /too long to be shown/);
  assert.throws(() => ask('a\u202eb\nc'), /Show the person this link/);
  assert.equal(asks.find(link('a\u202eb\nc'))?.message, 'a\ufffdb\nc');
});

test('for a client that somebody let in that person answers, for a token or a client of its own an administrator', () => {
  const ask = { id: 'i', operation: 'o', message: 'm', client: undefined };
  const person = { id: 'usr_1', hostnames: undefined, permissions: new Set<never>() };
  const root = { ...person, id: 'usr_2', permissions: new Set(permissions) };
  const [theirs, program] = [principal('a'), clientOf('own', undefined)];
  const may = (who: Principal, by: Parameters<typeof mayAnswer>[1]) =>
    mayAnswer({ ...ask, principal: who }, by);
  assert.deepEqual([may(theirs, person), may(theirs, root)], [true, false]);
  for (const who of [token('tok'), program])
    assert.deepEqual(
      [may(who, person), may(who, root), may(who, { ...root, hostnames: ['a.example.com'] })],
      [false, true, false],
    );
});
