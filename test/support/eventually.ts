/**
 * Asks again until the answer is as wanted: for what happens off the request path, such as log records. At first without
 * a pause, then with longer ones: who asks all the time takes the time of who is asked.
 */
import { setTimeout as pause } from 'node:timers/promises';

/**
 * For what comes when all is well: no test is slower for it, and a machine that does many other things is no fault.
 * Below the limit of a test, so that what did not come is told.
 */
export const PATIENCE_MS = 60_000;
const MAX_PAUSE_MS = 20;

export async function eventually<T>(ask: () => Promise<T | undefined>, what: string): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  for (let pauseMs = 0; Date.now() < deadline; pauseMs = Math.min(pauseMs + 1, MAX_PAUSE_MS)) {
    const found = await ask();
    if (found !== undefined) return found;
    await pause(pauseMs);
  }
  throw new Error(`never came: ${what}`);
}
