import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR } from '../core/clock.ts';
import { Catalog, type Entry } from './catalog.ts';

const NOW = Date.UTC(2026, 5, 1);
const NAME = 'a.company.io';

const entry = (id: string, given: Partial<Entry>): Entry => ({
  id,
  source: 'acme',
  names: [NAME],
  notBefore: NOW - DAY,
  notAfter: NOW + 30 * DAY,
  createdAt: NOW - DAY,
  fingerprint: id,
  ...given,
});

function served(...entries: Entry[]): string | undefined {
  const catalog = new Catalog();
  for (const each of entries) catalog.put(each);
  return catalog.public(NAME, NOW)?.id;
}

test('what somebody imported is served before what a CA gave by itself, though it ends sooner', () => {
  const imported = entry('imported', { source: 'imported', notAfter: NOW + DAY, createdAt: NOW - 40 * DAY });
  assert.equal(served(imported, entry('acme', {})), 'imported');
  assert.equal(served(entry('acme', {}), imported), 'imported');
  assert.equal(served({ ...imported, notAfter: NOW }, entry('acme', {})), 'acme');
});

test('of those that CAs gave the last one is served: shorter than the one before, backdated by its CA, or in the future of our clock', () => {
  const before = entry('before', { createdAt: NOW - 2 * HOUR, notBefore: NOW - 3 * HOUR });
  for (const given of [
    { notAfter: NOW + 6 * DAY },
    { notBefore: NOW - 20 * HOUR },
    { notBefore: NOW + 3 * HOUR },
  ]) {
    const last = entry('last', { createdAt: NOW - HOUR, ...given });
    assert.equal(served(before, last), 'last');
    assert.equal(served(last, before), 'last');
  }
});

test('what came while our clock was ahead gives way to what came since', () => {
  const wrong = entry('wrong', { createdAt: NOW + 20 * DAY, notBefore: NOW - 10 * DAY });
  assert.equal(served(wrong, entry('right', { createdAt: NOW - HOUR, notBefore: NOW - HOUR })), 'right');
});
