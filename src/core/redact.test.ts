import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { isSuspicious, redact, redactText } from './redact.ts';

const SECRET = 'c4n4ryS3cretValue0123456789abcdef';
const PEM = `-----BEGIN EC PRIVATE KEY-----\n${SECRET}\n${SECRET}\n-----END EC PRIVATE KEY-----`;

/** Each holds the canary in a form that a credential has. */
const credentials: Record<string, string> = {
  'an API token': `ohp_${SECRET}`,
  'a bearer credential': `Bearer ${SECRET}`,
  'a bearer credential with characters of every kind': `Bearer correct!$@{${SECRET}`,
  'a bearer credential in a URL': `authorization=bearer%20${SECRET}`,
  'basic credentials': `Basic ${SECRET}==`,
  'a private key': PEM,
  'a private key that was cut off': PEM.slice(0, 60),
  'a JSON Web Token': `eyJhbGciOiJub25lIn0.${SECRET}.${SECRET}`,
  'an authorization header': `Authorization: Custom ${SECRET}`,
  'a cookie header': `Cookie: theme=dark; session=${SECRET}`,
  'a password in a query': `https://app.example.com/login?user=x&password=${SECRET}&next=/`,
  'a password in JSON': `{"password":"with space ${SECRET}","name":"x"}`,
  'a token in JSON': `{"access_token": "${SECRET}"}`,
  'a password in a URL': `connecting to https://admin:${SECRET}@db.example.com/`,
};

for (const [name, text] of Object.entries(credentials)) {
  test(`${name} is taken out of any text around it`, () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (before, after) => {
        const found = redactText(`${before} ${text} ${after}`);
        assert.ok(!found.includes(SECRET), found);
        assert.ok(found.includes('[redacted]'), found);
      }),
    );
  });

  test(`${name} inside a record is noticed and taken out at any depth`, () => {
    const record = { message: 'x', detail: { arguments: JSON.stringify({ text }), list: [{ text }] } };
    assert.ok(isSuspicious(JSON.stringify(record)));
    const cleaned = JSON.stringify(redact(record));
    assert.ok(!cleaned.includes(SECRET), cleaned);
  });
}

test('a field with the name of a secret loses its value whatever it looks like', () => {
  const found = redact({
    password: 'short',
    token: 'x',
    'set-cookie': 'a=b',
    key: 'kept',
    private_key_pem: 'x',
  });
  assert.deepEqual(found, {
    password: '[redacted]',
    token: '[redacted]',
    'set-cookie': '[redacted]',
    key: 'kept',
    private_key_pem: '[redacted]',
  });
});

test('ordinary text stays as it is', () => {
  for (const text of [
    'GET /tokens/tok_0123456789ab 200',
    'Mozilla/5.0 (compatible; robot/2.1; +https://robot.example.org/about)',
    'create_token ok: basic settings for the cookie banner',
    '4bf92f3577b34da6a3ce929d0e0e4736',
  ])
    assert.equal(redactText(text), text);
});

test('a text that redaction would change is always suspicious', () => {
  const word = fc.constantFrom(
    ...Object.values(credentials),
    'bearer',
    'token',
    '=',
    ': ',
    ' ',
    'a',
    '@',
    '://',
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (words) => {
      const text = words.join('');
      if (redactText(text) !== text) assert.ok(isSuspicious(text), text);
    }),
  );
});

const HANGS_MS = 60_000;

test('hostile text costs time in proportion to its length', { timeout: HANGS_MS }, () => {
  // A pattern that is quadratic in one of these takes an hour.
  const parts = [
    '://',
    'bearer ',
    'password',
    '-----BEGIN ',
    'eyJaaaaaaaaa',
    'cookie: ',
    'basic aaaaaaaaa',
    '="\\',
  ];
  for (const part of parts) redactText(part.repeat(30_000));
});
