import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../../core/clock.ts';
import { EventLog } from './channel.ts';
import type { SessionStore, StoredEvent } from './session-store.ts';
import { EVENTS_KEPT_MS, MAX_EVENT_CHARACTERS } from './settings.ts';

/** A store that only counts. */
function counting() {
  const kept: StoredEvent[] = [];
  const unused = () => assert.fail('not asked for here');
  const store: SessionStore = {
    create: unused,
    find: unused,
    follow: unused,
    remove: unused,
    removeOf: unused,
    touch: unused,
    sweep: unused,
    eventsAfter: unused,
    append: async (events) => void kept.push(...events),
  };
  return { store, kept };
}

test('what is kept of all sessions together is bounded, told once, and begins anew when events are forgotten', async () => {
  const clock = new ManualClock();
  const { store, kept } = counting();
  const told: string[] = [];
  const log = new EventLog(store, clock, (message) => told.push(message));
  const message = ' '.repeat(1024 * 1024);
  const fits = MAX_EVENT_CHARACTERS / message.length;
  const append = async (sequence: number) => {
    log.append({ sessionId: `s${sequence}`, streamId: 'g', sequence, message });
    await log.settled();
  };
  for (let i = 0; i < fits + 20; i += 1) await append(i);
  assert.equal(kept.length, fits);
  assert.equal(told.length, 1);
  assert.match(told[0] ?? '', /can not be resumed/);
  clock.advance(EVENTS_KEPT_MS);
  await append(0);
  assert.equal(kept.length, fits + 1);
});
