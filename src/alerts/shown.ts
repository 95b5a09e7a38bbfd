/** An alert as one caller may see it. Pure. */
import { toTimestamp } from '../core/collection.ts';
import { confines } from '../core/hostname.ts';
import { mayTouch, type Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Tables } from '../store/database.ts';
import { acknowledgementSchema, type Alert, type ShownAlert } from './schema.ts';

export type AlertRow = Tables['alerts'];

/** An alert of a wildcard's certificate may name any number. */
const MAX_HOSTNAMES = 20;
const MAX_SUMMARY = 1000;

export const hostnamesOf = ({ hostname, lines = [] }: Alert): string[] => [
  ...new Set([...(hostname === undefined ? [] : [hostname]), ...lines.map((line) => line.hostname)]),
];

/** Who is confined sees what is about their hostnames, and of that what is said of those. */
export function maySee(principal: Principal, hostnames: readonly string[]): boolean {
  if (principal.hostnames === undefined) return true;
  return hostnames.some((hostname) => mayTouch(principal, hostname));
}

export const isAbout = (alert: Alert, pattern: string | undefined): boolean =>
  pattern === undefined || hostnamesOf(alert).some((hostname) => confines(pattern, hostname));

export function shownTo(principal: Principal, row: AlertRow, alert: Alert): ShownAlert {
  const all = hostnamesOf(alert);
  const own = all.filter((hostname) => mayTouch(principal, hostname));
  const isWhole = own.length === all.length;
  const line = alert.lines?.find(({ hostname }) => own.includes(hostname));
  const acknowledged = row.acknowledged === null ? undefined : JSON.parse(row.acknowledged);
  return {
    id: row.id,
    state: row.resolved_at === null ? 'active' : 'resolved',
    code: alert.code,
    level: alert.level,
    stage: alert.stage,
    summary: cleanText(isWhole ? alert.summary : (line?.summary ?? alert.code), MAX_SUMMARY),
    ...(own.length > 0 && { hostnames: own.slice(0, MAX_HOSTNAMES).map((name) => cleanText(name)) }),
    since: toTimestamp(row.raised_at),
    ...(row.resolved_at !== null && { resolved_at: toTimestamp(row.resolved_at) }),
    ...(acknowledged !== undefined && { acknowledged: acknowledgementSchema.parse(acknowledged) }),
    facts: alert.facts,
  };
}
