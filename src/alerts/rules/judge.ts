/** What was measured for a rule → what is bad, and the alert that says so. Pure. */
import { DAY, MINUTE } from '../../core/clock.ts';
import { cleanText } from '../../core/untrusted.ts';
import type { Alert } from '../schema.ts';
import type { Rule, RuleOf } from './schema.ts';
import type { Times, Verdict } from './standing.ts';

const HALF = 0.5;
const FOUR_FIFTHS = 0.8;
const A_QUARTER_MORE = 1.25;
const MAX_SUBJECT = 255;
/** Hostnames that are told apart: below a wildcard there may be any number. */
const MAX_LINES = 1000;

/** Of one subject of a rule: a hostname, an address, the disk. */
export interface Measurement {
  /** What is told apart; empty: the rule has one subject. */
  readonly subject: string;
  /** In the unit of the rule: more is worse, but of what is free. */
  readonly value: number;
  /** With too little to go by nothing begins, and what has begun ends where it is well. */
  readonly isEnough?: boolean;
  /** For whom it is: absent where it is about no hostname. */
  readonly hostname?: string | undefined;
  /** Of several, each is told apart: who is confined to one reads of no other. `of` is then their names. */
  readonly hostnames?: readonly string[] | undefined;
  /** For people: what the value is of. */
  readonly of?: string | undefined;
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** `bad` beyond `bound`, `good` on the other side of `clear`; `isFloor`: less is worse. */
interface Bounds {
  readonly bound: number;
  readonly clear: number;
  readonly isFloor?: boolean;
}

export function boundsOf(rule: Rule): Bounds {
  switch (rule.when) {
    case 'server_errors':
      return failing(rule);
    case 'latency':
      return { bound: rule.above_ms, clear: rule.clear_ms ?? rule.above_ms * FOUR_FIFTHS };
    case 'auth_failures':
      return { bound: rule.above_count, clear: rule.clear_count ?? rule.above_count * HALF };
    case 'disk':
      return free(rule);
    case 'dropped_records':
      return { bound: rule.above_count, clear: 0 };
    case 'targets_down':
      return { bound: rule.above_percent, clear: rule.above_percent };
    case 'certificate_expiry':
      // Of what was renewed nothing is measured any more.
      return { bound: rule.days, clear: rule.days, isFloor: true };
  }
}

function failing(rule: RuleOf<'server_errors'>): Bounds {
  const bound = rule.above_percent ?? rule.above_per_minute ?? 0;
  return { bound, clear: rule.clear_percent ?? rule.clear_per_minute ?? bound * HALF };
}

function free(rule: RuleOf<'disk'>): Bounds {
  const bound = rule.below_bytes ?? rule.below_percent ?? 0;
  const clear = rule.clear_bytes ?? rule.clear_percent ?? bound * A_QUARTER_MORE;
  return { bound, clear, isFloor: true };
}

export function verdictOf(rule: Rule, { value, isEnough = true }: Measurement): Verdict {
  const { bound, clear, isFloor = false } = boundsOf(rule);
  const isBad = isFloor ? value < bound : value > bound;
  const isGood = isFloor ? value >= clear : value <= clear;
  if (isBad) return isEnough ? 'bad' : 'between';
  return isGood ? 'good' : 'between';
}

export const timesOf = ({ for_minutes, resolve_after_minutes }: Rule): Times => ({
  forMs: for_minutes * MINUTE,
  resolveAfterMs: resolve_after_minutes * MINUTE,
});

const codes = {
  server_errors: 'requests.failing',
  latency: 'requests.slow',
  certificate_expiry: 'certificate.expiring',
  auth_failures: 'access.refused',
  disk: 'disk.low',
  dropped_records: 'log.dropping',
  targets_down: 'targets.down',
} as const satisfies Record<Rule['when'], Alert['code']>;

const PREFIX = 'rule/';

export const keyOf = ({ name }: Rule, subject: string): string =>
  `${PREFIX}${name}/${cleanText(subject, MAX_SUBJECT)}`;

/** Whose rule an alert is: undefined for what no rule made. */
export function ruleNameOf(key: string): string | undefined {
  return key.startsWith(PREFIX) ? key.slice(PREFIX.length).split('/', 1)[0] : undefined;
}

export function alertOf(rule: Rule, measured: Measurement): Alert {
  const { subject, hostname, hostnames, value, facts } = measured;
  const summaryOf = (one: Measurement): string => `${sentenceOf(rule, one)} (rule ${rule.name})`;
  return {
    key: keyOf(rule, subject),
    stage: 1,
    code: codes[rule.when],
    level: rule.level,
    summary: summaryOf(measured),
    ...(hostname !== undefined && { hostname }),
    ...(hostnames && {
      lines: hostnames
        .slice(0, MAX_LINES)
        .map((name) => ({ hostname: name, summary: summaryOf({ ...measured, of: name }) })),
    }),
    facts: { rule: rule.name, value: rounded(value), bound: boundsOf(rule).bound, ...facts },
  };
}

function sentenceOf(rule: Rule, measured: Measurement): string {
  switch (rule.when) {
    case 'server_errors':
      return serverErrors(rule, measured);
    case 'latency':
      return `${whose(measured)}: ${rule.percentile} of ${measured.of} in ${spanOf(rule)} is ${rounded(measured.value)} ms, above ${rule.above_ms} ms; get_log_stats(group_by: "route") tells where`;
    case 'auth_failures':
      return `${measured.of} was refused ${measured.value} times in ${spanOf(rule)}, more than ${rule.above_count}; why_denied tells by what`;
    case 'disk':
      return `${measured.of}; make room, or lower log.retention_bytes`;
    case 'dropped_records':
      return `${measured.value} log records were lost in ${spanOf(rule)}; health_check tells how the log's writer is, log.queue_records is how many may wait`;
    case 'targets_down':
      return `${whose(measured)}: ${measured.of} unhealthy; get_proxy tells by what they failed`;
    case 'certificate_expiry':
      return `the certificate of ${measured.of} ends in ${Math.max(0, Math.floor(measured.value))} days; explain_certificate tells why it was not renewed`;
  }
}

function serverErrors(rule: RuleOf<'server_errors'>, measured: Measurement): string {
  const { above_percent: share, above_per_minute: rate } = rule;
  const value = rounded(measured.value);
  const said =
    share === undefined
      ? `${value} requests a minute fail with 5xx, more than ${rate}`
      : `${value} % of ${measured.of} in ${spanOf(rule)} failed with 5xx, more than ${share} %`;
  return `${whose(measured)}: ${said}; get_logs(filter: "status:5xx") shows them`;
}

const whose = ({ hostname }: Measurement): string => hostname ?? 'all hostnames together';

const spanOf = ({ window_minutes: minutes }: { window_minutes: number }): string =>
  minutes === 1 ? '1 minute' : `${minutes} minutes`;

const rounded = (value: number): number => Math.round(value * 10) / 10;

/** Days that are left, as a rule counts them. */
export const daysLeft = (notAfter: number, now: number): number => (notAfter - now) / DAY;
