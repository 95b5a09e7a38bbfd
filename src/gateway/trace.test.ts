import assert from 'node:assert/strict';
import test from 'node:test';
import { nextTraceparent, traceFor } from './trace.ts';

const id = '0af7651916cd43dd8448eb211c80319c';

test('a valid trace id is kept, anything else gets a new one', () => {
  assert.equal(traceFor(`00-${id}-b7ad6b7169203331-01`), id);
  for (const text of [
    undefined,
    '',
    'x',
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `ff-${id}-b7ad6b7169203331-01`,
  ])
    assert.match(traceFor(text), /^[0-9a-f]{32}$/);
});

test('new ids do not repeat', () => {
  const ids = new Set(Array.from({ length: 5000 }, () => traceFor(undefined)));
  assert.equal(ids.size, 5000);
});

test('the upstream gets the same trace, a new span and the flags of the client', () => {
  const incoming = `00-${id}-b7ad6b7169203331-00`;
  const next = nextTraceparent(id, incoming);
  assert.match(next, new RegExp(`^00-${id}-[0-9a-f]{16}-00$`));
  assert.ok(!next.includes('b7ad6b7169203331'));
  assert.match(nextTraceparent(id, undefined), /-01$/);
  assert.match(nextTraceparent(id, `00-${'a'.repeat(32)}-b7ad6b7169203331-00`), /-01$/);
});
