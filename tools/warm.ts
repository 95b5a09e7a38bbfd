/**
 * One start that serves nobody and leaves nothing but the compile cache: run by the install, so that the first real start
 * reads no TypeScript. What fails here is told by that start, in its own words.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApp } from '../src/app.ts';
import { welcome } from '../src/banner.ts';
import { loadConfig } from '../src/config/load.ts';

const folder = mkdtempSync(join(tmpdir(), 'ohp-warm-'));
const leave = (): void => rmSync(folder, { recursive: true, force: true });
// The install gives it a limit.
process.once('SIGTERM', () => {
  leave();
  process.exit(1);
});
try {
  const settings = { OHP_DATA_DIR: folder, OHP_HTTP_PORT: '0', OHP_HTTPS_PORT: '0', OHP_LOG_LEVEL: 'error' };
  const config = await loadConfig(settings, () => '');
  const app = await createApp(config);
  welcome(app.facts);
  await app[Symbol.asyncDispose]();
} finally {
  leave();
}
