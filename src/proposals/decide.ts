/**
 * What is to be done about labels that are applied by themselves: pure. From what runs, what was made so, and what the
 * operator allows. No step touches anything that is not in a record; a proxy that somebody has changed since stays.
 */
import { allowsHostname, allowsImage, type LabelRule } from '../services/label-rules.ts';
import { type Offer, shownId } from './offer.ts';
import type { Applied, Standing } from './record.ts';

export interface Seen {
  /** Of containers that run. */
  readonly offers: readonly Offer[];
  /** Ids of all containers, running or not. */
  readonly there: ReadonlySet<string>;
  readonly now: number;
}

export type Step =
  | { readonly kind: 'make'; readonly offer: Offer & Usable }
  /** Its proxy leads to another container, or another port. */
  | { readonly kind: 'move'; readonly record: Applied; readonly offer: Offer & Usable }
  | { readonly kind: 'take-away'; readonly record: Applied; readonly reason: string }
  /** Somebody deleted the proxy. */
  | { readonly kind: 'dismiss'; readonly record: Applied }
  /** Nothing of it is left. */
  | { readonly kind: 'forget'; readonly record: Applied };

type Usable = { readonly hostname: string; readonly port: number };

export interface Decision {
  readonly steps: readonly Step[];
  /** By `keyOf` of the offer: why it is not applied. */
  readonly refusals: ReadonlyMap<string, string>;
  /** Of those whose containers run no more: since when. */
  readonly missing: ReadonlyMap<string, number>;
}

export const keyOf = ({ id, label }: Pick<Offer, 'id' | 'label'>): string => `${id} ${label}`;

/** @param missing of the decision before */
export function decide(
  rules: readonly LabelRule[],
  records: readonly Standing[],
  seen: Seen,
  missing: ReadonlyMap<string, number>,
): Decision {
  const byKey = new Map(rules.map((rule) => [rule.key, rule]));
  const offers = [...seen.offers].sort(byAge);
  const stillMissing = new Map<string, number>();
  const steps = records.flatMap((record): Step[] => {
    const rule = byKey.get(record.label);
    const found = standOf(record, { rule, offers, seen });
    if (found.holder) return stepsFor(record, found.holder);
    const since = missing.get(record.id) ?? seen.now;
    stillMissing.set(record.id, since);
    const isOver = seen.now - since >= (rule?.keep_ms ?? 0);
    return stepsWithout(record, { ...found, isThere: seen.there.has(record.container), isOver });
  });
  const left = records.filter(
    ({ id }) => !steps.some((step) => step.kind === 'forget' && step.record.id === id),
  );
  const { made, refusals } = newOnes(byKey, left, offers);
  return { steps: [...steps, ...made], refusals, missing: stillMissing };
}

interface Found {
  /** Asks for this very hostname, and may have it. */
  readonly holder: (Offer & Usable) | undefined;
  /** Undefined: the settings let it stay. */
  readonly forbidden: string | undefined;
}

function standOf(
  record: Standing,
  { rule, offers, seen }: { rule: LabelRule | undefined; offers: readonly Offer[]; seen: Seen },
): Found {
  const { label, hostname, container, image } = record;
  if (!rule || !allowsHostname(rule, hostname))
    return { holder: undefined, forbidden: `services.apply_labels does not allow ${label} to have it` };
  const asks = (offer: Offer): offer is Offer & Usable =>
    offer.label === label &&
    offer.hostname === hostname &&
    isUsable(offer) &&
    // The engine calls its image by a bare id once the tag has moved.
    allowsImage(rule, offer.id === container ? image : offer.image);
  const own = offers.find((offer) => offer.id === container && offer.label === label);
  if (own?.hostname !== undefined && own.hostname !== hostname)
    return { holder: undefined, forbidden: 'its container asks for another hostname now' };
  // Another one only when there is none of this id any more: while it starts again, nobody may take its place.
  const isFree = !seen.there.has(container);
  const holder = offers.filter(asks).find(({ id }) => id === container || isFree);
  return { holder, forbidden: undefined };
}

/** Somebody deleted its proxy: it is not made again for this container, but for the next. */
function stepsFor(record: Standing, offer: Offer & Usable): Step[] {
  const isSame = offer.id === record.container;
  if (record.state === 'leaving') return [{ kind: 'take-away', record, reason: CUT_OFF }];
  if (record.proxy === 'gone') return isSame && hadProxy(record) ? dismissed(record) : [forget(record)];
  if (record.state === 'making' || !isSame || offer.port !== record.port)
    return [{ kind: 'move', record, offer }];
  return [];
}

function stepsWithout(
  record: Standing,
  { forbidden, isThere, isOver }: { forbidden: string | undefined; isThere: boolean; isOver: boolean },
): Step[] {
  if (record.proxy === 'gone')
    return isThere && forbidden === undefined && hadProxy(record) ? dismissed(record) : [forget(record)];
  // It is somebody's by now: what leads nowhere says so to its visitors.
  if (record.proxy === 'changed') return [];
  const reason =
    forbidden ??
    (isOver ? `its container ${shownId(record.container)} runs no more` : undefined) ??
    (record.state === 'leaving' ? CUT_OFF : undefined);
  return reason === undefined ? [] : [{ kind: 'take-away', record, reason }];
}

/** Until somebody deleted it: else it was never made, or was taken away here. */
const hadProxy = ({ state }: Applied): boolean => state === 'applied' || state === 'dismissed';

const CUT_OFF = 'taking it away was cut off';

const forget = (record: Applied): Step => ({ kind: 'forget', record });
const dismissed = (record: Applied): Step[] =>
  record.state === 'dismissed' ? [] : [{ kind: 'dismiss', record }];

function newOnes(
  rules: ReadonlyMap<string, LabelRule>,
  records: readonly Standing[],
  offers: readonly Offer[],
): { made: Step[]; refusals: Map<string, string> } {
  const owners = new Map(records.map(({ hostname, container }) => [hostname, container]));
  const known = new Set(records.map(({ container, label }) => keyOf({ id: container, label })));
  const counts = new Map<string, number>();
  for (const { label } of records) counts.set(label, (counts.get(label) ?? 0) + 1);
  const refusals = new Map<string, string>();
  const made: Step[] = [];
  for (const offer of offers) {
    const rule = rules.get(offer.label);
    if (!rule || known.has(keyOf(offer)) || !isUsable(offer)) continue;
    const count = counts.get(rule.key) ?? 0;
    const fault = faultOf(rule, offer, { count, owner: owners.get(offer.hostname) });
    if (fault !== undefined) {
      refusals.set(keyOf(offer), fault);
      continue;
    }
    owners.set(offer.hostname, offer.id);
    counts.set(rule.key, count + 1);
    made.push({ kind: 'make', offer });
  }
  return { made, refusals };
}

function faultOf(
  rule: LabelRule,
  offer: Offer & Usable,
  { count, owner }: { count: number; owner: string | undefined },
): string | undefined {
  if (!allowsHostname(rule, offer.hostname))
    return `not applied: services.apply_labels does not allow ${rule.key} to have this hostname; accept_proposal can`;
  if (!allowsImage(rule, offer.image))
    return `not applied: services.apply_labels does not allow its image for ${rule.key}; accept_proposal can`;
  if (owner !== undefined)
    return `not applied: the container ${shownId(owner)} has this hostname by its label, and came first`;
  if (count >= rule.max)
    return `not applied: ${rule.key} has ${rule.max} proxies, which is services.apply_labels max`;
  return undefined;
}

const isUsable = (offer: Offer): offer is Offer & Usable =>
  offer.hostname !== undefined && offer.target_url !== undefined && offer.port !== undefined;

const byAge = (a: Offer, b: Offer): number => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
