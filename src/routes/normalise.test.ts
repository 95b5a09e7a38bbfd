import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseHostname } from '../core/hostname.ts';
import { comparablePath, MAX_TARGET_LENGTH, normaliseTarget, parseAuthority } from './normalise.ts';

const pathOf = (raw: string) => normaliseTarget(raw)?.path;

const canonical: [raw: string, path: string][] = [
  ['/', '/'],
  ['/a/b', '/a/b'],
  ['/a/b/', '/a/b/'],
  ['/%61%2D%7e', '/a-~'],
  ['/%c3%a9', '/%C3%A9'],
  ['/a%20b', '/a%20b'],
  ['/a%3fb%23', '/a%3Fb%23'],
  ['/%2525', '/%2525'],
  ['/%252e%252e/a', '/%252e%252e/a'],
  ['/a/./b', '/a/b'],
  ['/a/../b', '/b'],
  ['/a/%2e%2E/b', '/b'],
  ['/a/.%2e/b', '/b'],
  ['/a/%2e/b', '/a/b'],
  ['/a/b/..', '/a/'],
  ['/a/b/.', '/a/b/'],
  ['/a/..', '/'],
  ['//', '/'],
  ['//a///b//', '/a/b/'],
  ['/a//../b', '/b'],
  ['/...', '/...'],
  ['/.well-known/x', '/.well-known/x'],
  ['/a;v=1/b', '/a;v=1/b'],
  ['/a%3Bb', '/a%3Bb'],
  ['/A/b', '/A/b'],
  ['/a|b[c]{d}^"<>`', '/a%7Cb%5Bc%5D%7Bd%7D%5E%22%3C%3E%60'],
  ["/!$&'()*+,=:@", "/!$&'()*+,=:@"],
];

const refused = {
  'an encoded slash': ['/a%2fb', '/a%2Fb', '/..%2f', '/%2f'],
  'a backslash in either form': ['/a\\b', '/\\..\\b', '/a%5cb', '/%5C..%5C'],
  'a NUL or control character in either form': [
    '/a\0',
    '/a%00',
    '/a%0a',
    '/a%0D%0A',
    '/a\r\nb',
    '/%1f',
    '/%7f',
    '/\x7f',
  ],
  'a raw space': ['/a b', '/a?b c'],
  'a fragment': ['/a#b', '/#', '/a?b#c'],
  'a broken escape': ['/%', '/%2', '/%zz', '/a%2', '/%%32e', '/%u002e'],
  'raw non-ASCII': ['/é', '/\u2215', '/a?é', '/\uff0e\uff0e/', '/\ud800'],
  'an overlong spelling of ASCII': ['/%c0%af', '/%c0%ae%c0%ae/', '/%C1%9C', '/%e0%80%af', '/%f0%80%80%af'],
  'a way above the root': ['/..', '/../a', '/a/../../b', '/%2e%2e/a', '/.%2E', '/./..'],
  'a dot segment or nothing before a parameter': [
    '/a/..;/b',
    '/..;x',
    '/.;/a',
    '/a/;x/b',
    '/a/..%3b/b',
    '/%2e%2e;/a',
    '/%3B',
  ],
  'what is not origin-form': ['', '*', 'a', 'http://example.com/', '?x', '%2f'],
  'what is longer than the limit': [`/${'a'.repeat(MAX_TARGET_LENGTH)}`],
};

test('a path has one canonical form', () => {
  for (const [raw, path] of canonical) assert.equal(pathOf(raw), path, raw);
});

for (const [what, targets] of Object.entries(refused))
  test(`${what} is refused`, () => {
    for (const raw of targets) assert.equal(normaliseTarget(raw), undefined, JSON.stringify(raw));
  });

test('the query is passed as it is and is no part of the path', () => {
  assert.deepEqual(normaliseTarget('/a/?b=%2f&c=../\\%zz?d'), { path: '/a/', query: 'b=%2f&c=../\\%zz?d' });
  assert.deepEqual(normaliseTarget('/a?'), { path: '/a', query: '' });
});

/** Pieces that paths go wrong with, and plain ones. */
const piece = fc.oneof(
  fc.constantFrom(
    '/',
    '//',
    '.',
    '..',
    '%2e',
    '%2E%2e',
    ';',
    '%3b',
    '%2f',
    '%5c',
    '\\',
    '%00',
    '%25',
    '%',
    '?',
    '#',
    ' ',
  ),
  fc.constantFrom('%40', '@', '%41', 'é', '%c3%a9', '%c0%af', '|', '[', '%7c', '..;', '+', '%2B', 'admin'),
  fc.string({ maxLength: 3 }),
);
const rawTarget = fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);

test('normalising never throws, and doing it twice changes nothing', () => {
  fc.assert(
    fc.property(fc.oneof(rawTarget, fc.string(), fc.string({ unit: 'binary' })), (raw) => {
      const once = normaliseTarget(raw);
      if (!once) return;
      assert.deepEqual(normaliseTarget(once.query === '' ? once.path : `${once.path}?${once.query}`), once);
    }),
    { numRuns: 5000 },
  );
});

test('a canonical path has no dot or empty segment, nothing unreserved encoded, and only characters of a path', () => {
  fc.assert(
    fc.property(rawTarget, (raw) => {
      const path = pathOf(raw);
      if (path === undefined) return;
      const segments = path.split('/').slice(1);
      assert.ok(!segments.includes('..') && !segments.includes('.'), path);
      assert.ok(!segments.slice(0, -1).includes(''), path);
      assert.match(path, /^\/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%(?!2F|5C|[01]|7F)[0-9A-F]{2})*$/);
      for (const [escape] of path.matchAll(/%[0-9A-F]{2}/g))
        assert.doesNotMatch(String.fromCharCode(Number.parseInt(escape.slice(1), 16)), /[A-Za-z0-9\-._~]/);
    }),
    { numRuns: 5000 },
  );
});

test('URL agrees with the canonical path: an upstream that parses it again sees the same', () => {
  fc.assert(
    fc.property(rawTarget, (raw) => {
      const path = pathOf(raw);
      if (path !== undefined) assert.equal(new URL(path, 'http://upstream.test').pathname, path);
    }),
    { numRuns: 5000 },
  );
});

test('paths are compared without parameters and with reserved characters decoded', () => {
  assert.equal(comparablePath('/admin;x=1/y'), '/admin/y');
  assert.equal(comparablePath('/a%40b%3B1/%21'), '/a@b/!');
  assert.equal(comparablePath('/a%20b%25%3F'), '/a%20b%25%3F');
});

test('comparing keeps the number of segments and is idempotent', () => {
  fc.assert(
    fc.property(rawTarget, (raw) => {
      const path = pathOf(raw);
      if (path === undefined) return;
      const compared = comparablePath(path);
      assert.equal(compared.split('/').length, path.split('/').length);
      assert.equal(comparablePath(compared), compared);
    }),
    { numRuns: 5000 },
  );
});

const authorities: [text: string, hostname: string, port?: number][] = [
  ['example.com', 'example.com'],
  ['EXAMPLE.Com.', 'example.com'],
  ['example.com:8443', 'example.com', 8443],
  ['xn--bcher-kva.example.com', 'xn--bcher-kva.example.com'],
  ['localhost', 'localhost'],
  ['127.0.0.1:80', '127.0.0.1', 80],
  ['[::1]', '::1'],
  ['[0:0:0:0:0:0:0:1]:443', '::1', 443],
  ['[::FFFF:127.0.0.1]', '::ffff:7f00:1'],
];

test('Host is brought into one canonical form', () => {
  for (const [text, hostname, port] of authorities)
    assert.deepEqual(parseAuthority(text), { hostname, port }, text);
});

test('a Host that is not exactly a host and a port is refused', () => {
  const texts = [
    '',
    ' ',
    ':80',
    'example.com:',
    'example.com:0',
    'example.com:080',
    'example.com:65536',
    'example.com:8 0',
    'user@example.com',
    'example.com/',
    'example.com?x',
    'exa mple.com',
    'example.com\t',
    'exam\0ple.com',
    'example..com',
    '.example.com',
    'example.com..',
    '-a.example.com',
    'bücher.example.com',
    '*.example.com',
    '127.1',
    '0x7f.0.0.1',
    '127.0.0.01',
    '2130706433',
    '127.0.0.1.',
    '1.2.3.4.5',
    '256.1.1.1',
    '::1',
    '[::1',
    '[fe80::1%eth0]',
    '[::g]',
    '[]',
    '[127.0.0.1]',
    'a,b',
    'example.com:80:80',
    'ex%41mple.com',
    'a_b.example.com',
    `${'a'.repeat(64)}.example.com`,
    `${'a.'.repeat(130)}com`,
  ];
  for (const text of texts) assert.equal(parseAuthority(text), undefined, JSON.stringify(text));
});

test('Host is read as core reads hostnames, whatever its spelling', () => {
  const label = fc.stringMatching(/^[a-zA-Z0-9-]{1,8}$/);
  const host = fc.array(fc.oneof(label, fc.constantFrom('xn--a', 'xn--bcher-kva', '')), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(host, (labels) => {
      const text = labels.join('.');
      const hostname = parseAuthority(text)?.hostname;
      assert.equal(hostname, /^\d+(?:\.\d+){3}$/.test(text) ? hostname : parseHostname(text));
    }),
    { numRuns: 5000 },
  );
});

test('reading a Host never throws, and what comes out is canonical', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.domain(),
        fc.ipV6().map((ip) => `[${ip}]`),
        fc.ipV4(),
      ),
      (text) => {
        const hostname = parseAuthority(text)?.hostname;
        if (hostname === undefined) return;
        assert.equal(parseAuthority(hostname.includes(':') ? `[${hostname}]` : hostname)?.hostname, hostname);
      },
    ),
    { numRuns: 5000 },
  );
});
