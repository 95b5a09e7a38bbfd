import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { one } from './family.ts';
import { MetricsService } from './service.ts';

const names = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

test('a part that fails or hangs takes no other with it, and is told', async () => {
  const clock = new ManualClock();
  const metrics = new MetricsService({
    clock,
    sources: {
      good: () => [one('ohp_connections_open', 1)],
      broken: () => Promise.reject(new Error('the store is away')),
      slow: () => new Promise(() => undefined),
    },
  });
  const text = metrics.text('text');
  clock.advance(2000);
  assert.deepEqual(names(await text), [
    'ohp_connections_open 1',
    'ohp_metrics_source_up{source="good"} 1',
    'ohp_metrics_source_up{source="broken"} 0',
    'ohp_metrics_source_up{source="slow"} 0',
  ]);
});

test('who asks while it is written gets the same: a crowd costs as much as one', async () => {
  let asked = 0;
  const sources = {
    counted: () => {
      asked++;
      return [one('ohp_connections_open', asked)];
    },
  };
  const metrics = new MetricsService({ clock: new ManualClock(), sources });
  const texts = await Promise.all(Array.from({ length: 20 }, () => metrics.text('text')));
  assert.equal(asked, 1);
  assert.equal(new Set(texts).size, 1);
  await metrics.text('text');
  assert.equal(asked, 2);
});
