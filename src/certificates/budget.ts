/**
 * What a CA allows in a time, counted here as well, so that an order which it would refuse is not sent: whoever asks on
 * past a limit is held off for longer. Pure.
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

export const countKinds = ['ordered', 'failed', 'new-in-domain', 'issued'] as const;
export type CountKind = (typeof countKinds)[number];

export interface Limit {
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
const SHORT_LABEL = 3;

/**
 * The domain that was registered, as far as it can be told without the list of public suffixes: two labels, or three
 * below a short one in a country (`co.uk`). Where it takes two domains for one, fewer are ordered than would be allowed.
 */
export function registeredDomain(name: string): string {
  const labels = name.replace(/^\*\./, '').split('.');
  const [second = '', top = ''] = labels.slice(-2);
  return labels.slice(top.length === 2 && second.length <= SHORT_LABEL ? -3 : -2).join('.');
}

/** All that a new order for these names counts against. `subject`: the names in one text. */
export function limitsOf(
  { names, subject, isRenewal }: { names: readonly string[]; subject: string; isRenewal: boolean },
  limits: CaLimits,
): Limit[] {
  const perName = names.map((name) => ({
    kind: 'failed' as const,
    subject: name,
    allowed: limits.failedValidationsPerNameAndHour,
    withinMs: HOUR,
    what: `failed validations of ${name} in an hour`,
  }));
  // Who renews the same names is not held off by what else was certified in the domain.
  const domains = isRenewal ? [] : [...new Set(names.map(registeredDomain))];
  return [
    {
      kind: 'ordered',
      subject: '',
      allowed: limits.ordersPerThreeHours,
      withinMs: ORDERS_WINDOW,
      what: 'orders in three hours',
    },
    ...perName,
    ...domains.map((domain) => ({
      kind: 'new-in-domain' as const,
      subject: domain,
      allowed: limits.certificatesPerDomainAndWeek,
      withinMs: WEEK,
      what: `certificates for ${domain} in a week`,
    })),
    {
      kind: 'issued',
      subject,
      allowed: limits.duplicatesPerWeek,
      withinMs: WEEK,
      what: 'certificates for exactly these names in a week',
    },
  ];
}
