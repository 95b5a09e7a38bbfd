/** The part of the composition root that knows when a person has to be asked, and where those are who can't be. */
import type { Config } from './config/config.ts';
import { Asks } from './core/asks.ts';
import type { Clock } from './core/clock.ts';
import type { Log } from './core/record.ts';
import { Taint } from './core/taint.ts';
import { CONFIRM_PREFIX } from './oauth/paths.ts';
import { createUntrustedReads } from './sessions/untrusted-reads.ts';
import type { Database } from './store/database.ts';

interface AskingParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  /** Where a person's browser reaches the control host. */
  readonly ownOrigin: () => string;
}

export async function openAsking({ mcp }: Config, { database, clock, log, ownOrigin }: AskingParts) {
  const taint = new Taint({ mode: mcp.taint, store: createUntrustedReads(database), clock, log });
  await taint.load();
  const asks = new Asks({ clock, urlOf: (id) => `${ownOrigin()}${CONFIRM_PREFIX}${id}` });
  return { taint, asks };
}
