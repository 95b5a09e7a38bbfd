/**
 * Which orders there should be: opens one for what is missing, near its end or not as wanted, and ends those that nobody
 * needs, or that keep their other names waiting for one that is refused. Called by `issuance.ts` at each of its looks.
 */
import { type Clock, HOUR } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { coversHostname, wildcardOver } from '../core/hostname.ts';
import type { CertificateKeyType } from '../core/key-type.ts';
import type { Entry } from './catalog.ts';
import { chooseIssuer, type Dns01Port, type IssuanceSettings, issuerOf } from './issuers.ts';
import type { StoredOrder } from './order-rows.ts';
import { urgency } from './order-schema.ts';
import type { Orders } from './orders.ts';
import { isFresh } from './renewal.ts';
import type { Shelf } from './shelf.ts';
import {
  askedFirst,
  isAsWished,
  isOutdated,
  issuersFor,
  keyWishFor,
  type Made,
  type WishOf,
} from './wishes.ts';

/** Of several names together, so often refused: then each is ordered by itself. One for each of two challenges. */
const MAX_REFUSALS = 2;
/** An order for several names that was asked for by hand, and has to wait for longer, keeps none of them waiting. */
const LONG_MS = 2 * HOUR;

export interface PlanningOptions {
  clock: Clock;
  orders: Orders;
  shelf: Shelf;
  settings: IssuanceSettings;
  wishOf: WishOf;
  payerOf: ((name: string) => string | undefined) | undefined;
  /** Of a name that is wanted because somebody came for it: whether it may be ordered now. Undefined: all may. */
  mayRenew?: ((name: string) => boolean) | undefined;
  dns01: Dns01Port | undefined;
  renewalAt: (entry: Entry) => number;
  /** Whether it is worked on here, now. */
  isDriven: (orderId: string) => boolean;
  report: (message: string) => void;
  signal: AbortSignal;
}

/** A certificate of a CA, and which of the hostnames that are looked at it serves. */
interface Due {
  readonly entry: Entry;
  /** Whether its CA is not set up any more. */
  readonly isOrphan: boolean;
  readonly hostnames: string[];
}

interface OpenOrder {
  readonly id: string;
  readonly names: readonly string[];
}

export class Planning {
  readonly #options: PlanningOptions;
  /** Of certificates in use: how each was ordered. */
  readonly #made = new Map<string, Made | undefined>();

  constructor(options: PlanningOptions) {
    this.#options = options;
  }

  /** `looked`: which of the wanted hostnames are looked at; `open`: open orders with any of them. */
  async look(
    wanted: ReadonlySet<string>,
    looked: Iterable<string>,
    open: readonly OpenOrder[],
  ): Promise<void> {
    if (this.#options.settings.off !== undefined) return;
    const underWay = await this.#sortOut(open, wanted);
    const due = new Map<string, Due>();
    for (const hostname of looked) {
      if (this.#options.signal.aborted) return;
      if (underWay.has(hostname)) continue;
      await this.#guarded(hostname, () => this.#look(hostname, due));
    }
    await this.#renew([...due.values()], wanted, underWay);
  }

  /** Ends what its proxy wants otherwise now. The open orders with these hostnames that are left. */
  async outdated(hostnames: readonly string[]): Promise<OpenOrder[]> {
    const left: OpenOrder[] = [];
    for (const order of await this.#options.orders.openOfNames(hostnames)) {
      const isEnded =
        isOutdated(order.document, this.#options.wishOf) &&
        (await this.#end(order, 'its proxy wants another CA, key or profile'));
      if (!isEnded) left.push({ id: order.id, names: order.document.names });
    }
    return left;
  }

  /** Certificates that are gone. */
  forget(kept: ReadonlySet<string>): void {
    for (const id of this.#made.keys()) if (!kept.has(id)) this.#made.delete(id);
  }

  /** Ends the orders that should not be as they are. The names that are seen to by one that is left. */
  async #sortOut(open: readonly OpenOrder[], wanted: ReadonlySet<string>): Promise<Set<string>> {
    const underWay = new Set<string>();
    const add = (names: readonly string[]) => names.forEach((name) => underWay.add(name));
    for (const { id, names } of open) {
      // By far the most: no need to look at its row.
      if (names.length === 1 && names.every((name) => wanted.has(name))) add(names);
      else
        await this.#guarded(id, async () => {
          const order = await this.#options.orders.get(id);
          if (!order) return;
          const why = whyEnd(order, wanted);
          if (why === undefined || !(await this.#end(order, why))) {
            if (isHolding(order, this.#options.clock.now())) add(names);
          } else if (names.every((name) => wanted.has(name))) {
            for (const name of names)
              await this.#open([name], { reason: 'renewal', keyType: order.document.key_type });
            add(names);
          }
        });
    }
    return underWay;
  }

  async #look(hostname: string, due: Map<string, Due>): Promise<void> {
    const entry = this.#options.shelf.serving(hostname);
    if (!entry) return this.#open([hostname], { reason: 'served' });
    if (entry.source !== 'acme') return;
    const made = await this.#madeOf(entry);
    const wish = this.#options.wishOf(hostname);
    if (made && wish && !isAsWished(wish, made))
      return this.#open([hostname], { reason: 'changed', replaces: entry.id });
    // What a CA gave that is not set up any more is replaced: it was staging, say.
    const isOrphan = made?.directory !== undefined && !issuerOf(made, this.#options.settings.issuers);
    if (due.get(entry.id)?.hostnames.push(hostname) === undefined)
      due.set(entry.id, { entry, isOrphan, hostnames: [hostname] });
  }

  /** Undefined when its order is not kept any more. */
  async #madeOf({ id }: Entry): Promise<Made | undefined> {
    if (this.#made.has(id)) return this.#made.get(id);
    const order = await this.#options.orders.ofCertificate(id);
    const made = order && pick(order.document);
    this.#made.set(id, made);
    return made;
  }

  async #renew(
    all: readonly Due[],
    wanted: ReadonlySet<string>,
    underWay: ReadonlySet<string>,
  ): Promise<void> {
    const now = this.#options.clock.now();
    for (const due of all)
      if (due.isOrphan || (this.#options.renewalAt(due.entry) <= now && !isFresh(due.entry, now)))
        await this.#guarded(due.entry.id, () => this.#renewOne(due, wanted, underWay));
  }

  async #renewOne(
    { entry, hostnames }: Due,
    wanted: ReadonlySet<string>,
    underWay: ReadonlySet<string>,
  ): Promise<void> {
    const names = entry.names.filter(
      (name) => wanted.has(name) && !underWay.has(name) && this.#options.shelf.serving(name) === entry,
    );
    if (names.length > 0) await this.#open(names, { reason: 'renewal', replaces: entry.id });
    // What it serves by a wildcard that nobody wants by itself.
    for (const hostname of hostnames)
      if (!names.some((name) => coversHostname(name, hostname)))
        await this.#open([hostname], { reason: 'renewal' });
  }

  async #open(
    wanted: readonly string[],
    {
      reason,
      replaces,
      keyType: keyTypeBefore,
    }: {
      reason: 'served' | 'changed' | 'renewal';
      replaces?: string;
      keyType?: CertificateKeyType;
    },
  ): Promise<void> {
    const { dns01, mayRenew, payerOf, settings, wishOf, orders } = this.#options;
    const names = mayRenew ? wanted.filter(mayRenew) : wanted;
    if (names.length === 0) return;
    const before = replaces === undefined ? undefined : await orders.ofCertificate(replaces);
    const asked = reason === 'renewal' ? before?.document.asked_directory : undefined;
    const issuers = askedFirst(issuersFor(names, settings, wishOf), asked);
    const { issuer } = chooseIssuer(names, { issuers }, dns01);
    if (!issuer) return;
    const { keyType, profile } = keyWishFor(names, wishOf);
    const [name = ''] = names;
    await orders.open({
      names,
      issuer: issuer.name,
      directory: issuer.directoryUrl,
      askedDirectory: asked,
      keyType: keyType ?? keyTypeBefore ?? before?.document.key_type ?? 'p256',
      profile,
      reason,
      // What keeps going what is there costs nobody a part of a budget.
      owner: reason === 'renewal' ? undefined : payerOf?.(name),
      replaces,
      urgency: urgency[reason],
    });
  }

  /** Ends what somebody asked for by hand before then and did not get. */
  async giveUp(before: number): Promise<void> {
    for (const order of await this.#options.orders.requestedBefore(before))
      await this.#end(order, 'nothing came of it in a week; request_certificate asks again');
  }

  /** Nothing is done to one that is worked on: what comes of it is looked at the next time. */
  async #end(order: StoredOrder, text: string): Promise<boolean> {
    const { orders, isDriven } = this.#options;
    if (isDriven(order.id) || !(await orders.claim(order.id))) return false;
    await orders.step(order, { state: 'abandoned', event: { kind: 'ended', text } });
    return true;
  }

  /** One that makes trouble does not stop the others. */
  async #guarded(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      this.#options.report(`${what} can't be looked after: ${messageOf(cause)}`);
    }
  }
}

const pick = ({ issuer, directory, key_type, profile }: Made): Made => ({
  issuer,
  directory,
  key_type,
  profile,
});

/** What somebody asked for by hand, or came for, is ordered as it was asked for. */
function whyEnd({ document, urgency: place }: StoredOrder, wanted: ReadonlySet<string>): string | undefined {
  const { names, reason, refusals } = document;
  const served = names.filter((name) => wanted.has(name));
  if (reason === 'requested') return undefined;
  if (reason === 'on-demand' && names.some((name) => wanted.has(wildcardOver(name)))) return undefined;
  if (served.length === 0) return 'none of its hostnames is served any more';
  if (place === urgency.requested) return undefined;
  if (served.length < names.length)
    return `not all of its hostnames are served any more: ordered for ${served.join(', ')} only`;
  if (names.length > 1 && refusals >= MAX_REFUSALS)
    return 'the names are refused together: each is ordered by itself';
  return undefined;
}

/** Whether its names wait for it. One that is refused may be so for one of them, and the others go their own way. */
function isHolding({ document, nextAttemptAt }: StoredOrder, now: number): boolean {
  const { names, reason, refusals } = document;
  if (names.length === 1) return true;
  return refusals === 0 && (reason !== 'requested' || nextAttemptAt <= now + LONG_MS);
}
