/** Services over an engine in memory that fails when it is told to, and a real store. Time passes when it is waited for. */
import type { Clock } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import { AppError } from '../core/errors.ts';
import type { Progress } from '../core/operation.ts';
import { bundles, expandPermissions } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { createSealer } from '../config/secrets.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { openSqlite } from '../store/sqlite.ts';
import { createMemoryEngine, type MemoryEngine } from './engine.memory.ts';
import { guard } from './guard.ts';
import { serviceOperations } from './operations.ts';
import { policySchema } from './policy.ts';
import { createServiceKeeper } from './service.ts';

export const IMAGE = 'contract/image:test';
export const admin: Principal = {
  id: 'tok_1',
  name: 'admin',
  kind: 'token',
  permissions: expandPermissions(bundles.admin),
  hostnames: undefined,
  expiresAt: undefined,
};

export function eagerClock(): Clock {
  let time = Date.UTC(2026, 0, 1);
  const later = (ms: number, run: () => void) => {
    const handle = setImmediate(() => {
      time += ms;
      run();
    });
    return { cancel: () => clearImmediate(handle) };
  };
  return { now: () => time, after: later, every: () => ({ cancel() {} }) };
}

/** Fails the calls of the engine that are told, counted from 1. */
export interface Faults {
  fails: (call: number, verb: string) => boolean;
  calls: number;
}

export async function setUpServices({ policy = {}, clock = eagerClock() } = {}) {
  const database = await openSqlite(':memory:', clock, silentLog);
  const faults: Faults = { fails: () => false, calls: 0 };
  const driver: MemoryEngine = createMemoryEngine({
    clock,
    images: [IMAGE],
    registry: ['contract/pulled:1'],
    before(verb) {
      faults.calls++;
      if (faults.fails(faults.calls, verb)) throw new AppError('UPSTREAM_FAILED', `injected at ${verb}`);
    },
  });
  const engine = guard(driver, {
    policy: policySchema.parse({ images: ['docker.io/contract/*'], ...policy }),
    sockets: [],
    local: true,
  });
  const sealer = createSealer(Buffer.alloc(32, 1));
  const naming = { installation: 'ohp', adopted: new Set<string>() };
  /** Names, as who follows services is told. */
  const changed: string[] = [];
  const open = (over: object = {}) =>
    createServiceKeeper({
      database,
      sealer,
      engine: { ...engine, ...over },
      naming,
      clock,
      log: silentLog,
      urlFault: (url) => (url.includes('169.254.') ? 'it is link-local' : undefined),
      changed: async (name) => void changed.push(name),
    });
  const services = open();
  const idempotency = createIdempotencyStore(database, clock, sealer);
  const progress: Progress[] = [];
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into results of every operation
  async function call(name: string, input: object = {}, principal = admin, keeper = services): Promise<any> {
    const dispatch = createDispatch({ services: { services: keeper }, log: silentLog, clock, idempotency });
    const operation = serviceOperations.find((one) => one.name === name);
    if (!operation) throw new Error(`no operation ${name}`);
    return dispatch(operation, input, {
      principal,
      signal: new AbortController().signal,
      traceId: '0'.repeat(32),
      surface: 'internal',
      clientAddress: undefined,
      progress: (update) => void progress.push(update),
    });
  }
  /** All that is there, by the engine and the store. */
  async function world() {
    faults.fails = () => false;
    const [containers, networks, volumes, rows] = await Promise.all([
      driver.list({ all: true }),
      driver.listNetworks(),
      driver.listVolumes(),
      database.read.selectFrom('services').selectAll().execute(),
    ]);
    return {
      containers: containers.map(({ names, state }) => `${names[0]} ${state}`).sort(),
      networks: networks.map(({ name }) => name).sort(),
      volumes: volumes.map(({ name }) => name).sort(),
      services: rows.map(({ name, pending, version }) => `${name} ${pending ?? 'done'} ${version}`).sort(),
    };
  }
  return { call, world, faults, driver, database, open, services, progress, changed };
}

export const nothing = { containers: [], networks: [], volumes: [], services: [] };
export const blog = {
  name: 'blog',
  image: IMAGE,
  command: ['sleep', '1000'],
  environment: { PASSWORD: 'canary-value' },
  ports: [{ container_port: 80, host_port: 18_080 }],
  volumes: [{ name: 'blog-data', path: '/data' }],
};
