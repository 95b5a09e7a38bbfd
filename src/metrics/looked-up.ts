/** What is looked up when somebody asks. Each part tells it as plain data; which of them there are is the composition root's affair. */
import { type Family, family, one, type Point } from './family.ts';

/** Of certificates in use, those that expire first. */
const MAX_CERTIFICATES = 2000;
/** Of upstreams, and of targets of proxies that have several. */
const MAX_TARGETS = 1000;
const MS_PER_SECOND = 1000;

export interface Connections {
  readonly open: number;
  readonly refused: number;
  readonly requests: number;
}

export const connectionFamilies = ({ open, refused, requests }: Connections): Family[] => [
  one('ohp_http_requests_in_flight', requests),
  one('ohp_connections_open', open),
  one('ohp_connections_refused_total', refused),
];

export interface PoolState {
  /** `https://host:port`. */
  readonly origin: string;
  readonly connected: number;
  /** Connections for one request or tunnel each. */
  readonly single: number;
  readonly requests: number;
  readonly pending: number;
}

const poolMetrics = [
  ['ohp_upstream_connections', 'connected'],
  ['ohp_upstream_connections_single', 'single'],
  ['ohp_upstream_requests', 'requests'],
  ['ohp_upstream_requests_pending', 'pending'],
] as const;

/** Of one origin there may be several, which differ in how they are connected to. */
export function poolFamilies(pools: Iterable<PoolState>): Family[] {
  const byOrigin = Map.groupBy(pools, ({ origin }) => origin);
  const origins = [...byOrigin].slice(0, MAX_TARGETS);
  return poolMetrics.map(([name, key]) =>
    family(
      name,
      origins.map(([origin, all]) => ({ labels: [origin], value: sum(all.map((pool) => pool[key])) })),
    ),
  );
}

export interface BalancedState {
  readonly hostname: string;
  readonly origin: string;
  readonly isHealthy: boolean;
  readonly requests: number;
}

export function targetFamilies(targets: Iterable<BalancedState>): Family[] {
  const groups = [...Map.groupBy(targets, ({ hostname, origin }) => `${hostname} ${origin}`).values()];
  const told = groups.slice(0, MAX_TARGETS).flatMap((group) => {
    const [first] = group;
    return first ? [{ labels: [first.hostname, first.origin], group }] : [];
  });
  return [
    family(
      'ohp_target_healthy',
      told.map(({ labels, group }) => ({ labels, value: group.every((one) => one.isHealthy) ? 1 : 0 })),
    ),
    family(
      'ohp_target_requests',
      told.map(({ labels, group }) => ({ labels, value: sum(group.map(({ requests }) => requests)) })),
    ),
  ];
}

export interface CertificateState {
  readonly id: string;
  readonly names: readonly string[];
  readonly source: string;
  /** Milliseconds since 1970. */
  readonly notAfter: number;
}

/** `inUse`: those that some served hostname gets. */
export function certificateFamilies(
  all: Iterable<Pick<CertificateState, 'source'>>,
  inUse: Iterable<CertificateState>,
): Family[] {
  const soonest = [...inUse].sort((a, b) => a.notAfter - b.notAfter).slice(0, MAX_CERTIFICATES);
  const [first] = soonest;
  const bySource = Map.groupBy(all, ({ source }) => source);
  return [
    family(
      'ohp_certificates',
      [...bySource].map(([source, { length }]) => ({ labels: [source], value: length })),
    ),
    family(
      'ohp_certificate_expiry_timestamp_seconds',
      soonest.map(({ id, names: [name = ''], source, notAfter }) => ({
        labels: [id, name, source],
        value: notAfter / MS_PER_SECOND,
      })),
    ),
    ...(first
      ? [one('ohp_certificate_soonest_expiry_timestamp_seconds', first.notAfter / MS_PER_SECOND)]
      : []),
  ];
}

export interface OrderCounts {
  readonly byState: readonly { readonly state: string; readonly count: number }[];
  /** Milliseconds since 1970; undefined: none is open. */
  readonly nextAttemptAt: number | undefined;
}

export const orderFamilies = ({ byState, nextAttemptAt }: OrderCounts): Family[] => [
  family(
    'ohp_acme_orders',
    byState.map(({ state, count }) => ({ labels: [state], value: count })),
  ),
  ...(nextAttemptAt === undefined
    ? []
    : [one('ohp_acme_next_attempt_timestamp_seconds', nextAttemptAt / MS_PER_SECOND)]),
];

export interface LogState {
  readonly written: number;
  readonly dropped: number;
  readonly queued: number;
}

export const logFamilies = ({ written, dropped, queued }: LogState): Family[] => [
  one('ohp_log_records_written_total', written),
  one('ohp_log_records_dropped_total', dropped),
  one('ohp_log_records_queued', queued),
];

export const storeFamilies = (bytes: { readonly database: number; readonly wal: number }): Family[] => [
  family(
    'ohp_store_bytes',
    Object.entries(bytes).map(([file, value]) => ({ labels: [file], value })),
  ),
];

export const alertFamilies = (active: readonly { source: string; count: number }[]): Family[] => [
  family(
    'ohp_alerts_active',
    active.map(({ source, count }): Point => ({ labels: [source], value: count })),
  ),
];

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
