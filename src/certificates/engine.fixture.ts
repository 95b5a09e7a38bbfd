/** The engine on a store of its own, against a CA that is simulated, at a time that the test decides. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createSealer } from '../config/secrets.ts';
import { DAY, ManualClock } from '../core/clock.ts';
import { createEvents, type Events } from '../core/events.ts';
import type { Log } from '../core/record.ts';
import type { Database } from '../store/database.ts';
import { openSqlite } from '../store/sqlite.ts';
import { FakeCa, type FakeCaOptions } from './fake-ca.fixture.ts';
import { Issuance, type IssuanceOptions } from './issuance.ts';
import type { IssuanceSettings, Issuer } from './issuers.ts';
import { type CertificateService, openCertificates } from './service.ts';

export const NAMES = ['a.company.io', 'b.company.io'];
export const issuer: Issuer = {
  name: 'ca',
  directoryUrl: 'https://ca.test/dir',
  contact: [],
  isPublic: false,
};
export const silent: Log = { write: () => undefined, enabled: () => false };

export interface Engine extends AsyncDisposable {
  issuance: Issuance;
  events: Events;
  certificates: CertificateService;
  serving(name: string): { id: string; notAfter: number } | undefined;
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'engine-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** `database`: as the engine sees it. */
export async function engine(
  folder: string,
  {
    clock,
    ca,
    database,
    isAlone = true,
    wanted = NAMES,
    servedName = (name) => ([...wanted].includes(name) ? name : undefined),
    issuers = [issuer],
    ...more
  }: {
    clock: ManualClock;
    ca: (issuer: Issuer) => FakeCa;
    database: Database;
    isAlone?: boolean;
    wanted?: Iterable<string>;
    servedName?: (name: string) => string | undefined;
    issuers?: Issuer[];
  } & Partial<Pick<IssuanceSettings, 'ownerBudget' | 'onDemand'>> &
    Partial<Pick<IssuanceOptions, 'wishOf' | 'payerOf' | 'dns01' | 'mayRenew'>>,
): Promise<Engine> {
  const base = {
    clock,
    log: silent,
    events: createEvents(),
    database,
    sealer: createSealer(Buffer.alloc(32, 1)),
  };
  const certificates = await openCertificates({
    ...base,
    caFile: join(folder, 'ca.pem'),
    controlHosts: ['localhost'],
    servedName,
    servedHostnames: () => wanted,
  });
  const issuance = new Issuance({
    ...base,
    ...more,
    settings: { issuers, off: undefined, ownerBudget: more.ownerBudget, onDemand: more.onDemand },
    shelf: certificates,
    wanted: () => wanted,
    isAlone,
    openClient: (one) => ca(one).client(),
  });
  if (isAlone) await issuance.orders.takeOver();
  return {
    issuance,
    events: base.events,
    certificates,
    serving: (name) => certificates.serving(name),
    async [Symbol.asyncDispose]() {
      await issuance[Symbol.asyncDispose]();
      await certificates[Symbol.asyncDispose]();
    },
  };
}

export async function world(
  t: TestContext,
  options: Omit<FakeCaOptions, 'clock' | 'lifeMs'> & { lifeMs?: number } = {},
) {
  const clock = new ManualClock();
  const folder = folderOf(t);
  const database = await openSqlite(join(folder, 'state.db'), clock);
  t.after(() => database[Symbol.asyncDispose]());
  return { clock, folder, database, ca: new FakeCa({ lifeMs: 90 * DAY, ...options, clock }) };
}

export async function turn({ issuance }: Engine): Promise<void> {
  await issuance.tick();
  await issuance.settle();
}
