import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { isRedirectAllowed, redirectFault } from './redirects.ts';

test('https, plain http to the user’s own machine, and schemes of apps can be registered', () => {
  for (const uri of [
    'https://claude.ai/api/mcp/auth_callback',
    'https://app.example/cb?fixed=1',
    'http://127.0.0.1/cb',
    'http://localhost:3000/cb',
    'http://[::1]:8080/',
    'cursor://anysphere.cursor-retrieval/oauth/callback',
    'com.example.app:/oauth',
  ])
    assert.equal(redirectFault(uri), undefined, uri);
});

test('what a browser would act on, or would send in clear, can’t be registered', () => {
  for (const uri of [
    'http://app.example/cb',
    'http://127.0.0.1.evil.example/',
    'http://127.0.0.2/',
    'http://0.0.0.0/',
    'javascript:alert(1)',
    'JavaScript:alert(1)',
    'data:text/html,x',
    'file:///etc/passwd',
    'blob:https://app.example/x',
    'vbscript:x',
    'view-source:https://app.example/',
    'https://user:pw@app.example/',
    'https://app.example/#x',
    'https://app.example/#',
    'not a url',
    '',
  ])
    assert.notEqual(redirectFault(uri), undefined, uri);
});

const urls = fc.webUrl({ withQueryParameters: true, validSchemes: ['https'] });

test('a redirect URI is compared to the letter', () => {
  fc.assert(
    fc.property(urls, urls, (registered, wanted) => {
      assert.equal(isRedirectAllowed([registered], wanted), registered === wanted);
      assert.equal(isRedirectAllowed([registered], registered), true);
      assert.equal(isRedirectAllowed([registered], `${registered}x`), false);
      assert.equal(
        isRedirectAllowed([registered], registered.toUpperCase()),
        registered === registered.toUpperCase(),
      );
    }),
  );
});

const port = fc.integer({ min: 1, max: 65_535 });
const segments = fc
  .array(fc.stringMatching(/^[a-z0-9]{1,8}$/), { maxLength: 3 })
  .map((all) => `/${all.join('/')}`);

test('only the port may be another, and only on the user’s own machine', () => {
  const host = fc.constantFrom('127.0.0.1', 'localhost', '[::1]');
  // A scheme's own port is written by nobody; written, it is another spelling, which is refused.
  const place = fc.record({ host, port: port.filter((number) => number !== 80), path: segments });
  fc.assert(
    fc.property(place, place, (one, other) => {
      const wanted = `http://${other.host}:${other.port}${other.path}`;
      const isSame = one.host === other.host && one.path === other.path;
      assert.equal(isRedirectAllowed([`http://${one.host}:${one.port}${one.path}`], wanted), isSame);
      const [a, b] = [`https://app.example:${one.port}/`, `https://app.example:${other.port}/`];
      assert.equal(isRedirectAllowed([a], b), one.port === other.port);
    }),
  );
});

test('no spelling of the user’s own machine is another host', () => {
  for (const wanted of [
    'http://127.0.0.1@evil.example/cb',
    'http://127.0.0.1:1@evil.example/cb',
    'http://127.0.0.1:80:80/cb',
    'http://127.0.0.1%2eevil.example/cb',
    'http:\\\\127.0.0.1/cb',
    'http://127.1:5/cb',
    'http://2130706433:5/cb',
    'http://localhost.:5/cb',
    'http://127.0.0.1:5/./cb',
    'http://127.0.0.1:5//cb',
    'http://127.0.0.1:5/cb?x',
    'http://127.0.0.1:5/cb#x',
    'https://127.0.0.1:5/cb',
    'HTTP://127.0.0.1:5/cb',
    ' http://127.0.0.1:5/cb',
    'http://127.0.0.1:5/cb\n',
  ])
    assert.equal(isRedirectAllowed(['http://127.0.0.1/cb'], wanted), false, wanted);
});
