import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ManualClock, MINUTE, SECOND } from '../core/clock.ts';
import { AuditWatch } from './watch.ts';

function setUp() {
  const clock = new ManualClock();
  const told: string[][] = [];
  const state = { problem: undefined as string | undefined, lost: 0, bytes: 0, gap: undefined };
  const watch = new AuditWatch({
    clock,
    log: { write: () => undefined, enabled: () => true },
    state: () => state,
    sweep: async () => undefined,
    alertBytes: 100,
    tell: async (current) => void told.push(current.map(({ key }) => key)),
  });
  return { clock, told, state, watch };
}

test('what lasts is told again each minute, since whoever keeps alerts may be silent about it for a while', async () => {
  const { clock, told, state, watch } = setUp();
  await using _ = watch;
  watch.start();
  await turn();
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 10 * SECOND) {
      clock.advance(10 * SECOND);
      await turn();
    }
  };
  await pass(5 * MINUTE);
  assert.deepEqual(told, [[]], 'nothing is no news');
  state.problem = 'the disk is full';
  await pass(10 * SECOND);
  assert.deepEqual(told.splice(0), [[], ['audit.failing']]);
  await pass(3 * MINUTE);
  assert.deepEqual(told.splice(0), [['audit.failing'], ['audit.failing'], ['audit.failing']]);
  state.problem = undefined;
  await pass(3 * MINUTE);
  assert.deepEqual(told, [[]]);
});
