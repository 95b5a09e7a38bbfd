/**
 * Which CA may be asked for which names, and by which challenges. Pure. What no CA of the world certifies stays with the
 * internal CA, and so does what could not be shown to be ours; the answer says why.
 */
import type { ExternalAccount } from './acme/external-account.ts';
import type { CaLimits, OnDemandBudget, OwnerBudget } from './budget.ts';

export interface Issuer {
  readonly name: string;
  readonly directoryUrl: string;
  /** `mailto:` URLs. */
  readonly contact: readonly string[];
  readonly trustPem?: string | undefined;
  readonly externalAccount?: ExternalAccount | undefined;
  readonly profile?: string | undefined;
  readonly preferredChain?: string | undefined;
  /** Whether it certifies what the world can check, and nothing else. */
  readonly isPublic: boolean;
  readonly limits?: CaLimits | undefined;
}

export interface IssuanceSettings {
  /** In order of preference. */
  readonly issuers: readonly Issuer[];
  /** Why nothing is ordered; undefined: orders are. */
  readonly off: string | undefined;
  /** Of each owner who is confined to hostnames; undefined: none. */
  readonly ownerBudget?: OwnerBudget | undefined;
  /** Undefined: none are ordered on demand. */
  readonly onDemand?: OnDemandBudget | undefined;
}

/**
 * The CA of an order, if it is set up still: the directory tells, for a name may come to mean another CA, as from staging
 * to production.
 */
export function issuerOf(
  { issuer, directory }: { issuer: string; directory?: string | undefined },
  issuers: readonly Issuer[],
): Issuer | undefined {
  return issuers.find(({ name, directoryUrl }) =>
    directory === undefined ? name === issuer : directoryUrl === directory,
  );
}

export const challengeTypes = ['http-01', 'tls-alpn-01', 'dns-01'] as const;
export type ChallengeType = (typeof challengeTypes)[number];

/** Where TXT records can be put. Wildcards are always tried: CNAME records may lead to a zone that has a provider. */
export interface Dns01Port {
  /** Whether a name that is no wildcard may be shown to be ours by DNS-01. */
  serves(hostname: string): boolean;
  /** Whether before the other challenges. */
  comesFirst(hostname: string): boolean;
}

/** Hosts of directories whose CAs certify for the world; names below them too. */
const PUBLIC_CAS = [
  'letsencrypt.org',
  'zerossl.com',
  'pki.goog',
  'goog',
  'buypass.com',
  'buypass.no',
  'ssl.com',
  'digicert.com',
  'sectigo.com',
  'globalsign.com',
  'actalis.com',
  'entrust.net',
];

export function isPublicDirectory(directoryUrl: string): boolean {
  const { hostname } = new URL(directoryUrl);
  return PUBLIC_CAS.some((domain) => hostname === domain || hostname.endsWith(`.${domain}`));
}

/**
 * Domains that nobody can own: no CA of the world may certify a name below them.
 * @see {@link https://www.rfc-editor.org/rfc/rfc6761 | RFC 6761}, RFC 2606, RFC 6762 (.local), RFC 8375 (home.arpa),
 * RFC 7686 (.onion, by other means than these challenges); .internal is reserved by ICANN
 */
const NOT_OF_THE_WORLD = [
  'localhost',
  'test',
  'invalid',
  'example',
  'example.com',
  'example.net',
  'example.org',
  'local',
  'internal',
  'intranet',
  'private',
  'corp',
  'home',
  'lan',
  'home.arpa',
  'onion',
];

/** Why no CA of the world certifies this name; undefined when one may. */
export function whyNotPublic(name: string): string | undefined {
  const bare = name.replace(/^\*\./, '');
  if (!bare.includes('.')) return `${bare} has no domain, so no public CA certifies it`;
  const domain = NOT_OF_THE_WORLD.find((reserved) => bare === reserved || bare.endsWith(`.${reserved}`));
  return domain === undefined
    ? undefined
    : `${domain} is reserved, so no public CA certifies names in it; a private CA can, by acme.directory`;
}

/** The challenges that can show that the name is ours, in the order in which they are tried. */
export function challengesFor(name: string, dns01: Dns01Port | undefined): readonly ChallengeType[] {
  // RFC 8555 §8: of a whole wildcard only the DNS can tell.
  if (name.startsWith('*.')) return dns01 ? ['dns-01'] : [];
  if (dns01?.serves(name) !== true) return ['http-01', 'tls-alpn-01'];
  return dns01.comesFirst(name) ? ['dns-01', 'http-01', 'tls-alpn-01'] : ['http-01', 'tls-alpn-01', 'dns-01'];
}

/** Why this issuer is not asked for this name; undefined when it can be. */
export function whyNot(name: string, issuer: Issuer, dns01: Dns01Port | undefined): string | undefined {
  const reason = issuer.isPublic ? whyNotPublic(name) : undefined;
  if (reason !== undefined) return reason;
  return challengesFor(name, dns01).length > 0
    ? undefined
    : `${name} is a wildcard, which a CA certifies by DNS-01 only, and no DNS provider is set up (the setting dns)`;
}

export interface Choice {
  readonly issuer: Issuer | undefined;
  /** Of each issuer that is not asked. */
  readonly reasons: readonly { readonly issuer: string; readonly why: string }[];
}

/** The first issuer that can be asked for all of the names. */
export function chooseIssuer(
  names: readonly string[],
  { issuers }: Pick<IssuanceSettings, 'issuers'>,
  dns01: Dns01Port | undefined,
): Choice {
  const reasons: { issuer: string; why: string }[] = [];
  for (const issuer of issuers) {
    const why = names.map((name) => whyNot(name, issuer, dns01)).find((reason) => reason !== undefined);
    if (why === undefined) return { issuer, reasons };
    reasons.push({ issuer: issuer.name, why });
  }
  return { issuer: undefined, reasons };
}
