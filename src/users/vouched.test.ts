import assert from 'node:assert/strict';
import test from 'node:test';
import { type Identity, identity, userDocument } from './schema.ts';
import { unvouched, vouched } from './vouched.ts';
import { requireAnotherWay, type Ways, wordsOf } from './ways.ts';

const google = { name: 'google', title: 'Google', issuer: 'https://accounts.google.com' };
const github = { name: 'github', title: 'GitHub', issuer: 'https://github.com' };

const by = (issuer: string, more: Partial<Identity> = {}): Identity =>
  identity.parse({ issuer, subject: '1', label: 'ada', isEmailVerified: false, groups: [], ...more });
const document = userDocument.parse({ owner: 'system', email: 'ada@local.example', groups: ['staff'] });

test('an address that the provider does not tell leaves that of others, and takes its own away', () => {
  const kept = vouched(document, by(github.issuer), github);
  assert.deepEqual([kept.email, kept.email_verified], ['ada@local.example', false]);
  const told = vouched(document, by(github.issuer, { email: 'a@x.example', isEmailVerified: true }), github);
  assert.deepEqual([told.email, told.email_verified], ['a@x.example', true]);
  assert.deepEqual(vouched(told, by(google.issuer), google).email, 'a@x.example');
  const gone = vouched(told, by(github.issuer), github);
  assert.deepEqual([gone.email, gone.email_verified], [undefined, false]);
});

test('each provider changes its own groups only, and those of an administrator stay', () => {
  const one = vouched(document, by(github.issuer, { groups: ['acme', 'acme/ops'] }), github);
  const both = vouched(one, by(google.issuer, { groups: ['acme'] }), google);
  assert.deepEqual(both.groups, ['staff', 'github:acme', 'github:acme/ops', 'google:acme']);
  assert.deepEqual(vouched(both, by(github.issuer, { groups: [] }), github).groups, ['staff', 'google:acme']);
});

test('what a provider vouched for is worth nothing without it', () => {
  const told = vouched(
    document,
    by(github.issuer, { email: 'a@x.example', isEmailVerified: true, groups: ['acme'] }),
    github,
  );
  const { email_verified: isVerified, groups } = unvouched(told, [github]);
  assert.deepEqual([isVerified, groups], [false, ['staff']]);
  assert.equal(unvouched(told, [google]).email_verified, true);
});

test('what is not fit to be kept of somebody refuses nobody; without a subject there is nobody', () => {
  const odd = by(github.issuer, {
    name: ' \u202e',
    email: 'no address',
    groups: ['two words', '', 'x'.repeat(91), 'ok'],
  });
  assert.deepEqual([odd.name, odd.email, odd.groups], [undefined, undefined, ['ok']]);
  for (const subject of ['', 'x'.repeat(256), undefined, 7])
    assert.throws(() => identity.parse({ ...by(github.issuer), subject }));
});

test('the last way in is kept; a provider that is in the settings no more is none', () => {
  const ways = (more: Partial<Ways>): Ways => ({
    hasPassword: false,
    passkeys: 0,
    identities: [],
    lastSeenAt: null,
    ...more,
  });
  const providers = [github];
  for (const enough of [
    { hasPassword: true, passkeys: 1 },
    { passkeys: 2 },
    { passkeys: 1, identities: [github.issuer] },
  ])
    requireAnotherWay(ways(enough), providers);
  for (const last of [{ passkeys: 1 }, { hasPassword: true }, { passkeys: 1, identities: [google.issuer] }])
    assert.throws(() => requireAnotherWay(ways(last), providers), /only way to sign in/);
  assert.deepEqual(
    wordsOf(ways({ hasPassword: true, identities: [github.issuer, google.issuer] }), providers),
    ['password', 'github', google.issuer],
  );
});
