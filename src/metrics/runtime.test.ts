import assert from 'node:assert/strict';
import test from 'node:test';
import { RuntimeWatch } from './runtime.ts';

test('every scraper is told all of the delay of the event loop, in seconds', async () => {
  using watch = new RuntimeWatch(() => ({ meanMs: 1, p50Ms: 2, p90Ms: 30, p99Ms: 400, maxMs: 5000 }));
  const told = async () =>
    (await watch.families())
      .filter(({ name }) => name.startsWith('nodejs_eventloop_lag_'))
      .flatMap(({ points }) => points.map((point) => ('value' in point ? point.value : undefined)));
  assert.deepEqual(await told(), [0.001, 0.002, 0.03, 0.4, 5]);
  assert.deepEqual(await told(), await told());
});
