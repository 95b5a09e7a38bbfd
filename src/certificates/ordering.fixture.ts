/** Everything behind the operations of this folder, over a CA that is simulated, in a store that can be opened again. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { AlertService } from '../alerts/service.ts';
import { createSealer } from '../config/secrets.ts';
import { DAY, ManualClock } from '../core/clock.ts';
import { type CallContext, createDispatch } from '../core/dispatch.ts';
import { createEvents } from '../core/events.ts';
import { type Principal, system } from '../core/principal.ts';
import type { Log, LogRecord } from '../core/record.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { openSqlite } from '../store/sqlite.ts';
import { FakeCa, type FakeCaOptions } from './fake-ca.fixture.ts';
import { Issuance } from './issuance.ts';
import type { Issuer } from './issuers.ts';
import { certificateOperations } from './operations.ts';
import { OrderingService } from './ordering.ts';
import { openCertificates } from './service.ts';
import { watchOver } from './watch.ts';

export const issuer: Issuer = {
  name: 'ca',
  directoryUrl: 'https://ca.test/dir',
  contact: [],
  isPublic: false,
};

export interface WorldOptions extends Omit<Partial<FakeCaOptions>, 'clock'> {
  wanted?: string[];
  issuers?: Issuer[];
}

export async function openWorld(t: TestContext, options: WorldOptions = {}) {
  const { wanted = [], issuers = [issuer], ...more } = options;
  const clock = new ManualClock();
  const folder = mkdtempSync(join(tmpdir(), 'ordering-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const ca = new FakeCa({ lifeMs: 90 * DAY, ...more, clock });
  const records: LogRecord[] = [];
  const log: Log = { write: (record) => void records.push(record), enabled: () => true };

  /** As a start of the process does. */
  async function start() {
    const stack = new AsyncDisposableStack();
    const database = stack.use(await openSqlite(join(folder, 'state.db'), clock));
    const sealer = createSealer(Buffer.alloc(32, 1));
    const events = createEvents();
    const base = { clock, log, events, database, sealer };
    const servedName = (name: string) => (wanted.includes(name) ? name : undefined);
    const certificates = stack.use(
      await openCertificates({
        ...base,
        caFile: join(folder, 'ca.pem'),
        controlHosts: ['localhost'],
        servedName,
        servedHostnames: () => wanted,
      }),
    );
    const issuance = stack.use(
      new Issuance({
        ...base,
        settings: { issuers, off: undefined },
        shelf: certificates,
        wanted: () => wanted,
        isAlone: true,
        openClient: () => ca.client(),
      }),
    );
    await issuance.orders.takeOver();
    const alerts = stack.use(new AlertService({ database, clock, log, events, channels: [] }));
    const watch = stack.use(watchOver(base, { issuance, certificates, alerts }));
    const parts = { ...base, issuance, certificates, servedName };
    const ordering = new OrderingService({ ...parts, dns01: undefined, payer: () => undefined });
    const idempotency = createIdempotencyStore(database, clock, sealer);
    const services = { certificates, ordering };
    const dispatch = createDispatch({ services, log, clock, idempotency });
    let stopped: Promise<void> | undefined;
    const stop = () => (stopped ??= stack.disposeAsync());
    t.after(stop);
    return {
      database,
      events,
      certificates,
      issuance,
      ordering,
      watch,
      stop,
      call: callBy(dispatch),
    };
  }

  return { clock, folder, ca, records, wanted, start };
}

const callBy =
  (dispatch: ReturnType<typeof createDispatch>) =>
  (name: string, input: object, context: Partial<CallContext> = {}) => {
    const operation = certificateOperations.find((candidate) => candidate.name === name);
    assert.ok(operation, name);
    return dispatch(operation, input, { ...contextOf(system), ...context });
  };

export const contextOf = (principal: Principal): CallContext => ({
  principal,
  signal: new AbortController().signal,
  traceId: '0'.repeat(32),
  surface: 'internal',
  clientAddress: undefined,
});
