/** Asks again until the answer is as wanted: for what happens off the request path, such as log records. */
import { setImmediate as turn } from 'node:timers/promises';

const PATIENCE_MS = 15_000;

export async function eventually<T>(ask: () => Promise<T | undefined>, what: string): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const found = await ask();
    if (found !== undefined) return found;
    await turn();
  }
  throw new Error(`never came: ${what}`);
}
