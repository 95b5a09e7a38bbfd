import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { limits } from '../../core/limits.ts';
import { shownArguments } from './shown-arguments.ts';

const CANARY = 'c4n4ry';

test('property: whatever the arguments, what is shown is bounded text without control characters', () => {
  fc.assert(
    fc.property(fc.anything({ withNullPrototype: false }).filter(isJson), (args) => {
      const text = shownArguments(args);
      assert.ok(text === undefined || text.length <= limits.auditArguments);
      assert.doesNotMatch(text ?? '', /[\p{Cc}\u202e]/u);
    }),
  );
});

function isJson(value: unknown): boolean {
  try {
    return JSON.stringify(value) !== undefined;
  } catch {
    return false;
  }
}

test('property: what is called a secret is not shown, at any depth, whatever it is', () => {
  const name = fc.constantFrom(
    'password',
    'dbPassword',
    'API_KEY',
    'x-api-key',
    'accessToken',
    'client_secret',
    'Authorization',
    'cookie',
    'pin',
    'otp',
    'privateKey',
    'sessionId',
    'credentials',
    'pass',
    'passphrase',
    'ｐassword',
  );
  const value = fc.constantFrom<unknown>(CANARY, [CANARY], { x: CANARY }, { x: { y: [CANARY] } });
  fc.assert(
    fc.property(name, value, fc.nat(4), (key, secret, depth) => {
      let args: unknown = { [key]: secret };
      for (let i = 0; i < depth; i++) args = i % 2 ? [args] : { inner: args };
      assert.ok(!shownArguments(args)?.includes(CANARY));
    }),
  );
});

test('what looks like a secret is not shown, whatever it is called; the rest is', () => {
  const args = {
    header: `Bearer ${CANARY}-token`,
    url: `https://u:${CANARY}@x.example/`,
    text: 'as it is',
    n: 7,
    yes: true,
    nothing: null,
  };
  const text = shownArguments(args) ?? '';
  assert.ok(!text.includes(CANARY), text);
  for (const part of ['"text":"as it is"', '"n":7', '"yes":true', '"nothing":null'])
    assert.ok(text.includes(part), text);
  assert.equal(shownArguments(undefined), undefined);
});

test('what would be cut off is not looked at: arguments of a million values cost as little as a few', () => {
  let read = 0;
  const node = (depth: number): object =>
    Object.defineProperties(
      {},
      Object.fromEntries(
        Array.from({ length: 30 }, (_, i) => [
          `m${i}`,
          {
            enumerable: true,
            get() {
              read += 1;
              return depth === 0 ? 'x' : node(depth - 1);
            },
          },
        ]),
      ),
    );
  assert.match(shownArguments(node(3)) ?? '', /^\{"m0":\{"m0":/);
  assert.ok(read < 5000, `${read} values were read`);
});
