/**
 * What stands in the way of a certificate, found out now: where the DNS leads, who may issue, whether this gateway is
 * reached, where a TXT record would go, what the limits leave. All at once and within seconds; what could not be found out
 * in that time is `unknown`, never passed. Called by `explain_certificate` when a CA would be asked, and only then.
 */
import { z } from 'zod';
import { type Clock, SECOND } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import { AcmeError } from './acme/fault.ts';
import type { Limit } from './budget.ts';
import type { AddressReport, FoundAddress } from './dns/addresses.ts';
import { judgeCaa } from './dns/caa.ts';
import type { Dns } from './dns/providers.ts';
import type { ChallengeType, Issuer } from './issuers.ts';
import { type Asked, isOwnAddress, mayBeAsked, type Reached, reachHttp, reachHttps } from './reach.ts';

/** For all of it together. */
const PREFLIGHT_MS = 5 * SECOND;
/** Of one hostname that are asked. */
const MAX_ASKED = 4;
/** Where CAs ask (RFC 8555 §8.3, RFC 8737 §3), whatever the listeners have behind a NAT. */
const CA_PORTS = { http: 80, https: 443 };

export const checkNames = ['dns', 'http', 'https', 'dns_01', 'caa', 'limits'] as const;

export const checkSchema = z.object({
  check: z
    .enum(checkNames)
    .describe(
      'dns: where its addresses lead; http, https: whether this gateway answers there on 80 and 443; dns_01: where a TXT record would go; caa: whether the CA may issue; limits: what the CA and budgets leave',
    ),
  result: z.enum(['pass', 'warn', 'fail', 'unknown']),
  detail: z.string(),
  remedy: z.string().optional(),
});
export type Check = z.output<typeof checkSchema>;
type Found = Omit<Check, 'check'>;

export interface Question {
  /** Hostname or `*.parent` of the certificate. */
  readonly name: string;
  readonly issuer: Issuer;
  readonly challenges: readonly ChallengeType[];
  readonly isServed: boolean;
  /** Of what it is served with; undefined: of nothing yet. */
  readonly fingerprint: string | undefined;
  readonly limits: readonly Limit[];
  /** Who asks is confined to hostnames: how much others have used of a limit is not for them. */
  readonly isConfined: boolean;
  readonly signal: AbortSignal;
}

export interface PreflightParts {
  readonly clock: Clock;
  readonly dns: Pick<Dns, 'readAddresses' | 'readCaa' | 'locate'>;
  /** As in `caaIdentities` of the CA's directory. */
  readonly identitiesOf: (issuer: Issuer, signal: AbortSignal) => Promise<readonly string[]>;
  /** Undefined: there is none yet. */
  readonly accountUrlOf: (issuer: Issuer) => Promise<string | undefined>;
  readonly usageOf: (limit: Limit) => Promise<{ used: number; roomAt: number }>;
  /** An answer that only this process gives, until it is removed. */
  readonly placeProbe: (hostname: string) => { path: string; body: string; remove: () => void };
  /** Other ones in tests only. */
  readonly ports?: { readonly http: number; readonly https: number } | undefined;
}

export type Preflight = (question: Question) => Promise<Check[]>;

export const createPreflight =
  (parts: PreflightParts): Preflight =>
  async (question) => {
    const late = new AbortController();
    const timer = parts.clock.after(PREFLIGHT_MS, () => late.abort());
    const signal = AbortSignal.any([question.signal, late.signal]);
    try {
      return await checksOf(parts, { ...question, signal });
    } finally {
      timer.cancel();
    }
  };

async function checksOf(parts: PreflightParts, question: Question): Promise<Check[]> {
  const { name, challenges } = question;
  const addresses = parts.dns.readAddresses(name.replace(/^\*\./, ''), question.signal);
  const byAddress = name.startsWith('*.') ? [] : addressChecks(parts, question, addresses);
  const checks = await Promise.all([
    ...byAddress,
    ...(challenges.includes('dns-01') ? [named('dns_01', recordCheck(parts, question))] : []),
    named('caa', caaCheck(parts, question)),
    named('limits', limitsCheck(parts, question)),
    // What is asked for by nobody is not left alone either.
    addresses.then(
      () => [],
      () => [],
    ),
  ]);
  return checks.flat();
}

/** A check that could not be made is unknown, and says why. */
async function named(check: Check['check'], work: Promise<Found>): Promise<Check[]> {
  try {
    return [{ check, ...(await work) }];
  } catch (cause) {
    if (!(cause instanceof AppError || cause instanceof AcmeError)) throw cause;
    const isLate = cause instanceof AppError && cause.code === 'CANCELLED';
    const detail = isLate ? 'it was not found out within a few seconds' : cleanText(messageOf(cause));
    return [{ check, result: 'unknown', detail }];
  }
}

function addressChecks(
  parts: PreflightParts,
  question: Question,
  addresses: Promise<AddressReport>,
): Promise<Check[]>[] {
  const { challenges, isServed } = question;
  return [
    named('dns', addressCheck(question, addresses)),
    ...(isServed && challenges.includes('http-01')
      ? [named('http', httpCheck(parts, question, addresses))]
      : []),
    ...(isServed && challenges.includes('tls-alpn-01')
      ? [named('https', httpsCheck(parts, question, addresses))]
      : []),
  ];
}

const foundOf = ({ ipv4, ipv6 }: AddressReport): FoundAddress[] => [...ipv4.addresses, ...ipv6.addresses];

async function addressCheck({ name, issuer }: Question, reading: Promise<AddressReport>): Promise<Found> {
  const report = await reading;
  const found = foundOf(report);
  const aliases = report.aliases.length > 0 ? ` (by CNAME to ${report.aliases.at(-1)})` : '';
  const remedy = `Make an A or AAAA record of ${name} that leads to this machine; each that is there has to.`;
  if (found.length === 0) return withoutAddress(report, remedy);
  const led = `${name}${aliases} leads to ${found.map(({ address }) => address).join(', ')}`;
  const hidden = found.find(({ special }) => special !== undefined);
  if (issuer.isPublic && hidden)
    return {
      result: 'fail',
      detail: `${led}; no public CA reaches ${hidden.address}: it is of ${hidden.special}`,
      remedy,
    };
  if (found.every(({ address }) => isOwnAddress(address)))
    return { result: 'pass', detail: `${led}, on this machine` };
  return {
    result: 'warn',
    detail: `${led}, which is not an address of a network interface of this machine. Behind a router or load balancer that is usual`,
    remedy: `See to it that what is at that address leads ports 80 and 443 here. Otherwise: ${remedy}`,
  };
}

function withoutAddress({ hostname, ipv4, ipv6 }: AddressReport, remedy: string): Found {
  const unread = [ipv4, ipv6].find(({ reason }) => reason !== undefined);
  if (unread)
    return {
      result: 'unknown',
      detail: `the addresses of ${hostname} could not be looked up: ${unread.reason}`,
      remedy: 'See that dns_resolvers, or the resolvers of the system, answer.',
    };
  const what = ipv4.state === 'no_name' ? 'there is no such name' : 'it has no A or AAAA record';
  return { result: 'fail', detail: `${hostname} leads nowhere: ${what}`, remedy };
}

async function httpCheck(parts: PreflightParts, question: Question, reading: Promise<AddressReport>) {
  const { name } = question;
  const { http: port } = parts.ports ?? CA_PORTS;
  const probe = parts.placeProbe(name);
  try {
    return await reachCheck(question, port, await reading, (asked) => reachHttp(asked, probe));
  } finally {
    probe.remove();
  }
}

async function httpsCheck(
  parts: PreflightParts,
  question: Question,
  reading: Promise<AddressReport>,
): Promise<Found> {
  const { https: port } = parts.ports ?? CA_PORTS;
  const { fingerprint } = question;
  if (fingerprint === undefined)
    return { result: 'unknown', detail: 'there is no certificate yet by which it would be known' };
  return reachCheck(question, port, await reading, (asked) => reachHttps(asked, fingerprint));
}

async function reachCheck(
  { name: hostname, signal }: Question,
  port: number,
  report: AddressReport,
  reach: (asked: Asked) => Promise<Reached>,
): Promise<Found> {
  const found = foundOf(report).slice(0, MAX_ASKED);
  if (found.length === 0) return { result: 'unknown', detail: 'there is no address to ask' };
  const reached = await Promise.all(
    found.map(async (one) => ({
      address: one.address,
      state: mayBeAsked(one)
        ? await reach({ hostname, address: one.address, port, signal })
        : ('not_asked' as const),
    })),
  );
  const detail = reached
    .map(({ address, state }) => `${address} port ${port}: ${reachedWords[state]}`)
    .join('; ');
  const states = new Set(reached.map(({ state }) => state));
  if (states.has('not_ours'))
    return {
      result: 'fail',
      detail,
      remedy: `Let port ${port} of every address of ${hostname} lead to this gateway, or take the address out of the DNS.`,
    };
  if (states.has('no_answer'))
    return {
      result: 'warn',
      detail: `${detail}. A router that does not lead its own public address back in looks the same from here`,
      remedy: `Ask from outside; let port ${port} through: bind, firewall, port forwarding.`,
    };
  return { result: states.has('not_asked') ? 'unknown' : 'pass', detail };
}

const reachedWords: Readonly<Record<Reached, string>> = {
  ours: 'this gateway answers',
  not_ours: 'something else answers',
  no_answer: 'no answer from here',
  not_asked: 'not asked, for it is neither of the world nor of this machine',
};

/** Looks up where the record would go, and writes nothing. */
async function recordCheck({ dns }: PreflightParts, { name, signal }: Question): Promise<Found> {
  const recordName = `_acme-challenge.${name.replace(/^\*\./, '')}`;
  try {
    const {
      zone,
      name: owner,
      provider_zone: by,
    } = await dns.locate({ name: recordName, value: 'preflight' }, signal);
    const via = owner === recordName ? '' : `, as ${owner} by CNAME`;
    return {
      result: 'pass',
      detail: `the TXT record ${recordName} would be written into the zone ${zone}${via}, by the provider of ${by}`,
    };
  } catch (cause) {
    if (!(cause instanceof AppError) || cause.code !== 'PRECONDITION_FAILED') throw cause;
    return {
      result: 'fail',
      detail: messageOf(cause),
      remedy:
        'Name the zone in the setting dns, or delegate the name by CNAME into a zone that has a provider.',
    };
  }
}

async function caaCheck(
  parts: PreflightParts,
  { name, issuer, challenges, signal }: Question,
): Promise<Found> {
  const [set, identities, accountUri] = await Promise.all([
    parts.dns.readCaa(name, signal),
    parts.identitiesOf(issuer, signal),
    parts.accountUrlOf(issuer),
  ]);
  if (set.kind === 'found' && identities.length === 0)
    return {
      result: 'unknown',
      detail: `${set.owner} has CAA records, and ${issuer.name} does not say by which name they would allow it`,
    };
  const verdicts = challenges.map((method) => ({
    method,
    ...judgeCaa(set, { identities, name, method, accountUri }),
  }));
  const [first] = verdicts;
  if (!first) return { result: 'unknown', detail: 'no challenge is possible' };
  const record = first.record === undefined ? '' : ` (${first.record})`;
  const detail = `${issuer.name}, by ${first.method}: ${first.reason}${record}`;
  const remedy =
    set.kind === 'found'
      ? `Add a CAA record: 0 ${name.startsWith('*.') ? 'issuewild' : 'issue'} "${cleanText(identities[0] ?? '')}", or take away the one that forbids it.`
      : 'Have the name servers of the zone answer questions for CAA; see that dns_resolvers, or those of the system, answer.';
  if (first.verdict === 'allowed') return { result: 'pass', detail };
  const other = verdicts.find(({ verdict }) => verdict === 'allowed');
  if (other) return { result: 'warn', detail: `${detail}; by ${other.method} it may`, remedy };
  return { result: first.verdict === 'forbidden' ? 'fail' : 'unknown', detail, remedy };
}

async function limitsCheck(
  { clock, usageOf }: PreflightParts,
  { limits, issuer, isConfined }: Question,
): Promise<Found> {
  if (limits.length === 0) return { result: 'pass', detail: `no limits of ${issuer.name} are counted here` };
  const used = await Promise.all(limits.map(async (limit) => ({ limit, ...(await usageOf(limit)) })));
  const full = used.filter(({ roomAt }) => roomAt > clock.now());
  const words = ({ limit, used: count }: (typeof used)[number]) =>
    `${count} of ${limit.allowed} ${limit.what}`;
  if (full.length === 0)
    return {
      result: 'pass',
      detail: isConfined ? 'there is room in every limit that counts' : used.map(words).join('; '),
    };
  const said = (one: (typeof used)[number]) =>
    isConfined ? `no more than ${one.limit.allowed} ${one.limit.what}` : words(one);
  return {
    result: 'fail',
    detail: full.map((one) => `${said(one)}, there is room again at ${toTimestamp(one.roomAt)}`).join('; '),
    remedy: 'Nothing: the order waits until then. Fewer, or other, names are a way around some limits.',
  };
}
