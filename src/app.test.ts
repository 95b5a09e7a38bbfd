import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { createApp } from './app.ts';
import { loadConfig } from './config/load.ts';
import { type Clock, systemClock, type Timer } from './core/clock.ts';

/** The system's clock, with the places where the timers that run were started. */
function watchedClock(): { clock: Clock; running: Set<string> } {
  const running = new Set<string>();
  const kept = (start: () => Timer, forget?: Promise<unknown>): Timer => {
    const place = `${running.size} ${new Error().stack?.split('\n').slice(3, 6).join('\n')}`;
    const timer = start();
    running.add(place);
    void forget?.then(() => running.delete(place));
    return {
      cancel() {
        running.delete(place);
        timer.cancel();
      },
    };
  };
  return {
    running,
    clock: {
      now: () => systemClock.now(),
      after(ms, run) {
        const over = Promise.withResolvers<void>();
        const ring = () => {
          over.resolve();
          run();
        };
        return kept(() => systemClock.after(ms, ring), over.promise);
      },
      every: (ms, run) => kept(() => systemClock.every(ms, run)),
    },
  };
}

test('what a start begins ends with it: no timer is left', async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ohp-app-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const env = { OHP_DATA_DIR: dataDir, OHP_HTTP_PORT: '0', OHP_HTTPS_PORT: '0', OHP_LOG_LEVEL: 'error' };
  const { clock, running } = watchedClock();
  const app = await createApp(await loadConfig(env, () => assert.fail('no file')), { clock });
  assert.ok(running.size > 5, `${running.size} timers`);
  await app[Symbol.asyncDispose]();
  assert.deepEqual([...running], []);
});
