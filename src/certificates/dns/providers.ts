/**
 * All that certificates need of the DNS, behind one value: records of DNS-01 at whoever hosts the zone, waiting until
 * the world sees them, and what a pre-flight reads. Made once by the composition root; called by whoever issues and by
 * `explain_certificate`. It keeps nothing: what has to outlive a crash is a `ChallengeRecord`, which the caller stores.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { createCloudflare } from './adapters/cloudflare.ts';
import { createExec } from './adapters/exec.ts';
import { createRfc2136 } from './adapters/rfc2136.ts';
import { createRoute53 } from './adapters/route53.ts';
import { createWebhook } from './adapters/webhook.ts';
import { type AddressReport, readAddresses } from './addresses.ts';
import { type CaaSet, readCaa } from './caa.ts';
import { type ServerView, type Wait, waitUntilVisible } from './propagation.ts';
import type { DnsProvider } from './provider.ts';
import { createResolver, type Resolver } from './resolver.ts';
import { type DnsProviderSettings, parseServer } from './schema.ts';
import { createSecretReader, type ReadSecret } from './secret.ts';
import { DNS_PORT, type DnsServer, type Network } from './transport.ts';
import { nearestZone, ownerOf, zoneOf } from './zone.ts';

const MAX_NAME = 255;
const MAX_VALUE = 255;
/** Letters, digits, hyphens and underscores: what every provider, URL and program takes as it is. */
const PLAIN_NAME = /^[a-z0-9_][a-z0-9_-]{0,62}(?:\.[a-z0-9_-]{1,63})*$/;
const name = z.string().max(MAX_NAME).regex(PLAIN_NAME);

/** Where one value belongs. Plain data: to be stored before it is published, so that a crash leaves nothing behind. */
export const challengeRecordSchema = z.strictObject({
  /** As it was asked for: `_acme-challenge.app.example.com`. */
  asked: name,
  /** What that is an alias of, or the same. */
  name,
  zone: name,
  /** Of the settings: the zone whose provider has it. */
  provider_zone: name,
  /** A digest in base64url (RFC 8555 §8.4). */
  value: z
    .string()
    .max(MAX_VALUE)
    .regex(/^[A-Za-z0-9_-]+$/),
});
export type ChallengeRecord = z.output<typeof challengeRecordSchema>;

export interface Dns {
  /** Whether DNS-01 is for names here that are no wildcards: a provider has the zone, and it is not for wildcards only. */
  serves(hostname: string): boolean;
  /** Whether before other challenges. */
  comesFirst(hostname: string): boolean;
  /** The zone of the settings whose provider has the record of this name; undefined: none, unless CNAME leads to one. */
  providerOf(hostname: string): { readonly provider: string; readonly zone: string } | undefined;
  /** Longest wait for name servers. */
  readonly propagationTimeoutMs: number;
  /**
   * Finds where the value belongs, without writing: aliases are followed, the zone is found by its SOA record.
   * @throws AppError PRECONDITION_FAILED when no provider is set for it, UNAVAILABLE or TIMEOUT when the DNS can't be asked.
   */
  locate(record: { name: string; value: string }, signal: AbortSignal): Promise<ChallengeRecord>;
  /** Idempotent; errors as `DnsProvider`. */
  publish(record: ChallengeRecord, signal: AbortSignal): Promise<void>;
  /** Idempotent: takes this one value away, whoever of us wrote it, before or after a crash. */
  withdraw(record: ChallengeRecord, signal: AbortSignal): Promise<void>;
  /** Until every name server of the zone answers with it. @throws AppError TIMEOUT that says which do not. */
  waitUntilVisible(record: ChallengeRecord, wait: Omit<Wait, 'timeoutMs'>): Promise<readonly ServerView[]>;
  readAddresses(hostname: string, signal: AbortSignal): Promise<AddressReport>;
  readCaa(name: string, signal: AbortSignal): Promise<CaaSet>;
}

export interface DnsOptions {
  readonly providers: readonly DnsProviderSettings[];
  /** As in the setting `dns_resolvers`, or the system's (`getServers` of node:dns). */
  readonly resolvers: readonly string[];
  readonly propagationTimeoutMs: number;
  /** Folder for what programs of `exec` work in; made when it is needed. */
  readonly scratchDir: string;
  readonly network: Network;
  readonly fetch: typeof globalThis.fetch;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Of the authoritative servers; other than 53 in tests only. */
  readonly authorityPort?: number | undefined;
}

export function createDns(options: DnsOptions): Dns {
  const { network, propagationTimeoutMs: timeoutMs, authorityPort: port = DNS_PORT } = options;
  const resolver = createResolver(network, options.resolvers.map(serverOf));
  const readSecret = createSecretReader(options.environment);
  const byZone = new Map<string, DnsProvider>();
  options.providers.forEach((settings, index) => {
    const scratchDir = join(options.scratchDir, `dns-${index}`);
    const provider = createProvider(settings, { ...options, resolver, readSecret, scratchDir });
    for (const zone of settings.zones) byZone.set(zone, provider);
  });
  const inTurn = createTurns();
  const settingsOf = (hostname: string) => {
    const zone = nearestZone(`_acme-challenge.${hostname}`, [...byZone.keys()]);
    const settings = options.providers.find(({ zones }) => zones.some((one) => one === zone));
    return zone === undefined || !settings ? undefined : { zone, ...settings };
  };

  const providerOf = ({ provider_zone: zone }: ChallengeRecord): DnsProvider => {
    const provider = byZone.get(zone);
    if (provider) return provider;
    throw new AppError('PRECONDITION_FAILED', `no DNS provider is set for the zone ${zone} any more`);
  };

  return {
    serves: (hostname) => !['wildcards', undefined].includes(settingsOf(hostname)?.use),
    comesFirst: (hostname) => settingsOf(hostname)?.use === 'first',
    providerOf: (hostname) => settingsOf(hostname),
    propagationTimeoutMs: timeoutMs,
    async locate({ name: asked, value }, signal) {
      const owner = await ownerOf(resolver, asked, signal);
      if (!PLAIN_NAME.test(owner)) throw noPlainName(asked, owner);
      const providerZone = nearestZone(owner, [...byZone.keys()]);
      if (providerZone === undefined) throw noProvider(asked, owner);
      const { name: zone } = await zoneOf(resolver, owner, signal);
      return challengeRecordSchema.parse({ asked, name: owner, zone, provider_zone: providerZone, value });
    },
    publish: (record, signal) => inTurn(record.zone, () => providerOf(record).publish(record, signal)),
    withdraw: (record, signal) => inTurn(record.zone, () => providerOf(record).withdraw(record, signal)),
    waitUntilVisible: (record, wait) =>
      waitUntilVisible({ network, resolver, port }, record, { ...wait, timeoutMs }),
    readAddresses: (hostname, signal) => readAddresses(resolver, hostname, signal),
    readCaa: (of, signal) => readCaa(resolver, of, signal),
  };
}

type Parts = Pick<DnsOptions, 'network' | 'fetch' | 'scratchDir'> & {
  readonly resolver: Resolver;
  readonly readSecret: ReadSecret;
};

function createProvider(settings: DnsProviderSettings, parts: Parts): DnsProvider {
  const { network, fetch, readSecret } = parts;
  const { clock } = network;
  switch (settings.provider) {
    case 'rfc2136':
      return createRfc2136(settings, parts);
    case 'cloudflare':
      return createCloudflare(settings, { clock, fetch, readSecret });
    case 'route53':
      return createRoute53(settings, { clock, fetch, readSecret });
    case 'webhook':
      return createWebhook(settings, { clock, fetch, readSecret });
    case 'exec':
      return createExec(settings, { clock, scratchDir: parts.scratchDir });
  }
}

function serverOf(text: string): DnsServer {
  const server = parseServer(text);
  if (!server) throw new Error(`${text} is no address of a resolver`);
  return server;
}

const noPlainName = (asked: string, owner: string): AppError =>
  new AppError(
    'PRECONDITION_FAILED',
    `${cleanText(asked)} is an alias of ${cleanText(owner)} by CNAME, which is no name for a record: only letters, digits, hyphens and underscores are taken, and no hyphen at the beginning`,
  );

function noProvider(asked: string, owner: string): AppError {
  const by = owner === asked ? '' : `, which it is an alias of by CNAME`;
  return new AppError(
    'PRECONDITION_FAILED',
    `no DNS provider is set for ${cleanText(owner)}${by}: name its zone in the setting dns, or delegate ${cleanText(asked)} by a CNAME record into a zone that has one`,
  );
}

/** Changes of one zone go one after the other: hosts of zones refuse, or worse mix up, what overlaps. */
function createTurns() {
  const last = new Map<string, Promise<unknown>>();
  return async <T>(zone: string, work: () => Promise<T>): Promise<T> => {
    const before = last.get(zone) ?? Promise.resolve();
    const own = before.then(work);
    const settled = own.catch(() => undefined); // Told to who asked; the next one runs all the same.
    last.set(zone, settled);
    try {
      return await own;
    } finally {
      if (last.get(zone) === settled) last.delete(zone);
    }
  };
}
