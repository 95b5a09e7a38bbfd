/**
 * What a CA allows in a time, counted here as well, so that an order which it would refuse is not sent: whoever asks on
 * past a limit is held off for longer; and what one owner may use of it, so that the others keep theirs. Pure. What is
 * used up is in `counts.ts`.
 */
import { DAY, HOUR } from '../core/clock.ts';

export interface CaLimits {
  readonly failedValidationsPerNameAndHour: number;
  readonly ordersPerThreeHours: number;
  readonly certificatesPerDomainAndWeek: number;
  readonly duplicatesPerWeek: number;
}

/** @see {@link https://letsencrypt.org/docs/rate-limits/ | Let's Encrypt, Rate Limits} */
export const LETS_ENCRYPT_LIMITS: CaLimits = {
  failedValidationsPerNameAndHour: 5,
  ordersPerThreeHours: 300,
  certificatesPerDomainAndWeek: 50,
  duplicatesPerWeek: 5,
};

/** What may be ordered in the name of one owner, renewals not counted. */
export interface OwnerBudget {
  readonly perDay: number;
  readonly perWeek: number;
}

/** What strangers may have ordered by coming for names. */
export interface OnDemandBudget {
  readonly perWildcardAndDay: number;
  /** Of all wildcards below one registered domain. */
  readonly perDomainAndDay: number;
}

/** When each kind counts: as soon as an order is sent, or only if this comes of it; until then it is taken. */
export const countedWhen = {
  ordered: 'sent',
  owner: 'sent',
  'on-demand': 'sent',
  failed: 'failed',
  'new-in-domain': 'issued',
  'owner-in-domain': 'issued',
  issued: 'issued',
} as const;
export type CountKind = keyof typeof countedWhen;

export interface Limit {
  /** Directory of the CA; empty: whichever is asked. */
  readonly issuer: string;
  readonly kind: CountKind;
  /** What is counted apart: a name, a domain, a set of names; empty: all of the account. */
  readonly subject: string;
  readonly allowed: number;
  readonly withinMs: number;
  readonly what: string;
}

const WEEK = 7 * DAY;
const ORDERS_WINDOW = 3 * HOUR;
/** What is older counts for nobody any more. */
export const COUNTED_MS = WEEK + HOUR;
/** Below which countries give out domains (`co.uk`). */
const CATEGORIES: ReadonlySet<string> = new Set(['ac', 'co', 'com', 'edu', 'gov', 'net', 'org']);

/**
 * The domain that was registered, as far as it can be told without the list of public suffixes: two labels, or three
 * below a category in a country. Where there are others (`or.jp`), it takes several domains for one, and fewer are
 * ordered than would be allowed.
 */
export function registeredDomain(name: string): string {
  const labels = name.replace(/^\*\./, '').split('.');
  const [second = '', top = ''] = labels.slice(-2);
  return labels.slice(top.length === 2 && CATEGORIES.has(second) ? -3 : -2).join('.');
}

export interface Counted {
  readonly names: readonly string[];
  /** The names in one text. */
  readonly subject: string;
  readonly isRenewal: boolean;
  readonly issuer: string;
}

/** All that a new order for these names counts against at the CA. */
export function limitsOf({ names, subject, isRenewal, issuer }: Counted, limits: CaLimits): Limit[] {
  const perName = names.map((name) => ({
    issuer,
    kind: 'failed' as const,
    subject: name,
    allowed: limits.failedValidationsPerNameAndHour,
    withinMs: HOUR,
    what: `failed validations of ${name} in an hour at the CA`,
  }));
  // Who renews the same names is not held off by what else was certified in the domain.
  const domains = isRenewal ? [] : [...new Set(names.map(registeredDomain))];
  return [
    {
      issuer,
      kind: 'ordered',
      subject: '',
      allowed: limits.ordersPerThreeHours,
      withinMs: ORDERS_WINDOW,
      what: 'orders in three hours at the CA',
    },
    ...perName,
    ...domains.map((domain) => ({
      issuer,
      kind: 'new-in-domain' as const,
      subject: domain,
      allowed: limits.certificatesPerDomainAndWeek,
      withinMs: WEEK,
      what: `certificates for ${domain} in a week at the CA`,
    })),
    {
      issuer,
      kind: 'issued',
      subject,
      allowed: limits.duplicatesPerWeek,
      withinMs: WEEK,
      what: 'certificates for exactly these names in a week at the CA',
    },
  ];
}

/** What an order in the name of this owner counts against, whichever CA is asked. */
export function ownerLimitsOf(owner: string, { perDay, perWeek }: OwnerBudget): Limit[] {
  const limit = (allowed: number, withinMs: number, time: string): Limit => ({
    issuer: '',
    kind: 'owner',
    subject: owner,
    allowed,
    withinMs,
    // Who that is is not for everybody who reads of the order.
    what: `orders in the name of the owner in a ${time}`,
  });
  return [limit(perDay, DAY, 'day'), limit(perWeek, WEEK, 'week')];
}

/** Of what a CA gives out for a registered domain, so that no owner takes it all from the others. */
const OWNER_SHARE = 0.5;

/** What is new in the name of this owner counts in each registered domain as well. Renewals do not. */
function shareLimitsOf(
  owner: string,
  { names, isRenewal, issuer }: Counted,
  { certificatesPerDomainAndWeek: whole }: CaLimits,
): Limit[] {
  const domains = isRenewal ? [] : [...new Set(names.map(registeredDomain))];
  return domains.map((domain) => ({
    issuer,
    kind: 'owner-in-domain',
    subject: `${owner} ${domain}`,
    allowed: Math.max(1, Math.floor(whole * OWNER_SHARE)),
    withinMs: WEEK,
    what: `certificates for ${domain} in a week in the name of the owner at the CA`,
  }));
}

/** What an order for a name that somebody came for counts against. */
export function onDemandLimitsOf(
  hostname: string,
  wildcard: string,
  { perWildcardAndDay, perDomainAndDay }: OnDemandBudget,
): Limit[] {
  const limit = (subject: string, allowed: number): Limit => ({
    issuer: '',
    kind: 'on-demand',
    subject,
    allowed,
    withinMs: DAY,
    what: `orders on demand for ${subject} in a day`,
  });
  return [limit(wildcard, perWildcardAndDay), limit(registeredDomain(hostname), perDomainAndDay)];
}

/** Of the CA, and of who has to answer for the order. */
export const allLimitsOf = (
  counted: Counted,
  {
    limits,
    owner,
    ownerBudget,
  }: { limits?: CaLimits | undefined; owner?: string | undefined; ownerBudget?: OwnerBudget | undefined },
): Limit[] => [
  ...(owner !== undefined && ownerBudget ? ownerLimitsOf(owner, ownerBudget) : []),
  ...(owner !== undefined && limits ? shareLimitsOf(owner, counted, limits) : []),
  ...(limits ? limitsOf(counted, limits) : []),
];
