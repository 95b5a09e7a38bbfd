/** What follows from a failure, case by case; what becomes of it over years: `simulation.test.ts`. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { Unpublished } from './challenge-records.ts';
import { problem, unreachable } from './fake-ca.fixture.ts';
import { Denied } from './issuing.ts';
import type { Issuer } from './issuers.ts';
import { type OrderDocument, orderDocumentSchema } from './order-schema.ts';
import type { StoredOrder } from './order-rows.ts';
import { MAX_DENIALS, setbackOf } from './setback.ts';

const NOW = 400 * DAY;
const issuer = (name: string): Issuer => ({
  name,
  directoryUrl: `https://${name}.test/dir`,
  contact: [],
  isPublic: false,
});
const [first, second] = [issuer('first'), issuer('second')];

const orderWith = (document: Partial<OrderDocument>): StoredOrder => ({
  id: 'ord_1',
  state: 'ordered',
  urgency: 0,
  nextAttemptAt: NOW,
  certificateId: undefined,
  createdAt: NOW,
  leaseUntil: NOW,
  document: orderDocumentSchema.parse({
    names: ['a.company.io'],
    issuer: first.name,
    directory: first.directoryUrl,
    key_type: 'p256',
    reason: 'requested',
    events: [],
    order_url: 'https://first.test/order/1',
    sent_at: NOW,
    ...document,
  }),
});

const after = (cause: unknown, document: Partial<OrderDocument>) =>
  setbackOf(cause, {
    order: orderWith(document),
    issuer: first,
    issuers: [first, second],
    dns01: undefined,
    now: NOW,
    restMs: undefined,
    waiting: 0,
  });

test('one that somebody cancelled is asked for at its CA only, however long that is away: it may have signed', () => {
  for (let failures = 0; failures < 20; failures++) {
    const step = after(unreachable(), { cancelled: true, failures, failures_at_issuer: failures });
    assert.deepEqual(Object.keys(step.document ?? {}), ['failures', 'refusals']);
    assert.equal(step.state, undefined);
    assert.ok((step.nextAttemptAt ?? 0) > NOW);
  }
  // Others go on elsewhere.
  assert.equal(after(unreachable(), { failures: 5, failures_at_issuer: 5 }).document?.issuer, second.name);
});

test('one that somebody cancelled ends as soon as its CA knows nothing of it, and with the week in which a CA lets it be open', () => {
  const unknown = new Denied(problem('malformed', 404));
  assert.equal(after(unknown, { cancelled: true }).state, undefined, 'it is asked again');
  assert.equal(after(unknown, { cancelled: true, denials: MAX_DENIALS }).state, 'abandoned');
  assert.equal(after(unreachable(), { cancelled: true, sent_at: NOW - 9 * DAY }).state, 'abandoned');
});

test('what could not be published is not tried again at once by asking for it, nor sooner than the provider wants', () => {
  for (const [retryAfterMs, earliestMs] of [
    [undefined, 5 * MINUTE],
    [30 * MINUTE, 30 * MINUTE],
  ] as const) {
    const details = retryAfterMs === undefined ? {} : { details: { retry_after_ms: retryAfterMs } };
    const cause = new Unpublished('a.company.io', 'refused', new AppError('RATE_LIMITED', 'no', details));
    const dns01 = { serves: () => true, comesFirst: () => true };
    const step = setbackOf(cause, {
      order: orderWith({ failed_proofs: { 'a.company.io': ['http-01', 'tls-alpn-01'] } }),
      issuer: first,
      issuers: [first],
      dns01,
      now: NOW,
      restMs: undefined,
      waiting: 0,
    });
    assert.equal(step.document?.not_before, NOW + earliestMs);
  }
});
