/**
 * What stands before and beside a call and would not be there in a bare server, by itself: the credential's check, both
 * rate limits, the audit record to its trail and to the log. The product's own parts, in the order of a request; called by `mcp.ts` as
 * a process of its own. Tells the median CPU time of one call, every thread counted, in microseconds.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { echo } from '../src/admin/echo.ts';
import { Trail } from '../src/audit/trail.ts';
import { systemClock as clock } from '../src/core/clock.ts';
import { createDispatch, type Dispatch } from '../src/core/dispatch.ts';
import { createEvents } from '../src/core/events.ts';
import { newTraceId } from '../src/core/ids.ts';
import { system } from '../src/core/principal.ts';
import type { Log } from '../src/core/record.ts';
import { RateLimiter } from '../src/core/rate-limit.ts';
import { openSqlite } from '../src/store/sqlite.ts';
import { TokenService } from '../src/tokens/service.ts';
import { benchSink } from './log-sink.ts';
import { median } from './measure.ts';
import { ADMINISTRATOR } from './product.ts';

const CALLS = 20_000;
/** At most as many as the queue takes, so that none is dropped. */
const CALLS_A_FLUSH = 5000;
const ROUNDS = 6;
const MAX_CALLS_A_MINUTE = 10_000_000;
const MAX_KEYS = 100_000;
const FLUSH_MS = 60_000;
const KEY_BYTES = 32;
const ADDRESS = '127.0.0.1';

const folder = mkdtempSync(join(tmpdir(), 'ohp-bench-'));
const sink = benchSink({
  directory: join(folder, 'logs'),
  clock,
  queueRecords: 2 * CALLS_A_FLUSH,
});
const trail = new Trail({ folder: join(folder, 'audit'), key: randomBytes(KEY_BYTES), clock, log: sink });
const database = await openSqlite(':memory:', clock);
const tokens = new TokenService({ database, events: createEvents(), clock, log: sink });
await tokens.ensureAdministrator(ADMINISTRATOR);
const [perAddress, perPrincipal, failures] = Array.from(
  { length: 3 },
  () => new RateLimiter(clock, MAX_CALLS_A_MINUTE, MAX_KEYS),
) as [RateLimiter, RateLimiter, RateLimiter];

const nowhere: Log = { write: () => {}, enabled: () => true };
const dispatchTo = (log: Log): Dispatch =>
  createDispatch({
    services: {},
    log,
    clock,
    idempotency: { find: () => Promise.resolve(undefined), seal: (text) => text },
  });

interface Ways {
  authenticates: boolean;
  limits: boolean;
  dispatch: Dispatch;
}

async function call({ authenticates, limits, dispatch }: Ways): Promise<void> {
  if (limits) perAddress.take(ADDRESS);
  if (limits) failures.wait(ADDRESS);
  const principal = authenticates ? tokens.authenticate(ADMINISTRATOR) : system;
  if (!principal) throw new Error('the credential is not known');
  if (limits) perPrincipal.take(principal.id);
  await dispatch(
    echo,
    { message: 'hello' },
    {
      principal,
      signal: new AbortController().signal,
      traceId: newTraceId(),
      surface: 'mcp',
      clientAddress: ADDRESS,
    },
  );
}

async function microseconds(ways: Ways): Promise<number> {
  const before = process.cpuUsage();
  for (let i = 1; i <= CALLS; i += 1) {
    await call(ways);
    if (i % CALLS_A_FLUSH === 0) await sink.flush(FLUSH_MS);
  }
  const { user, system: kernel } = process.cpuUsage(before);
  return (user + kernel) / CALLS;
}

const silent = dispatchTo(nowhere);
const ways: Record<string, Ways> = {
  none: { authenticates: false, limits: false, dispatch: silent },
  credential: { authenticates: true, limits: false, dispatch: silent },
  limits: { authenticates: false, limits: true, dispatch: silent },
  record: { authenticates: false, limits: false, dispatch: dispatchTo(trail) },
  all: { authenticates: true, limits: true, dispatch: dispatchTo(trail) },
};
const measured = new Map<string, number[]>(Object.keys(ways).map((name) => [name, []]));
// The first round is for the compiler.
for (let round = 0; round <= ROUNDS; round += 1)
  for (const [name, way] of Object.entries(ways)) {
    const figure = await microseconds(way);
    if (round > 0) measured.get(name)?.push(figure);
  }
const without = median(measured.get('none') ?? []);
const costs = Object.fromEntries([...measured].map(([name, figures]) => [name, median(figures) - without]));

for (const limiter of [perAddress, perPrincipal, failures]) limiter.stop();
await tokens[Symbol.asyncDispose]();
await database[Symbol.asyncDispose]();
await trail.close();
await sink.close();
rmSync(folder, { recursive: true });
process.send?.(costs);
process.disconnect?.();
