/** The part of the composition root that gives publications what they ask of the others. */
import type { AlertService } from './alerts/service.ts';
import type { CertificateService } from './certificates/service.ts';
import type { Issuance } from './certificates/issuance.ts';
import type { OrderingService } from './certificates/ordering.ts';
import { hasEnded } from './certificates/cancelling.ts';
import { type Clock, MINUTE, pause, SECOND } from './core/clock.ts';
import { AppError } from './core/errors.ts';
import { system } from './core/principal.ts';
import type { Log } from './core/record.ts';
import type { Gateway } from './gateway/gateway.ts';
import type { ProtectionService } from './protection/service.ts';
import type { ProxyService } from './proxies/service.ts';
import { serviceOf } from './proxies/target-url.ts';
import type {
  CertificatesPort,
  EdgePort,
  ProtectionPort,
  ProxiesPort,
  PublishingPorts,
  ServicesPort,
} from './publications/ports.ts';
import { protectionOf } from './publications/schema.ts';
import { PublicationService } from './publications/service.ts';
import { visit } from './publications/visit.ts';
import type { RouteService } from './routes/service.ts';
import type { ServiceAddresses } from './services/addresses.ts';
import type { ServiceKeeper } from './services/service.ts';
import type { Database } from './store/database.ts';

/** For the order of a publication, which may take several attempts. */
const CERTIFICATE_MS = 5 * MINUTE;
const ASK_AGAIN_MS = SECOND;
/** For the CA to say whether it has signed what is not wanted any more. */
const CANCEL_MS = MINUTE;

export interface PublicationParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly gateway: Pick<Gateway, 'ask' | 'watch'>;
  readonly proxies: ProxyService;
  readonly routes: Pick<RouteService, 'ofHostname'>;
  readonly protection: Pick<ProtectionService, 'check' | 'protect'>;
  readonly certificates: CertificateService;
  readonly issuance: Pick<Issuance, 'cancel'> & { readonly orders: Pick<Issuance['orders'], 'openOfNames'> };
  readonly ordering: Pick<OrderingService, 'prospect' | 'request'>;
  readonly addresses: Pick<ServiceAddresses, 'fault'>;
  readonly publishing: Publishing;
  readonly listeners: () => readonly {
    readonly name: string;
    readonly at: { readonly address: string; readonly port: number } | undefined;
  }[];
}

export const openPublications = (
  parts: PublicationParts & { readonly alerts: Pick<AlertService, 'reconcile'> },
  keeper: ServiceKeeper,
): PublicationService => new PublicationService({ ...parts, ports: publishingPorts(parts, keeper) });

export const publishingPorts = (parts: PublicationParts, keeper: ServiceKeeper): PublishingPorts => ({
  services: servicesPort(parts, keeper),
  proxies: proxiesPort(parts),
  protection: protectionPort(parts),
  certificates: certificatesPort(parts),
  edge: edgePort(parts),
});

/** What is gone already need not go. */
async function unlessGone(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (cause) {
    if (!(cause instanceof AppError && cause.code === 'NOT_FOUND')) throw cause;
  }
}

/** What this process knows of where services of publications can be published. */
export interface Publishing {
  /** Where the engine is; undefined: here. */
  readonly machine: string | undefined;
  /** Of `services.bind_addresses`. */
  readonly addresses: readonly string[];
}

const EVERY_ADDRESS = '0.0.0.0';
const LOOPBACK = /^(?:127\.|::1$)/;

async function addressFor(
  { machine, addresses }: Publishing,
  { engine }: Pick<ServiceKeeper, 'engine'>,
): Promise<string> {
  const state = await engine.ping();
  // It has one answer; whether that is allowed the policy says, which a broker may have.
  if (state.connected && state.swarm === true) return EVERY_ADDRESS;
  if (machine === undefined) return '127.0.0.1';
  const reached = addresses.filter((address) => !LOOPBACK.test(address));
  const [address] = reached.includes(machine) ? [machine] : reached;
  if (address !== undefined) return address;
  throw new AppError(
    'PRECONDITION_FAILED',
    `the engine is on another machine, ${machine}: what is published at its loopback is out of reach; list an address of it in services.bind_addresses, such as ${EVERY_ADDRESS}, and let its firewall keep others away`,
  );
}

const servicesPort = ({ database, publishing }: PublicationParts, keeper: ServiceKeeper): ServicesPort => ({
  address: () => addressFor(publishing, keeper),
  async idOf(name) {
    const query = database.read.selectFrom('services').select('id').where('name', '=', name);
    return (await query.executeTakeFirst())?.id;
  },
  prospect: (name, settings) => keeper.prospect(name, settings),
  fetchImage: (image, mode, caller) => keeper.fetchImage(image, mode, caller),
  create: ({ id, name, settings, healthyWithinMs }, { principal, signal, progress }) =>
    keeper.create(
      { id, name, settings, start: true, pull: 'never', healthy_within_ms: healthyWithinMs },
      { principal, signal, progress },
    ),
  async users(name) {
    let users: string[] = [];
    await unlessGone(keeper.users(name).then((found) => (users = found)));
    return users;
  },
  remove: (name, id, volumes) =>
    unlessGone(keeper.delete(name, { id, force: true, deleteVolumes: volumes }, { principal: system })),
});

function proxiesPort({ proxies, routes, database }: PublicationParts): ProxiesPort {
  const idOf = async (hostname: string) => {
    const query = database.read.selectFrom('proxies').select('id').where('hostname', '=', hostname);
    return (await query.executeTakeFirst())?.id;
  };
  return {
    check: (wanted, by) => proxies.check(wanted, by),
    create: (wanted, { principal }, id) => proxies.create(wanted, { principal }, id),
    enable: (hostname, { principal }) =>
      proxies.update(hostname, { enabled: true }, undefined, { principal }),
    idOf,
    routes: async (hostname) =>
      (await routes.ofHostname(hostname, { principal: system })).map(({ id }) => id),
    // One that can't be read too.
    remove: (hostname, id) => unlessGone(proxies.delete(hostname, undefined, { principal: system }, { id })),
  };
}

const protectionPort = ({ protection }: PublicationParts): ProtectionPort => ({
  check: ({ allow }) => protection.check(allow),
  protect: (hostname, wish, { principal }) =>
    protection.protect({ hostname, route: undefined, version: undefined }, protectionOf(wish), { principal }),
});

type AskedOrder = Awaited<ReturnType<OrderingService['request']>>;

const wordsOf = ({ timeline }: AskedOrder): string => {
  const { text, ca_words, remedy } = timeline.at(-1) ?? {};
  return [text, ca_words, remedy].filter((part) => part !== undefined).join(': ');
};

const nextAttemptOf = ({ next_attempt_at: at }: AskedOrder): number =>
  at === undefined ? 0 : Date.parse(at);

function refuseFailed(order: AskedOrder): void {
  const { id, state, timeline, next_attempt_at } = order;
  const isFailed = timeline.at(-1)?.event === 'failed' && next_attempt_at !== undefined;
  if (state === 'abandoned' || isFailed)
    throw new AppError('UPSTREAM_FAILED', `the order ${id} failed: ${wordsOf(order)}`);
}

function notInTime(order: AskedOrder): AppError {
  const { id, next_attempt_at: at } = order;
  const next = at === undefined ? '' : `, its next attempt is at ${at}`;
  return new AppError(
    'TIMEOUT',
    `the order ${id} is not done within ${CERTIFICATE_MS} ms${next}: ${wordsOf(order)}`,
  );
}

function certificatesPort({ certificates, ordering, issuance, clock }: PublicationParts): CertificatesPort {
  const prospect: CertificatesPort['prospect'] = (hostname, choice) => {
    const there = certificates.serving(hostname);
    if (there) return { kind: 'there', id: there.id };
    const { issuer, why } = ordering.prospect(hostname, choice.issuers);
    return issuer === undefined ? { kind: 'internal', why } : { kind: 'ordered', issuer };
  };
  const of = (hostname: string) =>
    [...certificates.entries()]
      .filter(({ names, source }) => source !== 'imported' && names.length === 1 && names[0] === hostname)
      .map(({ id }) => id);
  return {
    prospect,
    of,
    async obtain(hostname, choice, { principal, signal, progress }) {
      // The one of the CA of this system, which is made beside the change of a proxy, is waited for in any case.
      await certificates.ensure([hostname]);
      if (prospect(hostname, choice).kind !== 'ordered') return;
      const until = clock.now() + CERTIFICATE_MS;
      while (!certificates.serving(hostname)) {
        const order = await ordering.request({ names: [hostname] }, { principal, signal, progress });
        if (order.state === 'issued') return;
        signal.throwIfAborted();
        const nextAt = Math.max(clock.now() + ASK_AGAIN_MS, nextAttemptOf(order));
        refuseFailed(order);
        if (nextAt >= until) throw notInTime(order);
        // Asked before that, it would answer the same at once.
        await pause(clock, nextAt - clock.now(), signal);
        signal.throwIfAborted();
      }
    },
    async discard(hostname, kept) {
      // One that was being made while its proxy went would stay.
      await certificates.settled();
      for (const { id, document } of await issuance.orders.openOfNames([hostname])) {
        const isRenewal = kept.length > 0 && document.replaces !== undefined;
        if (document.names.length !== 1 || isRenewal) continue;
        const ended = await issuance.cancel(id, AbortSignal.timeout(CANCEL_MS));
        if (ended && !hasEnded(ended))
          throw new AppError('CONFLICT', `the CA is asked whether it has signed the order ${id} already`);
      }
      // Any of these may have come in the place of one that was there before.
      if (kept.length > 0) return;
      for (const id of of(hostname))
        await unlessGone(certificates.remove({ id, version: undefined, force: true }, { principal: system }));
    },
  };
}

const edgePort = ({ gateway, addresses, listeners }: PublicationParts): EdgePort => ({
  async ask(proxy, path, signal) {
    const service = serviceOf(proxy.target_url);
    // What is disabled is not followed: where it is has to be asked for.
    const fault = service && (await addresses.fault(service));
    if (fault !== undefined) throw new AppError('PRECONDITION_FAILED', fault);
    return gateway.ask(proxy, path, signal);
  },
  async visit(hostname, path, signal) {
    const at = listeners().find(({ name }) => name === 'https')?.at;
    if (!at) throw new AppError('UNAVAILABLE', 'this process does not listen for https');
    return visit(at, { hostname, path, watch: (end) => gateway.watch(end) }, signal);
  },
});
