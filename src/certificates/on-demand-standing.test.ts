import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR } from '../core/clock.ts';
import { onDemandReport, type Standing } from './on-demand-standing.ts';

const NOW = 1_700_000_000_000;

const full: Standing = {
  wildcard: '*.example.com',
  off: undefined,
  answer: undefined,
  pause: undefined,
  minuteWaitMs: 0,
  isCrowded: false,
  budgets: [
    {
      limit: {
        issuer: '',
        kind: 'on-demand',
        subject: '',
        allowed: 7,
        withinMs: DAY,
        what: 'orders in a day',
      },
      used: 7,
      roomAt: NOW + HOUR,
    },
  ],
};

test('a limit that is full is told with its size and when there is room again', () => {
  const { why_not } = onDemandReport(full, { now: NOW, isSeen: () => true });
  assert.match(why_not ?? '', /no more than 7 orders in a day .* room again at 2023-11-14T23:13:20/);
});

test('incident 01: how full a limit is that others share, and until when, is not told to who may not see them', () => {
  const { on, why_not, budgets } = onDemandReport(full, { now: NOW, isSeen: () => false });
  assert.equal(on, false);
  assert.equal(why_not, 'a limit that is shared with hostnames of others is used up');
  assert.deepEqual(budgets, []);
});
