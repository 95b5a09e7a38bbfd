import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { bearerIn, isCredential, MAX_CREDENTIAL } from './bearer.ts';

test('whatever may be a credential is read back from the field it was sent in', () => {
  const printable = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((c) => String.fromCharCode(c)),
  });
  fc.assert(
    fc.property(printable, fc.constantFrom('Bearer ', 'bearer   ', 'BEARER '), (text, scheme) => {
      fc.pre(isCredential(text));
      assert.equal(bearerIn(`${scheme}${text}`), text);
    }),
  );
});

test('printable ASCII is a credential, spaces inside it too', () => {
  for (const text of [
    'correct-horse-battery-staple!$@2026-xyz',
    'four words and a "quote", {or} two=',
    '~',
    'x'.repeat(MAX_CREDENTIAL),
  ])
    assert.ok(isCredential(text), text);
});

test('what HTTP would change or refuse is none: nothing, spaces at the ends, controls, other letters, too long', () => {
  for (const text of [
    '',
    ' ',
    ' a',
    'a ',
    'a\tb',
    'a\nb',
    'a\0',
    'a\x7f',
    'ä',
    'x'.repeat(MAX_CREDENTIAL + 1),
  ])
    assert.ok(!isCredential(text), JSON.stringify(text));
});

test('there is none in another scheme, in no scheme, or behind none', () => {
  for (const field of [
    '',
    'Bearer',
    'Bearer ',
    'Bearer    ',
    'Basic YTpi',
    'secret',
    'Bearersecret',
    'Bearer\tsecret',
    ' Bearer secret',
  ])
    assert.equal(bearerIn(field), undefined, JSON.stringify(field));
});
