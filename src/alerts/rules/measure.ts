/** What each kind of rule looks at, asked of whoever knows it: the counts of the log, the disk, certificates, targets. */
import { MINUTE } from '../../core/clock.ts';
import { toTimestamp } from '../../core/collection.ts';
import { confines, parseHostname } from '../../core/hostname.ts';
import type { LossCounter } from './losses.ts';
import { daysLeft, type Measurement } from './judge.ts';
import type { Rule, RuleOf } from './schema.ts';

/** Of a rule, the worst ones: who makes names up by the thousand makes no alerts by the thousand. */
export const MAX_SUBJECTS = 200;
const PERCENT = 100;
const MIB = 1024 ** 2;
const MAX_NAMES = 10;
const ANONYMOUS = 'anonymous';

/** Whole minutes; `until` is not included. Milliseconds since 1970. */
interface Span {
  readonly since: number;
  readonly until: number;
  /** Canonical patterns; undefined: all. */
  readonly hostnames: readonly string[] | undefined;
  readonly top: number;
}

export interface Traffic {
  /** Empty for the sum. */
  readonly name: string;
  /** Of hostnames that were too many to be counted apart. */
  readonly isRest?: boolean | undefined;
  readonly count: number;
  readonly serverErrors: number;
  /** Milliseconds; undefined where no request has a duration. */
  readonly p50?: number | undefined;
  readonly p95?: number | undefined;
  readonly p99?: number | undefined;
}

/** Each throws where it can't be known; `signal` ends what is under way. */
export interface Sources {
  /** The worst first. */
  traffic(
    span: Span & { per: 'hostname' | 'all'; worstBy: 'server_errors' | 'p95_ms' },
    signal: AbortSignal,
  ): Promise<readonly Traffic[]>;
  /** Of this system; the most first. */
  refusals(
    span: Span & { by: 'client_address' | 'principal' | 'hostname' },
    signal: AbortSignal,
  ): Promise<readonly { name: string; count: number }[]>;
  disk(): Promise<{ freeBytes: number; totalBytes: number }>;
  certificates(): Iterable<{ id: string; notAfter: number; hostnames: readonly string[] }>;
  /** Of hostnames with several targets; without those that are drained. */
  targets(): Iterable<{ hostname: string; unhealthy: number; total: number }>;
}

export interface Measuring {
  readonly sources: Sources;
  readonly losses: LossCounter;
  readonly now: number;
  readonly signal: AbortSignal;
  /** That the rule can't see what so many requests were for. */
  readonly unseen: (requests: number) => void;
}

export async function measure(rule: Rule, measuring: Measuring): Promise<readonly Measurement[]> {
  switch (rule.when) {
    case 'server_errors':
    case 'latency':
      return ofTraffic(rule, measuring);
    case 'auth_failures':
      return ofRefusals(rule, measuring);
    case 'disk':
      return [await ofDisk(rule, measuring)];
    case 'dropped_records':
      return [{ subject: '', value: measuring.losses.since(measuring.now - rule.window_minutes * MINUTE) }];
    case 'certificate_expiry':
      return ofCertificates(rule, measuring);
    case 'targets_down':
      return ofTargets(rule, measuring);
  }
}

function spanOf(
  rule: { window_minutes: number; hostnames?: readonly string[] | undefined },
  now: number,
): Span {
  const until = now - (now % MINUTE);
  return {
    since: until - rule.window_minutes * MINUTE,
    until,
    hostnames: rule.hostnames,
    top: MAX_SUBJECTS,
  };
}

async function ofTraffic(
  rule: RuleOf<'server_errors'> | RuleOf<'latency'>,
  { sources, now, signal, unseen }: Measuring,
): Promise<Measurement[]> {
  const worstBy = rule.when === 'latency' ? 'p95_ms' : 'server_errors';
  const found = await sources.traffic({ ...spanOf(rule, now), per: rule.per, worstBy }, signal);
  const rest = found.find(({ isRest }) => isRest);
  if (rest) unseen(rest.count);
  return found.flatMap((one) => {
    // What was too much to count apart, and what is no name, is nobody's.
    if (rule.per === 'hostname' && parseHostname(one.name) !== one.name) return [];
    const value = valueOf(rule, one);
    if (value === undefined) return [];
    return [
      {
        subject: one.name,
        value,
        isEnough: one.count >= rule.min_requests,
        hostname: rule.per === 'hostname' ? one.name : undefined,
        of: `${one.count} requests`,
        facts: { requests: one.count, server_errors: one.serverErrors },
      },
    ];
  });
}

function valueOf(rule: RuleOf<'server_errors'> | RuleOf<'latency'>, one: Traffic): number | undefined {
  if (rule.when === 'latency') return one[rule.percentile];
  if (rule.above_percent === undefined) return one.serverErrors / rule.window_minutes;
  return one.count === 0 ? 0 : (one.serverErrors * PERCENT) / one.count;
}

async function ofRefusals(
  rule: RuleOf<'auth_failures'>,
  { sources, now, signal }: Measuring,
): Promise<Measurement[]> {
  const found = await sources.refusals({ ...spanOf(rule, now), by: rule.by }, signal);
  const isHost = rule.by === 'hostname';
  return found
    .filter(({ name }) => name !== '' && (isHost ? parseHostname(name) === name : name !== ANONYMOUS))
    .map(({ name, count }) => ({
      subject: name,
      value: count,
      hostname: isHost ? name : undefined,
      of: isHost ? `who came to ${name}` : name,
      facts: { [rule.by]: name },
    }));
}

async function ofDisk(rule: RuleOf<'disk'>, { sources }: Measuring): Promise<Measurement> {
  const { freeBytes, totalBytes } = await sources.disk();
  const share = totalBytes === 0 ? PERCENT : (freeBytes * PERCENT) / totalBytes;
  return {
    subject: '',
    value: rule.below_bytes === undefined ? share : freeBytes,
    of: `${Math.floor(freeBytes / MIB)} MiB (${Math.floor(share)} %) are free for data`,
    facts: { free_bytes: freeBytes, total_bytes: totalBytes },
  };
}

const concerns = (patterns: readonly string[] | undefined, hostname: string): boolean =>
  patterns === undefined || patterns.some((pattern) => confines(pattern, hostname));

function ofCertificates(rule: RuleOf<'certificate_expiry'>, { sources, now }: Measuring): Measurement[] {
  return [...sources.certificates()]
    .map((one) => ({ ...one, hostnames: one.hostnames.filter((name) => concerns(rule.hostnames, name)) }))
    .filter(({ hostnames }) => hostnames.length > 0)
    .sort((a, b) => a.notAfter - b.notAfter)
    .slice(0, MAX_SUBJECTS)
    .map(({ id, notAfter, hostnames }) => ({
      subject: id,
      value: daysLeft(notAfter, now),
      hostname: hostnames[0],
      hostnames,
      of: hostnames.slice(0, MAX_NAMES).join(', '),
      facts: { certificate_id: id, not_after: toTimestamp(notAfter) },
    }));
}

function ofTargets(rule: RuleOf<'targets_down'>, { sources }: Measuring): Measurement[] {
  return [...sources.targets()]
    .filter(({ hostname, total }) => total > 0 && concerns(rule.hostnames, hostname))
    .map(({ hostname, unhealthy, total }) => ({
      subject: hostname,
      value: (unhealthy * PERCENT) / total,
      hostname,
      of: `${unhealthy} of ${total} targets are`,
      facts: { unhealthy, targets: total },
    }))
    .sort((a, b) => b.value - a.value)
    .slice(0, MAX_SUBJECTS);
}
