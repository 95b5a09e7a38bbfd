import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { confines, coversHostname, parseHostname, parseHostnamePattern } from './hostname.ts';

test('a hostname has one canonical form', () => {
  const spellings: [string, string | undefined][] = [
    ['app.example.com', 'app.example.com'],
    ['APP.Example.COM.', 'app.example.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['BÜCHER.example', 'xn--bcher-kva.example'],
    ['localhost', 'localhost'],
    ['a.example..', undefined],
    ['.example.com', undefined],
    ['a..example', undefined],
    ['-a.example', undefined],
    ['a-.example', undefined],
    ['a_b.example', undefined],
    ['a.example:443', undefined],
    ['a.example/x', undefined],
    ['user@a.example', undefined],
    ['a example', undefined],
    ['a%2eexample', undefined],
    ['127.0.0.1', undefined],
    ['0x7f.1', undefined],
    ['2130706433', undefined],
    ['a.0x10', undefined],
    ['[::1]', undefined],
    ['*.example.com', undefined],
    ['', undefined],
    ['.', undefined],
    [`${'a'.repeat(64)}.example`, undefined],
    [Array.from({ length: 60 }, () => 'abcd').join('.'), undefined],
  ];
  for (const [text, expected] of spellings) assert.equal(parseHostname(text), expected, JSON.stringify(text));
});

test('parsing any text never throws, and a canonical hostname parses to itself', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.domain(), fc.webAuthority()), (text) => {
      const canonical = parseHostname(text);
      if (canonical === undefined) return;
      assert.equal(parseHostname(canonical), canonical);
      assert.match(canonical, /^[a-z0-9.-]+$/);
    }),
  );
});

test('a wildcard covers exactly one label more; it stands alone and first', () => {
  assert.equal(parseHostnamePattern('*.Example.com'), '*.example.com');
  for (const text of ['*', '*.', 'a.*.com', '**.com', '*a.com', '*.*.com'])
    assert.equal(parseHostnamePattern(text), undefined, text);
  assert.ok(coversHostname('*.example.com', 'a.example.com'));
  for (const other of ['example.com', 'a.b.example.com', 'aexample.com', '.example.com'])
    assert.ok(!coversHostname('*.example.com', other), other);
});

test('confinement to a zone holds everything below it and nothing beside it', () => {
  for (const inside of [
    'a.dev.example.com',
    'a.b.dev.example.com',
    '*.dev.example.com',
    '*.a.dev.example.com',
  ])
    assert.ok(confines('*.dev.example.com', inside), inside);
  for (const outside of [
    'dev.example.com',
    'xdev.example.com',
    '*.example.com',
    'example.com',
    'a.dev.example.com.evil.test',
  ])
    assert.ok(!confines('*.dev.example.com', outside), outside);
  assert.ok(!confines('a.example.com', 'b.a.example.com'));
});
