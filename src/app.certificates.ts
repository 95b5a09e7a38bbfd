/**
 * The part of the composition root that makes certificates and what gets them: the shelf of those that are there, their
 * issuance, who watches over their end, and what may be asked of all of it.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { AlertService } from './alerts/service.ts';
import { dnsSettings, issuanceSettings } from './app.settings.ts';
import type { Challenges } from './certificates/challenges.ts';
import { createDns, type Dns } from './certificates/dns/providers.ts';
import { Issuance } from './certificates/issuance.ts';
import type { IssuanceSettings } from './certificates/issuers.ts';
import { OnDemand } from './certificates/on-demand.ts';
import { OrderingService } from './certificates/ordering.ts';
import { type Identity, payerOf } from './certificates/payer.ts';
import { createPreflight } from './certificates/preflight.ts';
import { type CertificateService, openCertificates } from './certificates/service.ts';
import { watchOver } from './certificates/watch.ts';
import type { CertificateWish } from './certificates/wishes.ts';
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import type { Events } from './core/events.ts';
import { system } from './core/principal.ts';
import type { Log } from './core/record.ts';
import type { Sealer } from './core/sealer.ts';
import type { Gateway } from './gateway/gateway.ts';
import type { Proxy } from './proxies/schema.ts';
import type { Database } from './store/database.ts';
import type { TokenService } from './tokens/service.ts';
import type { Person } from './users/person.ts';

/** Its certificate is for loopback addresses too, which no CA certifies; clients here trust the internal CA. */
const THIS_MACHINE = 'localhost';

type Table = ReturnType<Gateway['snapshot']>['table'];

export interface CertificationParts {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly events: Events;
  readonly log: Log;
  readonly dataDir: string;
  readonly caFile: string;
  /** For services that settings name. */
  readonly fetch: typeof globalThis.fetch;
  readonly tokens: TokenService;
  readonly alerts: Pick<AlertService, 'reconcile'>;
  /** What is served now. */
  readonly table: () => Table;
  readonly userOf: (id: string) => Pick<Person, 'hostnames'> | undefined;
}

export async function openCertification(
  config: Config,
  base: CertificationParts,
  stack: AsyncDisposableStack,
) {
  const { clock, table, alerts } = base;
  const servedName = (hostname: string) => table().proxyOf(hostname)?.hostname;
  const certificates = stack.use(
    await openCertificates({
      ...base,
      controlHosts: config.control.hosts,
      servedName,
      servedHostnames: () => table().hostnames(),
      // It is made after those who ask it.
      onDemand: {
        certificate: (...question) => onDemand.certificate(...question),
        seen: (...name) => onDemand.seen(...name),
        isLeft: (hostname) => onDemand.isLeft(hostname),
      },
    }),
  );
  const settings = issuanceSettings(config);
  const payer = (principalId: string) => payerOf(principalId, identitiesOf(base));
  const dns = dnsFor(config, base);
  const dns01 = config.dns.length > 0 ? dns : undefined;
  const made = { settings, certificates, payer, dns, dns01, onDemand: () => onDemand };
  const issuance = stack.use(issuanceFor(config, base, made));
  const onDemand: OnDemand = stack.use(
    new OnDemand({
      ...base,
      rule: settings.onDemand,
      issuance,
      shelf: certificates,
      dns01,
      choiceOf: (wildcard) => table().proxyOf(wildcard)?.certificate.on_demand,
    }),
  );
  const watch = stack.use(watchOver(base, { issuance, certificates, alerts: watched(config, alerts) }));
  const ordering = new OrderingService({
    clock,
    issuance,
    certificates,
    dns01,
    servedName,
    onDemand,
    payer: (principal) => payer(principal.id),
    ownerOf: (name) => payerAt(base, payer, name),
    preflight: createPreflight({
      clock,
      dns,
      identitiesOf: async (issuer, signal) =>
        (await issuance.clientOf(issuer).directory({ signal })).meta.caaIdentities,
      accountUrlOf: (issuer) => issuance.accountUrlOf(issuer),
      usageOf: (limit) => issuance.orders.usageOf(limit),
      placeProbe: issuance.challenges.placeProbe,
    }),
  });
  const issuers = settings.issuers.map(({ name }) => name);
  return { certificates, issuance, onDemand, watch, ordering, issuers };
}

/** Turned off, nothing of certificates is wrong: what an earlier start raised is over. */
const watched = ({ alerts: { defaults } }: Config, alerts: CertificationParts['alerts']) => ({
  reconcile: (source: string, current: Parameters<typeof alerts.reconcile>[1]) =>
    alerts.reconcile(source, defaults.certificates ? current : []),
});

/** They are made after the gateway, which asks for them. */
export const answersToCas = (challenges: () => Challenges) => ({
  acmeChallenge: (hostname: string, token: string) => challenges().http(hostname, token),
  tlsChallenges: {
    get isAskedByTls() {
      return challenges().isAskedByTls;
    },
    tls: (servername: string) => challenges().tls(servername),
  },
});

interface Made {
  readonly settings: IssuanceSettings;
  readonly certificates: CertificateService;
  readonly payer: (principalId: string) => string | undefined;
  readonly dns: Dns;
  /** By which wildcards are shown to be ours; undefined: no provider is set up. */
  readonly dns01: Dns | undefined;
  readonly onDemand: () => OnDemand;
}

function issuanceFor(config: Config, base: CertificationParts, made: Made): Issuance {
  const { certificates, payer, onDemand, ...rest } = made;
  const { table } = base;
  return new Issuance({
    ...base,
    ...rest,
    wishOf: (name) => wishOf(table().proxyOf(name)),
    payerOf: (name) => payerAt(base, payer, name),
    // What has a proxy of its own, or is ours, is nobody's demand.
    mayRenew: (name) => certificates.servedAs(name) === name || onDemand().mayRenew(name),
    shelf: certificates,
    wanted: () =>
      [...config.control.hosts, ...secureHostnames(table()), ...onDemand().wanted()].filter(
        (name) => name !== THIS_MACHINE,
      ),
    // The lock of the data directory is ours.
    isAlone: true,
  });
}

function payerAt({ table }: CertificationParts, payer: Made['payer'], hostname: string): string | undefined {
  const owner = table().proxyOf(hostname)?.owner;
  return owner === undefined ? undefined : payer(owner);
}

function wishOf(proxy: Proxy | undefined): CertificateWish | undefined {
  if (!proxy) return undefined;
  const { issuers, key_type: keyType, profile } = proxy.certificate;
  return { issuers, keyType, profile };
}

/** Of tokens and of users; a client that acts for itself is confined to nothing. */
const identitiesOf =
  ({ tokens, userOf }: CertificationParts) =>
  (id: string): Identity | undefined => {
    if (id === system.id || id.startsWith('client:')) return { isConfined: false, madeBy: undefined };
    const user = userOf(id);
    return user ? { isConfined: user.hostnames !== undefined, madeBy: undefined } : tokens.identityOf(id);
  };

/** Nobody is asked before an order or a question needs it. */
const dnsFor = (config: Config, { clock, dataDir, fetch }: CertificationParts): Dns =>
  createDns({
    ...dnsSettings(config),
    scratchDir: join(dataDir, 'scratch-dns'),
    network: { clock, randomBytes },
    fetch,
    environment: process.env,
  });

/** Those of enabled proxies that answer over HTTPS. */
function* secureHostnames(table: Table): Generator<string> {
  for (const hostname of table.hostnames())
    if (table.proxyOf(hostname)?.enable_https === true) yield hostname;
}
