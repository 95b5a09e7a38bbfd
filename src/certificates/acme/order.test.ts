import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { getOrder } from './order.ts';
import { requireSuccess } from './reply.ts';
import type { Session } from './session.ts';

const account = {
  url: 'https://ca.test/acct/1',
  key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
};
const call = { signal: new AbortController().signal };

test('an order that the CA does not know any more is over, though a page says so; one behind another error is not', async () => {
  for (const [status, consequence] of [
    [404, 'order'],
    [410, 'order'],
    [400, 'network'],
    [502, 'retry_later'],
  ] as const) {
    const url = 'https://ca.test/order/1';
    const reply = {
      url,
      status,
      contentType: 'text/html',
      text: '<h1>no</h1>',
      nonce: undefined,
      location: undefined,
      links: [],
      retryAfterMs: undefined,
    };
    // All that getOrder asks of a session.
    const session = { post: async () => requireSuccess(reply) } as unknown as Session;
    await assert.rejects(getOrder(session, account, url, call), { code: 'http_status', consequence });
  }
});
