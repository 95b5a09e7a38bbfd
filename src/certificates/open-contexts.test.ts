import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { OpenContexts } from './open-contexts.ts';

const opened = async () => createSecureContext();

test('contexts are kept within their bytes, and what was used longest ago makes room', async () => {
  const contexts = new OpenContexts(100);
  const a = contexts.open('a', 40, opened);
  const b = contexts.open('b', 40, opened);
  assert.equal(contexts.open('a', 40, opened), a);
  const c = contexts.open('c', 40, opened);
  assert.equal(contexts.open('a', 40, opened), a);
  assert.equal(contexts.open('c', 40, opened), c);
  assert.notEqual(contexts.open('b', 40, opened), b);
});

test('one that is larger than all of them may be is open until the next one', async () => {
  const contexts = new OpenContexts(100);
  const large = contexts.open('large', 500, opened);
  assert.equal(contexts.open('large', 500, opened), large);
  const small = contexts.open('small', 10, opened);
  assert.equal(contexts.open('small', 10, opened), small);
  assert.notEqual(contexts.open('large', 500, opened), large);
});

test('what could not be opened is tried again, and what is forgotten takes no room', async () => {
  const contexts = new OpenContexts(100);
  const failing = contexts.open('x 1', 90, () => Promise.reject(new Error('gone')));
  await assert.rejects(failing, /gone/);
  const again = contexts.open('x 1', 90, opened);
  assert.notEqual(again, failing);
  contexts.forget('x ');
  const others = ['y', 'z'].map((key) => contexts.open(key, 50, opened));
  assert.deepEqual(
    ['y', 'z'].map((key) => contexts.open(key, 50, opened)),
    others,
  );
  assert.notEqual(contexts.open('x 1', 90, opened), again);
});
