import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { HEAD_CHARACTERS, isText, queryNames, shownBody, shownHead, shownPath, shownUrl } from './shown.ts';

const valueOf = (name: string, value: string) => shownHead([name, value]).lines[0]?.slice(name.length + 2);

test('a field that is named after a credential or an identity loses its value, whatever that looks like', () => {
  for (const name of [
    'Authorization',
    'proxy-authorization',
    'X-Api-Key',
    'x_api_key',
    'Api-Key',
    'X-Auth-User',
    'X-Forwarded-Client-Cert',
    'Remote-User',
    'X-CSRF-Token',
    'DPoP',
    'Mcp-Session-Id',
    'X-Hub-Signature-256',
    'X-Goog-IAP-JWT-Assertion',
    'Sec-WebSocket-Key',
  ])
    assert.equal(valueOf(name, 'plain'), '[redacted]', name);
});

test('a credential under a name that says nothing goes by its looks', () => {
  assert.equal(valueOf('x-note', 'Bearer abcdefgh'), 'Bearer [redacted]');
  assert.equal(valueOf('x-note', 'sk4Kd93kDkeo29dkw0Dkeu3'), '[redacted]');
  assert.equal(
    valueOf('sec-websocket-protocol', 'chat, base64url.bearer.dG9rZW4tb2Ytc29tZWJvZHk9'),
    'chat, base64url.bearer.[redacted]',
  );
  assert.equal(valueOf('x-tenant', 'acme'), 'acme');
  assert.equal(valueOf('if-match', '"sk4Kd93kDkeo29dkw0Dkeu3"'), '"[redacted]"');
  assert.equal(valueOf('accept', 'application/vnd.example.v3+json'), 'application/vnd.example.v3+json');
});

test('of cookies the names are told, and the attributes that a browser goes by', () => {
  assert.equal(valueOf('cookie', 'a=1; sid=s3cr3t; nameless'), 'a; sid; [redacted]');
  assert.equal(
    valueOf('set-cookie', 'sid=s3cr3t; Path=/app; HttpOnly; SameSite=Lax; Secret=s3cr3t'),
    'sid=[redacted]; Path=/app; HttpOnly; SameSite=Lax',
  );
});

test('of queries the names are told, in the path and in addresses within fields', () => {
  assert.deepEqual(queryNames('a=1&b=&c&=d'), ['a', 'b', '[redacted]', '[redacted]']);
  assert.deepEqual(queryNames(''), []);
  assert.equal(
    valueOf('referer', 'https://app.example.com/x?code=s3cr3t&state=b#access_token=s3cr3t'),
    'https://app.example.com/x?code=[redacted]&state=[redacted]#access_token=[redacted]',
  );
  assert.equal(valueOf('location', '/next?s3cr3t'), '/next?[redacted]');
  assert.equal(shownUrl('http://user:s3cr3t@127.0.0.1/'), 'http://[redacted]@127.0.0.1/');
});

test('what a terminal obeys or a reader does not see is taken out', () => {
  const { lines } = shownHead(['X-A\u202e', 'a\u001b[31m\u200b']);
  assert.deepEqual(lines, ['x-a\ufffd: a\ufffd[31m\ufffd']);
});

test('a body is shown where it is text that is not compressed', () => {
  assert.equal(isText(['Content-Type', 'application/json; charset=utf-8']), true);
  assert.equal(isText(['content-type', 'application/vnd.api+json']), true);
  assert.equal(isText(['content-type', 'image/png']), false);
  assert.equal(isText([]), false);
  assert.equal(isText(['content-type', 'text/html', 'content-encoding', 'gzip']), false);
});

test('what a body calls a secret is taken out of it, and the word that was cut with it', () => {
  const shown = (text: string, isCut = false) => shownBody(Buffer.from(text), isCut);
  assert.equal(
    shown('{"user":"ada","password":"a b\\"c","n":1}'),
    '{"user":"ada","password":[redacted],"n":1}',
  );
  assert.equal(
    shown('grant_type=authorization_code&code=abc&x=1'),
    'grant_type=authorization_code&code=[redacted]&x=1',
  );
  assert.doesNotMatch(shown('{"a":"{\\"token\\":\\"abc\\"}"}'), /abc/);
  assert.equal(shown('hello s3cr', true), 'hello …');
});

const SECRET = 's3cr3tValue';
const around = fc.string({
  unit: fc.constantFrom(...Array.from(' =;,&?#"\'\\:/-abcZ09\u0000\u202eé')),
  maxLength: 30,
});
const names = fc.constantFrom(
  'Authorization',
  'COOKIE',
  'set-cookie',
  'x-api-key',
  'X_Auth_User',
  'x-session-token',
);

test('property: no value of a credential field is in what is told of a head, and that is bounded', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(names, around, around), { maxLength: 60 }), (fields) => {
      const raw = fields.flatMap(([name, before, after]) => [
        name,
        /cookie/i.test(name)
          ? `${before.replaceAll(/[=;]/g, '')}=${SECRET}${after.replaceAll(/[;=]/g, '')}`
          : `${before}${SECRET}${after}`,
      ]);
      const { lines, leftOut } = shownHead(raw);
      const text = JSON.stringify(lines);
      assert.ok(!text.includes(SECRET), text);
      assert.ok(text.length <= HEAD_CHARACTERS + 2);
      assert.equal(lines.length + leftOut, fields.length);
    }),
  );
});

test('property: no value of a query is told, wherever the query stands', () => {
  fc.assert(
    fc.property(around, around, (before, after) => {
      const name = before.replaceAll(/[&=]/g, '') || 'a';
      assert.ok(!JSON.stringify(queryNames(`${name}=${SECRET}${after}`)).includes(SECRET));
      const word = before.replaceAll(/[^a-zA-Z0-9]/g, '');
      for (const url of [
        `/a?${word}=${SECRET}`,
        `/a?${word}=1&${word}=${SECRET}`,
        `/a#${word}=${SECRET}`,
        `/a?${SECRET}`,
      ])
        for (const field of ['referer', 'location', 'link', 'x-next'])
          assert.ok(!valueOf(field, url)?.includes(SECRET), `${field}: ${url}`);
    }),
  );
});

test('property: nothing that a stranger sends makes it throw or grow', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 20 }), { maxLength: 40 }), (parts) => {
      const text = parts.join('').repeat(4);
      assert.ok(shownPath(text).length < 400);
      assert.ok(shownBody(Buffer.from(text), true).length <= 3001);
      assert.ok(JSON.stringify(shownHead([text, text, 'a', text]).lines).length <= HEAD_CHARACTERS + 2);
      queryNames(text);
    }),
    { numRuns: 30 },
  );
});
