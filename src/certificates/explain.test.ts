import assert from 'node:assert/strict';
import test from 'node:test';
import { explanationOf, type Known } from './explain.ts';
import { issuer } from './ordering.fixture.ts';
import type { StoredOrder } from './order-rows.ts';

const known: Known = {
  hostname: 'a.company.io',
  servedAs: 'a.company.io',
  onDemand: undefined,
  orderedAs: 'a.company.io',
  isProxied: true,
  whyUnwanted: undefined,
  certificate: undefined,
  renewsAt: undefined,
  settings: { issuers: [issuer], off: undefined },
  keyWish: {},
  dns01: undefined,
  orders: [],
  checks: [],
  now: Date.UTC(2026, 0, 3),
};

test('of a hostname that is served and not ordered unasked, it says why and names no CA', () => {
  const { ordering, summary } = explanationOf({ ...known, whyUnwanted: 'its proxy has enable_https: false' });
  assert.deepEqual([ordering.on, ordering.issuer, ordering.challenges], [false, undefined, []]);
  assert.match(summary, /None is ordered from a CA: its proxy has enable_https: false\./);
});

test('of an order that a limit holds off, it says since when, by which limit and until when', () => {
  const held: StoredOrder = {
    id: 'ord_1',
    state: 'waiting',
    urgency: 1,
    nextAttemptAt: Date.UTC(2026, 0, 8),
    certificateId: undefined,
    createdAt: Date.UTC(2026, 0, 1),
    leaseUntil: 0,
    document: {
      names: ['a.company.io'],
      issuer: 'ca',
      key_type: 'p256',
      reason: 'served',
      failed_proofs: {},
      cancelled: false,
      stuck: false,
      failures: 0,
      refusals: 0,
      failures_at_issuer: 0,
      attempts: 0,
      denials: 0,
      events: [
        {
          at: Date.UTC(2026, 0, 1),
          kind: 'held',
          text: 'no more than 50 certificates for company.io in a week at the CA are allowed: there is room again at 2026-01-08',
        },
      ],
    },
  };
  const { summary, next_attempt_at: next } = explanationOf({ ...known, orders: [held] });
  assert.match(
    summary,
    /at ca is held off since 2026-01-01T\S+ no more than 50 certificates .* room again at 2026-01-08/,
  );
  assert.match(next ?? '', /^2026-01-08/);
});
