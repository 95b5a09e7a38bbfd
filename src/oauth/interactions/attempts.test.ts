import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock, MINUTE } from '../../core/clock.ts';
import { Attempts, ATTEMPTS_PER_MINUTE, FAILURES_PER_MINUTE, SLOW_MS } from './attempts.ts';

const networkOf = (address: string): string => address.split('.').slice(0, 3).join('.');

test('a network that tries too often is refused for a while, others are not', () => {
  const clock = new ManualClock();
  using attempts = new Attempts({ clock, networkOf });
  for (let n = 0; n < ATTEMPTS_PER_MINUTE; n++) assert.ok(attempts.take(`192.0.2.${n}`));
  assert.equal(attempts.take('192.0.2.200'), false);
  assert.ok(attempts.take('198.51.100.1'));
  clock.advance(MINUTE);
  assert.ok(attempts.take('192.0.2.200'));
});

test('failures at a name make trying it slow, for everybody the same, and never refuse it', async () => {
  const clock = new ManualClock();
  using attempts = new Attempts({ clock, networkOf });
  for (const name of ['ada', 'nobody-of-this-name']) {
    for (let n = 0; n < 10 * FAILURES_PER_MINUTE; n++) attempts.failed(name);
    let isThrough = false;
    const held = attempts.slowDown(` ${name.toUpperCase()} `).then(() => (isThrough = true));
    await new Promise(setImmediate);
    assert.equal(isThrough, false);
    clock.advance(SLOW_MS);
    assert.equal(await held, true);
  }
  await attempts.slowDown('bob');
  clock.advance(MINUTE);
  await attempts.slowDown('ada');
});
