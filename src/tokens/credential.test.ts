import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { chosenFault, hashOf, newCredential, parseCredential } from './credential.ts';

test('a new credential has the documented shape and its checksum fits', () => {
  const made = Array.from({ length: 200 }, newCredential);
  for (const credential of made) {
    assert.match(credential, /^ohp_[0-9A-Za-z]{49}$/);
    assert.equal(parseCredential(credential), credential);
  }
  assert.equal(new Set(made).size, made.length);
});

test('the format is fixed: scanners check it offline', () => {
  const digits = '0'.repeat(43);
  const known = `ohp_${digits}${base62(crc(digits))}`;
  assert.equal(parseCredential(known), known);
});

/** The checksum once more, written plainly: bit by bit, polynomial 0xedb88320. */
function crc(text: string): number {
  let value = 0xffffffff;
  for (const byte of Buffer.from(text)) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return (value ^ 0xffffffff) >>> 0;
}

function base62(value: number): string {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  let text = '';
  for (let rest = value; text.length < 6; rest = Math.floor(rest / 62)) text = alphabet[rest % 62]! + text;
  return text;
}

test('a credential with one character changed, or cut, is not well formed', () => {
  const credential = newCredential();
  fc.assert(
    fc.property(fc.integer({ min: 4, max: 52 }), fc.constantFrom('a', 'Z', '0', '9'), (at, character) => {
      fc.pre(credential[at] !== character);
      const changed = credential.slice(0, at) + character + credential.slice(at + 1);
      assert.equal(parseCredential(changed), undefined);
      assert.match(chosenFault(changed) ?? '', /mistyped or cut/);
      assert.equal(parseCredential(credential.slice(0, at)), undefined);
    }),
  );
});

test('any other text is not a credential of ours, and is not called damaged unless it begins like one', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.equal(parseCredential(text), undefined);
      const chosen = `${text.replace(/[^\x21-\x7e]/g, '')}${'-'.repeat(32)}`;
      assert.equal(chosenFault(chosen) === undefined, !chosen.startsWith('ohp_'));
    }),
  );
});

test('a person may choose any 32 to 512 characters that HTTP carries unchanged; why not others is said without them', () => {
  for (const text of [
    'correct-horse-battery-staple!$@2026-xyz',
    'a passphrase, with "spaces" = allowed',
    newCredential(),
  ])
    assert.equal(chosenFault(text), undefined, text);
  const long = '-'.repeat(512);
  assert.equal(chosenFault(long), undefined);
  for (const text of [long.slice(0, 31), `${long}-`])
    assert.match(chosenFault(text) ?? '', /32 to 512 characters/);
  for (const odd of [
    `pass-${long.slice(0, 64)} `,
    `pass-\u00fc${long.slice(0, 64)}`,
    `pass-\n${long.slice(0, 64)}`,
  ]) {
    assert.match(chosenFault(odd) ?? '', /printable ASCII/);
    assert.doesNotMatch(chosenFault(odd) ?? '', /pass-/);
  }
});

test('what is kept of a credential is its SHA-256', () => {
  assert.equal(hashOf('abc'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});
