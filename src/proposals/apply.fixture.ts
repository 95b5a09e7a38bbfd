/** Labels that are applied, over real proxies and whereabouts on a real store, with an engine in memory that can be away. */
import { openProposals } from '../app.proposals.ts';
import { createSealer } from '../config/secrets.ts';
import type { AuditTrail } from '../core/audit.ts';
import { ManualClock, MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { createEvents } from '../core/events.ts';
import type { LogRecord } from '../core/record.ts';
import { type Proxy, proxySettings } from '../proxies/schema.ts';
import { ProxyService } from '../proxies/service.ts';
import { serviceOf } from '../proxies/target-url.ts';
import type { RoutingChange } from '../routes/schema.ts';
import { ServiceAddresses } from '../services/addresses.ts';
import { createMemoryEngine } from '../services/engine.memory.ts';
import { guard } from '../services/guard.ts';
import { policySchema } from '../services/policy.ts';
import { admin, IMAGE } from '../services/services.fixture.ts';
import type { Database } from '../store/database.ts';
import { openSqlite } from '../store/sqlite.ts';
import { eventually } from '../../test/support/eventually.ts';
import { applyLimits } from './apply.ts';
import { ledByLabel } from './record.ts';

export const HOST = 'a.apps.example.com';
export const rule = { key: 'ohp.hostname', hostnames: ['*.apps.example.com'], keep_ms: 10 * MINUTE };

/** Time that passes between two questions of a test: enough for a look, or for most of what a look waits for. */
const STEP_MS: number = applyLimits.paceMs;
const LONG_STEP_MS = rule.keep_ms / 2;

/** What the gateway would serve. */
class Served extends Map<string, Proxy> {
  onChange = () => {};
  prepare({ putProxies = [], removeProxies = [] }: RoutingChange) {
    return {
      publish: () => {
        for (const proxy of putProxies) this.set(proxy.hostname, proxy);
        for (const [hostname, { id }] of this) if (removeProxies.includes(id)) this.delete(hostname);
        this.onChange();
      },
    };
  }
}

interface SetUp {
  rules?: object[];
  /** Called before each change that applying labels makes; what it throws is what the change throws. */
  beforeChange?: () => void;
  trail?: AuditTrail;
}

/** Several proxies and containers over one store, as one process has them. */
export async function setUpLabels({ rules = [rule], beforeChange, trail }: SetUp = {}) {
  const clock = new ManualClock();
  const records: LogRecord[] = [];
  const log = { enabled: () => true, write: (record: LogRecord) => void records.push(record) };
  const { engine, ...machine } = setUpEngine(clock);
  const database = await openSqlite(':memory:', clock, log);
  const served = new Served();
  const find = (name: string) => ledByLabel(database.read, name);
  const addresses = new ServiceAddresses({ engine, clock, log, find });
  served.onChange = () =>
    addresses.follow([...served.values()].flatMap(({ target_url }) => serviceOf(target_url) ?? []));
  const base = { database, clock, log, events: createEvents(), sealer: createSealer(Buffer.alloc(32, 1)) };
  const proxies = setUpProxies(base, served, addresses);
  const failing: Database = {
    ...database,
    change(context, work) {
      beforeChange?.();
      return database.change(context, work);
    },
  };
  const failingProxies = {
    check: proxies.check.bind(proxies),
    create(...args: Parameters<ProxyService['create']>) {
      beforeChange?.();
      return proxies.create(...args);
    },
    delete(...args: Parameters<ProxyService['delete']>) {
      beforeChange?.();
      return proxies.delete(...args);
    },
  };
  /** As another process would, on the same store and engine. */
  const open = (more: object[] = rules) => {
    const services = policySchema.parse({ labels: 'propose', apply_labels: more });
    const parts = { ...base, database: failing, engine, proxies: failingProxies, addresses, own, trail };
    return openProposals({ services, docker: {}, broker: {} } as never, parts);
  };
  const proposals = open();
  return {
    ...machine,
    ...watching(clock, { ...machine, served, addresses }),
    clock,
    records,
    database,
    served,
    proxies,
    open,
    proposals,
    list: () => proposals.list({ principal: admin }),
    makeProxy: (hostname: string) => proxies.create({ ...plain, hostname }, { principal: admin }),
    audits: () =>
      records.filter(({ kind }) => kind === 'audit').map(({ message, hostname }) => `${message} ${hostname}`),
    async [Symbol.asyncDispose]() {
      await proposals[Symbol.asyncDispose]();
      await addresses[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

const own = () => [{ address: '0.0.0.0', port: 8443 }];
const plain = proxySettings.parse({ target_url: 'http://localhost:1' });

/** Behind its guard, as always. `labels` and `images`: what those of a container, by its id, are instead. */
function setUpEngine(clock: ManualClock) {
  const world = { isAway: false, cut: () => {}, lists: 0 };
  const driver = createMemoryEngine({
    clock,
    images: [IMAGE],
    before(verb) {
      if (verb === 'list') world.lists++;
      if (world.isAway) throw new AppError('UNAVAILABLE', 'it is away');
    },
  });
  const labels = new Map<string, Record<string, string>>();
  const images = new Map<string, string>();
  const list = driver.list.bind(driver);
  driver.list = async (options) =>
    (await list(options)).map((one) => ({
      ...one,
      labels: labels.get(one.id) ?? one.labels,
      image: images.get(one.id) ?? one.image,
    }));
  const guarded = guard(driver, { policy: policySchema.parse({}), sockets: [], local: true });
  const engine = {
    ...guarded,
    async *events({ since, signal }: { since?: number; signal?: AbortSignal } = {}) {
      const cut = new AbortController();
      world.cut = () => cut.abort();
      yield* guarded.events({ since, signal: AbortSignal.any([cut.signal, ...(signal ? [signal] : [])]) });
      if (cut.signal.aborted) throw new AppError('UNAVAILABLE', 'its events were cut');
    },
  };
  const run = async (
    labels: Record<string, string> = { 'ohp.hostname': HOST },
    port = 18_080,
    name = 'a',
  ) => {
    const ports = [{ containerPort: 80, hostPort: port, hostAddress: '127.0.0.1', protocol: 'tcp' as const }];
    const id = driver.addForeign({ name, image: IMAGE, labels, ports, command: ['sleep', '9'] });
    await driver.start(id);
    return id;
  };
  return { world, driver, engine, run, labels, images };
}

type Base = Pick<
  ConstructorParameters<typeof ProxyService>[0],
  'database' | 'clock' | 'log' | 'events' | 'sealer'
>;

const setUpProxies = (base: Base, publisher: Served, services: ServiceAddresses): ProxyService =>
  new ProxyService({
    ...base,
    own,
    controlHosts: ['localhost', 'control.apps.example.com'],
    issuers: [],
    publisher,
    targetStates: () => undefined,
    services,
    clientTrust: { require() {}, describe: () => ({ problem: null, authorities: [], revocation_lists: [] }) },
  });

interface Watched {
  world: { lists: number };
  served: Served;
  addresses: ServiceAddresses;
}

function watching(clock: ManualClock, { world, served, addresses }: Watched) {
  /** Time passes until it is so. */
  const until = <Result>(
    what: string,
    look: () => Result | undefined | Promise<Result | undefined>,
    stepMs = STEP_MS,
  ) =>
    eventually(async () => {
      clock.advance(stepMs);
      return look();
    }, what);
  return {
    until,
    leadsTo(hostname = HOST) {
      const target = serviceOf(served.get(hostname)?.target_url ?? '');
      return target && addresses.placeOf(target).stay?.url;
    },
    isServed: (hostname = HOST) => until(`${hostname} is served`, () => served.get(hostname)),
    isGone: (hostname = HOST) =>
      until(`${hostname} is gone`, () => !served.has(hostname) || undefined, LONG_STEP_MS),
    /** Several looks, and what they set off, are over. */
    async rest() {
      const before = world.lists;
      await until('looks', () => world.lists >= before + 3 || undefined, applyLimits.everyMs / 4);
    },
  };
}
