/**
 * `ohp reset admin-token`: the way back in for whoever has the data folder but lost the administrator's token. It works
 * on the folder itself and takes its lock, so nothing else may run there. `src/cli.ts` loads it when it is asked for.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openTrail } from './app.audit.ts';
import { logSettings } from './app.settings.ts';
import { readConfig } from './config/command-line.ts';
import { loadMasterKey } from './config/secrets.ts';
import { systemClock } from './core/clock.ts';
import { AppError } from './core/errors.ts';
import { createEvents } from './core/events.ts';
import type { ResetAdminToken } from './interfaces/cli/reset.ts';
import { createLogSink } from './logs/sink.ts';
import { openDataDirectory, STATE_FILE } from './store/data-directory.ts';
import { openSqlite } from './store/sqlite.ts';
import { TokenService } from './tokens/service.ts';

/** @throws AppError CONFLICT while a server runs there, NOT_FOUND where none ever did. */
export const resetAdminToken: ResetAdminToken = async ({ env, cwd }) => {
  const config = await readConfig(env, cwd);
  const folder = resolve(cwd, config.data_dir);
  if (!existsSync(join(folder, STATE_FILE)))
    throw new AppError(
      'NOT_FOUND',
      `${folder}: no server has kept anything there; run this where the server starts, or set OHP_DATA_DIR`,
    );
  using directory = openDataDirectory(folder);
  const logDir = join(directory.path, 'logs');
  await using sink = createLogSink({ directory: logDir, clock: systemClock, ...logSettings(config) });
  const masterKey = loadMasterKey({
    dataDir: directory.path,
    masterKey: config.master_key,
    dataExists: true,
  });
  await using log = openTrail({ dataDir: directory.path, masterKey, clock: systemClock, log: sink });
  await using database = await openSqlite(directory.stateFile, systemClock, log);
  await using tokens = new TokenService({ database, events: createEvents(), clock: systemClock, log });
  await tokens.load();
  const { token, secret, revoked } = await tokens.resetAdministrator(config.admin_token);
  return { id: token.id, ...(secret !== undefined && { secret }), revoked };
};
