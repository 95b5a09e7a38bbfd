/**
 * Publications over real proxies, protection, certificates and services on one real store, with an engine in memory, a CA
 * that gives at once, and an edge that answers as the proxy is. What any of them is asked can be made to fail.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PublicationParts, publishingPorts } from '../app.publications.ts';
import { openAuthority } from '../certificates/authority.ts';
import { openCertificates } from '../certificates/service.ts';
import { createSealer } from '../config/secrets.ts';
import { createDispatch } from '../core/dispatch.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import type { Alert } from '../alerts/schema.ts';
import { type Clock, MINUTE } from '../core/clock.ts';
import { createEvents, type Events } from '../core/events.ts';
import { newId } from '../core/ids.ts';
import type { AnyOperation, Progress } from '../core/operation.ts';
import type { Principal } from '../core/principal.ts';
import { type Log, silentLog } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import type { RoutingChange } from '../routes/schema.ts';
import { ProtectionService } from '../protection/service.ts';
import { type Proxy, proxySettings } from '../proxies/schema.ts';
import { ProxyService } from '../proxies/service.ts';
import { policySchema } from '../services/policy.ts';
import { admin, eagerClock, setUpServices } from '../services/services.fixture.ts';
import type { Database } from '../store/database.ts';
import { createIdempotencyStore } from '../store/idempotency.ts';
import { publicationOperations } from './operations.ts';
import type { PublishingPorts, Visited } from './ports.ts';
import { PublicationService } from './service.ts';

export { admin };
export const HOST = 'blog.example.com';
export const blog = {
  image: 'contract/pulled:1',
  hostname: HOST,
  port: 80,
  command: ['sleep', '1000'],
  environment: { PASSWORD: 'canary-value' },
  volumes: [{ name: 'blog-data', path: '/data' }],
};

/** `before`: it does not happen; `after`: it does, and nobody hears of it. */
export type When = 'before' | 'after';
export interface Asked {
  readonly number: number;
  readonly what: string;
  readonly when: When;
}

export interface Faults {
  fails: (asked: Asked) => boolean;
  calls: number;
}

interface SetUp {
  policy?: object;
  /** Where the engine is. */
  machine?: string;
  isSwarm?: boolean;
}

export async function setUpPublications({ policy = {}, machine, isSwarm = false }: SetUp = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-publications-'));
  const clock = eagerClock();
  const services = await setUpServices({ clock, policy, ports: { isSwarm } });
  const sealer = createSealer(Buffer.alloc(32, 1));
  const base = { database: services.database, sealer, clock, events: createEvents(), log: silentLog };
  const served = new Served();
  const edge = createEdge(served);
  const nouns = await openNouns(base, { served, edge, caFile: join(folder, 'ca.pem') });
  const faults: Faults = { fails: () => false, calls: 0 };
  services.faults.fails = (_number, verb) =>
    faults.fails({ number: ++faults.calls, what: `engine ${verb}`, when: 'before' });
  const alerts: Alert[] = [];
  const later = laterThan(clock);
  /** TCP ports and others that the image names when it is here. */
  const exposed: string[] = [];
  /** As another process would, on the same store and engine. */
  const start = () => {
    const inspectImage = async (image: string) => ({
      ...(await services.engine.inspectImage(image)),
      exposedPorts: exposed,
    });
    const keeper = services.open({
      inspectImage,
      ...(isSwarm && { ping: async () => ({ connected: true, version: '1', swarm: true }) }),
    });
    const failing = failingBy(faults);
    const publishing = { machine, addresses: policySchema.parse(policy).bind_addresses };
    const ports: PublishingPorts = { ...publishingPorts({ ...nouns.parts, publishing }, keeper), edge };
    const publications = new PublicationService({
      ...base,
      clock: later.clock,
      alerts: { reconcile: async (_source, current) => void alerts.splice(0, alerts.length, ...current) },
      database: failingChanges(base.database, failing),
      ports: failingPorts(ports, failing),
    });
    return { keeper, publications };
  };
  const progress: Progress[] = [];
  return {
    later,
    alerts,
    ...nouns,
    services,
    edge,
    faults,
    exposed,
    start,
    progress,
    call: callerOf(base, { publications: start().publications, progress }),
    there: () => thereOf(base.database, { services, served, nouns, faults }),
    clock,
    onServed: (listen: (proxy: Proxy) => void) => void served.listeners.push(listen),
    makeProxy: (hostname: string, target_url: string) =>
      nouns.proxies.create({ ...proxySettings.parse({ target_url }), hostname }, { principal: admin }),
    async [Symbol.asyncDispose]() {
      await nouns.certificates[Symbol.asyncDispose]();
      await base.database[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What is put off for a minute or more waits until a test says so. */
function laterThan(clock: Clock) {
  const waiting = new Map<symbol, { ms: number; run: () => void }>();
  const after: Clock['after'] = (ms, run) => {
    if (ms < MINUTE) return clock.after(ms, run);
    const key = Symbol('timer');
    waiting.set(key, { ms, run });
    return { cancel: () => void waiting.delete(key) };
  };
  return {
    clock: { ...clock, after },
    /** Until then, in milliseconds. */
    waits: () => [...waiting.values()].map(({ ms }) => ms),
    passes() {
      const due = [...waiting.values()];
      waiting.clear();
      for (const { run } of due) run();
    },
  };
}

interface Base {
  database: Database;
  sealer: Sealer;
  clock: Clock;
  events: Events;
  log: Log;
}

/** What the gateway would serve. */
class Served extends Map<string, Proxy> {
  readonly listeners: ((proxy: Proxy) => void)[] = [];

  prepare({ putProxies = [], removeProxies = [] }: RoutingChange) {
    return {
      publish: () => {
        for (const proxy of putProxies) this.#put(proxy);
        for (const [hostname, { id }] of this) if (removeProxies.includes(id)) this.delete(hostname);
      },
    };
  }

  #put(proxy: Proxy): void {
    if (!proxy.enabled) return void this.delete(proxy.hostname);
    this.set(proxy.hostname, proxy);
    for (const listen of this.listeners) listen(proxy);
  }
}

async function openNouns(
  base: Base,
  { served, edge, caFile }: { served: Served; edge: ReturnType<typeof createEdge>; caFile: string },
) {
  const proxies = new ProxyService({
    ...base,
    own: () => [],
    controlHosts: ['localhost'],
    issuers: ['ca'],
    publisher: served,
    targetStates: () => undefined,
    services: { placeOf: () => ({ stay: undefined, reason: '' }), fault: async () => undefined },
    clientTrust: {
      require() {},
      describe: () => ({ problem: null, authorities: [], revocation_lists: [] }),
    },
  });
  const certificates = await openCertificates({
    ...base,
    caFile,
    controlHosts: ['localhost'],
    servedName: (hostname) => (served.has(hostname) ? hostname : undefined),
    servedHostnames: () => served.keys(),
  });
  const authority = await openAuthority({ ...base, caFile });
  const keepCertificate = async (hostname: string): Promise<string> => {
    const material = await authority.issue(hostname);
    const keep = certificates.keep;
    return (await base.database.change({}, (tx, afterCommit) => keep(tx, afterCommit, material))).id;
  };
  const ca = createCa(base.clock, keepCertificate);
  const parts: Omit<PublicationParts, 'publishing'> = {
    ...base,
    ...ca,
    proxies,
    certificates,
    routes: { ofHostname: async () => [] },
    protection: new ProtectionService({
      proxies,
      routes: { get: never, ofHostname: async () => [], setPolicy: never },
      userIdOf: (name) => (name === 'ann' ? 'usr_1' : undefined),
      usernameOf: () => 'ann',
    }),
    gateway: {
      ask: async () => edge.status,
      watch: () => ({ answeredBy: () => 'gateway', [Symbol.dispose]() {} }),
    },
    addresses: { fault: async () => undefined },
    listeners: () => [],
  };
  return { proxies, certificates, ca, keepCertificate, parts };
}

function callerOf(
  { database, clock, sealer }: Base,
  { publications, progress }: { publications: PublicationService; progress: Progress[] },
) {
  const idempotency = createIdempotencyStore(database, clock, sealer);
  const dispatch = createDispatch({ services: { publications }, log: silentLog, clock, idempotency });
  return async function call(
    name: string,
    input: object,
    principal: Principal = admin,
    signal: AbortSignal = new AbortController().signal,
    // oxlint-disable-next-line typescript/no-explicit-any -- tests look into results of every operation
  ): Promise<any> {
    return dispatch(publicationOperations.find((one) => one.name === name) as AnyOperation, input, {
      principal,
      signal,
      traceId: '0'.repeat(32),
      surface: 'internal',
      clientAddress: undefined,
      progress: (update) => void progress.push(update),
    });
  };
}

/** All that there is. Nothing fails any more. */
async function thereOf(
  { read }: Database,
  {
    services,
    served,
    nouns,
    faults,
  }: {
    services: Awaited<ReturnType<typeof setUpServices>>;
    served: Served;
    nouns: Awaited<ReturnType<typeof openNouns>>;
    faults: Faults;
  },
) {
  faults.fails = () => false;
  const rows = await read.selectFrom('publications').select(['hostname', 'state']).execute();
  const proxies = await read.selectFrom('proxies').select('hostname').execute();
  const { fails } = services.faults;
  const atEngine = await services.world();
  services.faults.fails = fails;
  return {
    ...atEngine,
    proxies: proxies.map(({ hostname }) => hostname),
    served: [...served.keys()],
    certificates: [...nouns.certificates.entries()].flatMap(({ names, source }) =>
      names[0] === 'localhost' ? [] : `${names[0]} ${source}`,
    ),
    orders: nouns.ca.open.map(({ document }) => document.names[0]),
    publications: rows.map(({ hostname, state }) => `${hostname} ${state}`),
  };
}

async function never(): Promise<never> {
  throw new Error('not asked here');
}

function createEdge(served: ReadonlyMap<string, Proxy>) {
  const edge = {
    status: 200,
    isOpen: false,
    /** Where the gateway answers a visitor in the place of the service. */
    refused: undefined as number | undefined,
    ask: async () => edge.status,
    visit: async (hostname: string): Promise<Visited> => {
      const proxy = served.get(hostname);
      const refused = proxy ? edge.refused : 421;
      if (refused !== undefined) return { status: refused, by: 'gateway' };
      return proxy?.auth.kind === 'none' || edge.isOpen
        ? { status: edge.status, by: 'target' }
        : { status: 302, by: 'protection' };
    },
  };
  return edge;
}

/** Gives each hostname that it is asked for a certificate, at once, or keeps its order open. */
const MAX_REQUESTS = 1000;

function createCa(clock: Clock, keepCertificate: (hostname: string) => Promise<string>) {
  const open: { id: string; document: { names: string[]; replaces?: string } }[] = [];
  const ca = {
    open,
    isRefusing: false,
    /** Until then it says when the next attempt is, and nothing else. */
    nextAttemptAt: 0,
    requests: 0,
    ordering: {
      prospect: () => ({ issuer: 'ca' }),
      async request({ names }: { names: readonly string[] }) {
        const order = { id: newId('ord'), document: { names: [...names] } };
        ca.requests++;
        if (ca.requests > MAX_REQUESTS) throw new Error('asked without a pause');
        if (clock.now() < ca.nextAttemptAt)
          return {
            id: order.id,
            state: 'waiting',
            next_attempt_at: toTimestamp(ca.nextAttemptAt),
            timeline: [{ event: 'waiting', text: 'the limit of the CA is reached' }],
          };
        open.push(order);
        const timeline = [{ event: 'failed', text: 'the CA said no', ca_words: 'CAA forbids it' }];
        if (ca.isRefusing) return { id: order.id, state: 'waiting', next_attempt_at: 'later', timeline };
        await keepCertificate(names[0] ?? '');
        open.splice(open.indexOf(order), 1);
        return { id: order.id, state: 'issued', timeline: [] };
      },
    } as unknown as PublicationParts['ordering'],
    issuance: {
      orders: { openOfNames: async () => [...open] },
      async cancel(id: string) {
        open.splice(0, open.length, ...open.filter((order) => order.id !== id));
        return undefined;
      },
    } as unknown as PublicationParts['issuance'],
  };
  return ca;
}

type Failing = <Result>(what: string, work: () => Promise<Result>) => Promise<Result>;

/** Counts each call, whatever others are within it. */
const failingBy =
  (faults: Faults): Failing =>
  async (what, work) => {
    const number = ++faults.calls;
    const failAt = (when: When) => {
      if (faults.fails({ number, what, when }))
        throw new AppError('UPSTREAM_FAILED', `injected ${when} ${what}`);
    };
    failAt('before');
    const result = await work();
    failAt('after');
    return result;
  };

function failingPorts(ports: PublishingPorts, failing: Failing): PublishingPorts {
  const wrapped = Object.entries(ports).map(([noun, port]) => [
    noun,
    Object.fromEntries(
      Object.entries(port as Record<string, (...args: unknown[]) => unknown>).map(([verb, run]) => [
        verb,
        SYNCHRONOUS.has(`${noun} ${verb}`)
          ? run
          : (...args: unknown[]) => failing(`${noun} ${verb}`, async () => run(...args)),
      ]),
    ),
  ]);
  return Object.fromEntries(wrapped) as PublishingPorts;
}
const SYNCHRONOUS: ReadonlySet<string> = new Set([
  'protection check',
  'certificates prospect',
  'certificates of',
]);

const failingChanges = (database: Database, failing: Failing): Database => ({
  read: database.read,
  change: (context, work) => failing('store', () => database.change(context, work)),
  [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
});
