import assert from 'node:assert/strict';
import test from 'node:test';
import { ownUrls } from './own-urls.ts';

const boundTo = (address: string, http = 8080, https = 8443) => {
  const family = address.includes(':') ? 'IPv6' : 'IPv4';
  return { http: { address, family, port: http }, https: { address, family, port: https } };
};

const cases: [
  bound: string,
  controlHosts: string[],
  plain: string | undefined,
  secure: string,
  hint?: RegExp,
][] = [
  ['127.0.0.1', ['localhost'], 'http://localhost:8080', 'https://localhost:8443'],
  ['0.0.0.0', ['localhost'], 'http://localhost:8080', 'https://localhost:8443'],
  ['::', ['localhost'], 'http://localhost:8080', 'https://localhost:8443'],
  ['::1', ['localhost'], 'http://localhost:8080', 'https://localhost:8443'],
  ['127.0.0.1', ['admin.example.com'], 'http://127.0.0.1:8080', 'https://admin.example.com:8443'],
  ['::', ['admin.example.com'], 'http://127.0.0.1:8080', 'https://admin.example.com:8443'],
  ['::1', ['admin.example.com'], 'http://[::1]:8080', 'https://admin.example.com:8443'],
  [
    '127.0.0.1',
    ['admin.example.com', 'localhost'],
    'http://localhost:8080',
    'https://admin.example.com:8443',
  ],
  [
    '127.0.0.2',
    ['localhost'],
    'http://127.0.0.2:8080',
    'https://localhost:8443',
    /^localhost does not lead to 127\.0\.0\.2: set control\.hosts/,
  ],
  [
    '127.0.0.2',
    ['localhost', 'admin.example.com'],
    'http://127.0.0.2:8080',
    'https://admin.example.com:8443',
  ],
  ['192.0.2.1', ['admin.example.com'], undefined, 'https://admin.example.com:8443'],
  [
    '192.0.2.1',
    ['admin.localhost'],
    undefined,
    'https://admin.localhost:8443',
    /does not lead to 192\.0\.2\.1/,
  ],
  ['2001:db8::1', ['localhost'], undefined, 'https://localhost:8443', /does not lead to 2001:db8::1/],
];
for (const [address, controlHosts, plain, secure, hint] of cases)
  test(`bound to ${address}, as ${controlHosts.join(' and ')}, it is told that ${plain ?? 'no plain HTTP'} and ${secure} answer`, () => {
    const urls = ownUrls({ controlHosts }, boundTo(address));
    assert.deepEqual([urls.plain, urls.secure, urls.isFronted], [plain, secure, false]);
    if (hint) assert.match(urls.unreachable ?? '', hint);
    else assert.equal(urls.unreachable, undefined);
  });

test('ports that a scheme has by itself are left out', () => {
  const { plain, secure } = ownUrls({ controlHosts: ['localhost'] }, boundTo('127.0.0.1', 80, 443));
  assert.deepEqual([plain, secure], ['http://localhost', 'https://localhost']);
});

test('behind a front its URL is the one for everybody else', () => {
  const settings = { controlHosts: ['admin.example.com'], publicUrl: 'https://edge.example.com/' };
  assert.deepEqual(ownUrls(settings, boundTo('10.0.0.5')), {
    plain: undefined,
    secure: 'https://edge.example.com',
    isFronted: true,
    unreachable: undefined,
  });
});
