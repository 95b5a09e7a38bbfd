/** Why a hostname has the certificate that it has, or none of a CA: in words, from what is known here. Pure. */
import { z } from 'zod';
import { timestamp, toTimestamp } from '../core/collection.ts';
import { keyTypes } from '../core/key-type.ts';
import { cleanText } from '../core/untrusted.ts';
import { challengesFor, challengeTypes, type Dns01Port, type IssuanceSettings, whyNot } from './issuers.ts';
import { type OnDemandReport, onDemandSchema } from './on-demand-standing.ts';
import { type Check, checkSchema } from './preflight.ts';
import { reportOf } from './order-report.ts';
import { orderSchema } from './order-schema.ts';
import type { StoredOrder } from './order-rows.ts';
import { remedyFor } from './remedies.ts';
import { certificateSchema, type ListedCertificate } from './schema.ts';
import type { CertificateWish } from './wishes.ts';

export const explanationSchema = z.object({
  hostname: z.string(),
  summary: z.string().describe('How it stands and what to do, in a few sentences'),
  served_as: z
    .string()
    .optional()
    .describe('Hostname or wildcard under which it is served; absent: not served'),
  certificate: certificateSchema
    .pick({ id: true, issuer: true, source: true, not_after: true })
    .optional()
    .describe('What the next handshake gets'),
  renews_at: timestamp.optional(),
  ordering: z.object({
    on: z.boolean(),
    why_not: z.string().optional(),
    issuer: z.string().optional().describe('Which CA would be asked'),
    key_type: z.enum(keyTypes).optional().describe('As the proxy wants it'),
    profile: z.string().optional().describe('As the proxy wants it, where the CA offers it'),
    challenges: z
      .array(z.enum(challengeTypes))
      .describe('By which the name would be shown to be ours, in order'),
    issuers: z.array(z.object({ name: z.string(), directory: z.string(), why_not: z.string().optional() })),
  }),
  on_demand: onDemandSchema
    .optional()
    .describe('Of a name below a wildcard: whether it gets a certificate when somebody comes for it'),
  next_attempt_at: timestamp.optional(),
  orders: z.array(orderSchema).describe('The newest first, with their timelines'),
  checks: z
    .array(checkSchema)
    .describe('What was found out just now; empty when no CA would be asked, or check was false'),
  not_seen: z.array(z.string()).describe('What can not be seen from this process'),
});
export type Explanation = z.output<typeof explanationSchema>;

export interface Known {
  readonly hostname: string;
  readonly servedAs: string | undefined;
  /** Of a name below a wildcard that has no proxy of its own; undefined of others. */
  readonly onDemand: OnDemandReport | undefined;
  /** The name that would be ordered. */
  readonly orderedAs: string;
  /** By a proxy, or not at all. */
  readonly isProxied: boolean;
  /** Why it is not ordered unasked, though it is served; undefined: it is. */
  readonly whyUnwanted: string | undefined;
  readonly certificate: ListedCertificate | undefined;
  readonly renewsAt: number | undefined;
  /** With the issuers that the proxy wants. */
  readonly settings: IssuanceSettings;
  readonly keyWish: Pick<CertificateWish, 'keyType' | 'profile'>;
  readonly dns01: Dns01Port | undefined;
  /** Newest first. */
  readonly orders: readonly StoredOrder[];
  readonly checks: readonly Check[];
  readonly now: number;
}

const NOT_SEEN = [
  'How it looks from outside: what is checked is asked from this machine. The CA tells the rest, by its words in the timeline',
];
const NOT_CHECKED = [
  'Where the DNS leads and whether ports 80 and 443 are reached: it was not looked at, since no CA would be asked or check is false',
];

const NO_ISSUER = 'its proxy wants the internal CA, or CAs that are not set up';

export function explanationOf(known: Known): Explanation {
  const { hostname, servedAs, certificate, renewsAt, orders, checks, onDemand } = known;
  const ordering = orderingOf(known);
  const open = orders.find(({ state }) => state !== 'issued' && state !== 'abandoned');
  return {
    hostname,
    summary: summaryOf(known, ordering.why_not, open),
    ...(servedAs !== undefined && { served_as: servedAs }),
    ...(certificate && {
      certificate: {
        id: certificate.id,
        issuer: certificate.issuer,
        source: certificate.source,
        not_after: certificate.not_after,
      },
    }),
    ...(renewsAt !== undefined && { renews_at: toTimestamp(renewsAt) }),
    ordering,
    ...(onDemand && { on_demand: onDemand }),
    ...(open && { next_attempt_at: toTimestamp(open.nextAttemptAt) }),
    orders: orders.map(reportOf),
    checks: [...checks],
    not_seen: checks.length > 0 ? NOT_SEEN : NOT_CHECKED,
  };
}

function orderingOf(known: Known): Explanation['ordering'] {
  const { orderedAs: name, settings, keyWish, dns01, whyUnwanted } = known;
  const issuers = settings.issuers.map((issuer) => {
    const why = whyNot(name, issuer, dns01);
    return { name: issuer.name, directory: issuer.directoryUrl, ...(why !== undefined && { why_not: why }) };
  });
  const off = settings.off ?? whyUnwanted;
  const issuer = off === undefined ? issuers.find(({ why_not: why }) => why === undefined) : undefined;
  const whyNotOrdered = off ?? (issuer ? undefined : (issuers.at(0)?.why_not ?? NO_ISSUER));
  return {
    on: whyNotOrdered === undefined,
    ...(whyNotOrdered !== undefined && { why_not: whyNotOrdered }),
    ...(issuer && { issuer: issuer.name }),
    ...(keyWish.keyType !== undefined && { key_type: keyWish.keyType }),
    ...(keyWish.profile !== undefined && { profile: keyWish.profile }),
    challenges: issuer ? [...challengesFor(name, dns01)] : [],
    issuers,
  };
}

function summaryOf(known: Known, whyNotOrdered: string | undefined, open: StoredOrder | undefined): string {
  return [
    servedWith(known),
    ...(isOfCa(known) ? [] : missing(known, whyNotOrdered)),
    ...(isOfCa(known) ? [] : onDemandWords(known)),
    ...attempts(known, open),
    ...checked(known),
  ].join(' ');
}

const isOfCa = ({ certificate }: Known): boolean =>
  certificate !== undefined && certificate.source !== 'internal';

function servedWith({ hostname, servedAs, certificate, renewsAt }: Known): string {
  if (servedAs === undefined)
    return `${hostname} is not served: create_proxy serves it, and then a certificate is ordered.`;
  if (!certificate)
    return `${hostname} has no certificate yet; the internal CA makes one at the first handshake.`;
  const until = `until ${certificate.not_after}`;
  if (certificate.source === 'internal')
    return `${hostname} is served with a certificate of the internal CA, which only clients that trust ca.pem accept, ${until}.`;
  if (certificate.source === 'imported')
    return `${hostname} is served with an imported certificate ${until}; it is not renewed here.`;
  const renewal = renewsAt === undefined ? '' : `, and is renewed at ${toTimestamp(renewsAt)}`;
  return `${hostname} is served with a certificate from a CA ${until}${renewal}.`;
}

function missing({ servedAs, isProxied }: Known, whyNotOrdered: string | undefined): string[] {
  if (servedAs === undefined && !isProxied) return [];
  return whyNotOrdered === undefined ? [] : [`None is ordered from a CA: ${whyNotOrdered}.`];
}

function onDemandWords({ onDemand }: Known): string[] {
  if (!onDemand) return [];
  return [
    onDemand.why_not === undefined
      ? 'One is ordered when somebody comes for the name.'
      : `None is ordered when somebody comes for the name: ${onDemand.why_not}.`,
  ];
}

/** How the order that is open stands, and what a person can do. */
function attempts({ now }: Known, open: StoredOrder | undefined): string[] {
  if (!open) return [];
  const { failures, issuer, events } = open.document;
  const latest = events.at(-1);
  if (latest?.kind === 'held')
    return [`An order at ${issuer} is held off since ${toTimestamp(latest.at)}: ${cleanText(latest.text)}.`];
  if (failures === 0)
    return [`An order at ${issuer} is ${open.state === 'waiting' ? 'waiting for its turn' : 'under way'}.`];
  const last = events.findLast(({ kind }) => kind === 'failed');
  const remedy = last?.problem === undefined ? '' : ` What to do: ${remedyFor(last.problem).remedy}`;
  const when = open.nextAttemptAt > now ? `at ${toTimestamp(open.nextAttemptAt)}` : 'now';
  return [`${failures} attempts failed; the next is ${when}, at ${issuer}.${remedy}`];
}

/** What stands in the way, in the order in which it matters. */
function checked({ checks }: Known): string[] {
  if (checks.length === 0) return [];
  const told = checks.filter(({ result }) => result === 'fail' || result === 'warn');
  if (told.length > 0)
    return told.map(
      ({ detail, remedy }) => `Checked now: ${detail}.${remedy === undefined ? '' : ` ${remedy}`}`,
    );
  const isAllKnown = checks.every(({ result }) => result === 'pass');
  return [
    isAllKnown
      ? 'Checked now: nothing stands in the way, as seen from here.'
      : 'Checked now: nothing that could be found out stands in the way.',
  ];
}
