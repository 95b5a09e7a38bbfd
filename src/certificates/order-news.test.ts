import assert from 'node:assert/strict';
import test from 'node:test';
import { doneNews, setbackNews } from './order-news.ts';
import type { StoredOrder } from './order-rows.ts';

const names = ['a.company.io', 'b.other.io', '*.wild.io'];
// What the news do not look at is left out.
const order = {
  id: 'ord_1',
  certificateId: 'crt_1',
  document: { names, issuer: 'ca' },
} as unknown as StoredOrder;
const named = (message: string) => names.filter((name) => message.includes(name.replace('*.', '')));

test('each name has its own record, and no record names another one', () => {
  const step = {
    event: {
      kind: 'failed' as const,
      text: 'the CA could not check B.other.io by http-01',
      ca_words: '{"detail":"no A record for b.other.io"}',
    },
  };
  for (const news of [doneNews(order), setbackNews(order, step, 0)]) {
    assert.deepEqual(
      news.map(({ hostname }) => hostname),
      names,
    );
    for (const { hostname, message } of news) assert.deepEqual(named(message), [hostname]);
  }
  const [a, b] = setbackNews(order, step, 0);
  assert.match(a?.message ?? '', /another of the 3 names of ord_1 holds it up; next attempt 1970/);
  assert.match(b?.message ?? '', /could not check B\.other\.io by http-01; the CA says: .*no A record/);
});
