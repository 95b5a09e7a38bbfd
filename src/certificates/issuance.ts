/**
 * Sees to it that every hostname that is served has a certificate of a CA, and keeps it: has orders planned
 * (`planning.ts`) and so many driven at once, the most urgent first. A coarse timer and the news of proxies wake it.
 * Knows no protocol (`issuing.ts`), no dates (`renewal.ts`) and no rows (`orders.ts`).
 */
import { type Clock, DAY, HOUR, MINUTE, type Timer } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import type { Log, LogRecord } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import type { ChangeContext, Database } from '../store/database.ts';
import { Accounts } from './accounts.ts';
import { AcmeClients } from './acme-clients.ts';
import type { AcmeClient } from './acme/client.ts';
import type { CertificateKeyType } from '../core/key-type.ts';
import { ownerLimitsOf } from './budget.ts';
import type { Entry } from './catalog.ts';
import { type ChallengeDns, ChallengeRecords } from './challenge-records.ts';
import { Cancelled, cancelOrder, isCancelled } from './cancelling.ts';
import { Challenges } from './challenges.ts';
import { chooseIssuer, type Dns01Port, type IssuanceSettings, type Issuer, issuerOf } from './issuers.ts';
import { driveMsOf, Issuing } from './issuing.ts';
import type { Shelf } from './shelf.ts';
import { Held } from './counts.ts';
import type { StoredOrder } from './order-rows.ts';
import { type AskedFor, LeaseLost, type NewOrderRow, Orders } from './orders.ts';
import { type OrderDocument, urgency } from './order-schema.ts';
import { doneNews, setbackNews } from './order-news.ts';
import { orAborted } from './or-aborted.ts';
import { type Driven, MAX_AT_ONE_CA, Places } from './places.ts';
import { Planning } from './planning.ts';
import { renewalTime } from './renewal.ts';
import { cutOff, isKeyRefused, moveTo, setbackOf } from './setback.ts';
import { Revoking } from './revoking.ts';
import { Watchers } from './watchers.ts';
import { Windows } from './windows.ts';
import { issuersFor, keyWishFor, type WishOf } from './wishes.ts';

const EVERY_MS = MINUTE;
const SWEEP_EVERY_MS = HOUR;
/** What somebody asked for by hand is tried for so long: nobody but them may know that it can't be had. */
const REQUESTED_MS = 7 * DAY;
/** A certificate that is over is kept for people to see for this long. */
const KEPT_AFTER_END_MS = 7 * DAY;

export interface IssuanceOptions {
  database: Database;
  sealer: Sealer;
  clock: Clock;
  log: Log;
  events: Events;
  settings: IssuanceSettings;
  shelf: Shelf;
  /** Hostnames and `*.parent` that should have a certificate. */
  wanted: () => Iterable<string>;
  wishOf?: WishOf | undefined;
  /** In whose name a hostname is served; undefined: of nobody whose orders are counted. */
  payerOf?: ((name: string) => string | undefined) | undefined;
  /** As `planning.ts` asks it. */
  mayRenew?: ((name: string) => boolean) | undefined;
  /** Undefined: no provider is set up. */
  dns01?: Dns01Port | undefined;
  /** What was published by settings of before is withdrawn without a provider too, as far as that goes. */
  dns?: ChallengeDns | undefined;
  /** Whether no other process is on the store: then what was under way is taken up at once. */
  isAlone: boolean;
  /** Tests and simulations have their own CA. */
  openClient?: ((issuer: Issuer) => AcmeClient) | undefined;
}

export class Issuance implements AsyncDisposable {
  readonly #options: IssuanceOptions;
  readonly challenges: Challenges;
  readonly orders: Orders;
  readonly revoking: Revoking;
  readonly #records: ChallengeRecords | undefined;
  readonly #accounts: Accounts;
  readonly #issuing: Issuing;
  readonly #windows: Windows;
  readonly #wishOf: WishOf;
  readonly #planning: Planning;
  readonly #clients: AcmeClients;
  /** By order id. */
  readonly #driving = new Map<string, Driven>();
  /** By order id: those that somebody ends, which are not begun with. Whoever else ends one waits for the same. */
  readonly #ending = new Map<string, Promise<StoredOrder | undefined>>();
  readonly #background = new Set<Promise<void>>();
  readonly #watchers = new Watchers();
  readonly #stop = new AbortController();
  #timers: Timer[] = [];
  #unsubscribe: (() => void)[] = [];
  #pumping: Promise<void> | undefined;
  #pumpAgain = false;
  #ticking: Promise<void> | undefined;
  #beside: Promise<void> | undefined;
  /** Directory of the CA at which no order is begun. */
  #heldAt: string | undefined;
  #rotation: Promise<unknown> = Promise.resolve();

  constructor(options: IssuanceOptions) {
    const { clock, dns, dns01, shelf } = options;
    this.#options = options;
    this.#clients = new AcmeClients(options);
    this.#wishOf = options.wishOf ?? (() => undefined);
    this.challenges = new Challenges(clock);
    this.orders = new Orders(options);
    this.#records = dns && new ChallengeRecords({ ...options, dns, orders: this.orders });
    this.#accounts = new Accounts(options);
    this.#windows = new Windows({ ...options, clientOf: (issuer) => this.clientOf(issuer) });
    this.revoking = new Revoking({
      ...options,
      orders: this.orders,
      issuerOf: (document) => this.issuerOf(document),
      accountOf: (issuer, signal) => this.#accounts.of(issuer, this.clientOf(issuer), { signal }),
      clientOf: (issuer) => this.clientOf(issuer),
    });
    this.#planning = new Planning({
      ...options,
      orders: this.orders,
      wishOf: this.#wishOf,
      payerOf: options.payerOf,
      dns01,
      renewalAt: (entry) => this.renewalAt(entry),
      isDriven: (id) => this.#driving.has(id),
      report: (message) => this.#write('error', message),
      signal: this.#stop.signal,
    });
    this.#issuing = new Issuing({
      ...options,
      orders: this.orders,
      accounts: this.#accounts,
      challenges: this.challenges,
      records: this.#records,
      clientOf: (issuer) => this.clientOf(issuer),
      keep: shelf.keep,
      chainOf: (id) => shelf.chainOf(id),
      dns01,
      settings: options.settings,
    });
  }

  get settings(): IssuanceSettings {
    return this.#options.settings;
  }

  /** Call it once the listeners are open: a CA asks at once. */
  async start(): Promise<void> {
    const { clock, events, isAlone, settings } = this.#options;
    if (settings.off !== undefined) return;
    if (isAlone) await this.orders.takeOver();
    this.#timers = [
      clock.every(EVERY_MS, () => this.#run(this.tick())),
      clock.every(SWEEP_EVERY_MS, () => this.#run(this.sweep())),
    ];
    this.#unsubscribe = [events.on('proxy.changed', ({ hostnames }) => this.lookAt(hostnames))];
    this.#run(this.tick());
  }

  /** Looks at everything that is served. One at a time: asked for meanwhile, it is the one that is under way. */
  tick(): Promise<void> {
    this.#ticking ??= this.#tick().finally(() => (this.#ticking = undefined));
    return this.#ticking;
  }

  async #tick(): Promise<void> {
    const wanted = new Set(this.#options.wanted());
    await this.#planning.look(wanted, wanted, await this.orders.allOpen());
    this.pump();
    if (this.#beside) return;
    // However long a CA takes to suggest a time, or the DNS, renewing goes on by what is known.
    const work = Promise.all([
      this.#windows.refresh(wanted, this.#stop.signal),
      this.#records?.sweep(this.#stop.signal),
      this.revoking.repeat(this.#stop.signal),
    ]);
    this.#beside = work
      .then(([isNews]) => (isNews && !this.#stop.signal.aborted ? this.tick() : undefined))
      .finally(() => (this.#beside = undefined));
    this.#run(this.#beside);
  }

  /** Soon, beside whoever asks: what these hostnames are served with may have changed. */
  lookAt(hostnames: readonly string[]): void {
    this.#run(this.#changed(hostnames));
  }

  /** Opens or finds the order for these names; its turn is now. */
  async request(
    {
      keyType,
      reason,
      asked,
      ...wanted
    }: Pick<NewOrderRow, 'names' | 'owner' | 'wildcard' | 'askedDirectory'> & {
      issuer: string;
      keyType?: CertificateKeyType | undefined;
      /** As somebody asks for it by name; undefined: any will do. */
      asked?: AskedFor;
      reason: 'requested' | 'renewal' | 'on-demand';
      replaces?: string | undefined;
    },
    context: ChangeContext = {},
  ): Promise<StoredOrder> {
    const wish = keyWishFor(wanted.names, this.#wishOf);
    const place = reason === 'on-demand' ? urgency[reason] : urgency.requested;
    const order = await this.orders.open(
      {
        ...wanted,
        directory: this.issuerNamed(wanted.issuer)?.directoryUrl,
        askedDirectory: asked?.issuer?.directoryUrl ?? wanted.askedDirectory,
        keyType: keyType ?? wish.keyType ?? 'p256',
        profile: wish.profile,
        reason,
        replaces: wanted.replaces,
        urgency: place,
      },
      context,
    );
    if (order.document.cancelled)
      throw new AppError(
        'CONFLICT',
        `${order.id}, for these names, was cancelled, and its CA is asked whether it has signed already; ask again when it is over`,
      );
    if (asked) await this.orders.turnTo(order, asked);
    // One that was open already may have had a later place.
    await this.orders.hurry(order.id, Math.min(place, order.urgency));
    this.pump();
    return order;
  }

  /**
   * Ends an order, unless the CA has been asked to sign: then its certificate is waited for and kept. As it stands then;
   * one that is open still ends when its CA has said that it did not sign. Whoever stops waiting stops nothing.
   * @throws AppError CONFLICT; what the signal says
   */
  cancel(id: string, signal: AbortSignal): Promise<StoredOrder | undefined> {
    const known = this.#ending.get(id);
    if (known) return orAborted(known, signal);
    const ending = this.#end(id).finally(() => {
      this.#ending.delete(id);
      this.pump();
    });
    this.#ending.set(id, ending);
    return orAborted(ending, signal);
  }

  async #end(id: string): Promise<StoredOrder | undefined> {
    await this.#pumping;
    const driven = this.#driving.get(id);
    driven?.cancel.abort(new Cancelled(`somebody cancelled ${id}`));
    await driven?.done;
    return cancelOrder(this.orders, id, this.#options.clock.now());
  }

  /** Whether any of these is ordered unasked. */
  isWanted(names: readonly string[]): boolean {
    const wanted = new Set(this.#options.wanted());
    return names.some((name) => wanted.has(name));
  }

  /** In order of preference, those that may be asked for all of these names. */
  issuersFor(names: readonly string[]): readonly Issuer[] {
    return issuersFor(names, this.#options.settings, this.#wishOf);
  }

  /** What the proxies of these names want of the key and the profile. */
  keyWishFor(names: readonly string[]) {
    return keyWishFor(names, this.#wishOf);
  }

  /** When an order in the name of this owner may be sent: now or before, or later. */
  ownerRoomAt(owner: string): Promise<number> {
    const { ownerBudget } = this.#options.settings;
    return this.orders.roomAt(ownerBudget ? ownerLimitsOf(owner, ownerBudget) : []);
  }

  /** Calls `changed` after every attempt at this order; returns how to stop that. */
  watch(id: string, changed: () => void): () => void {
    return this.#watchers.add(id, changed);
  }

  clientOf(issuer: Issuer): AcmeClient {
    return this.#clients.of(issuer);
  }

  /**
   * Gives our account at this CA another key, between orders: what a CA checks of an order is bound to the key by which
   * it was begun. @throws as `Accounts.rotate`; what the signal was aborted with, also while it waits for its turn
   */
  rotateAccountKey(issuer: Issuer, signal: AbortSignal): ReturnType<Accounts['rotate']> {
    const turn = this.#rotation.then(async () => {
      signal.throwIfAborted();
      this.#heldAt = issuer.directoryUrl;
      try {
        await orAborted(this.#quietAt(issuer.directoryUrl), signal);
        return await this.#accounts.rotate(issuer, this.clientOf(issuer), { signal });
      } finally {
        this.#heldAt = undefined;
        this.pump();
      }
    });
    // The next one has its turn whatever came of this one, whose caller gets the error.
    this.#rotation = turn.catch(() => undefined);
    return orAborted(turn, signal);
  }

  /** Resolves when no order is driven at this CA. */
  async #quietAt(directory: string): Promise<void> {
    await this.#pumping;
    const all = [...this.#driving.values()];
    const there = all.filter(({ directory: at }) => at === undefined || at === directory);
    await Promise.all(there.map(({ done }) => done));
  }

  #isHeld({ id, document }: StoredOrder): boolean {
    if (this.#ending.has(id)) return true;
    return this.#heldAt !== undefined && this.#heldAt === this.issuerOf(document)?.directoryUrl;
  }

  accountUrlOf(issuer: Issuer): Promise<string | undefined> {
    return this.#accounts.urlOf(issuer);
  }

  issuerNamed(name: string): Issuer | undefined {
    return this.#options.settings.issuers.find((issuer) => issuer.name === name);
  }

  /** The CA of an order; undefined: it is not set up any more. */
  issuerOf(document: Pick<OrderDocument, 'issuer' | 'directory'>): Issuer | undefined {
    return issuerOf(document, this.#options.settings.issuers);
  }

  /** When a certificate is renewed, milliseconds since 1970. */
  renewalAt(entry: Entry): number {
    return renewalTime(entry, this.#windows.of(entry.id), entry.id);
  }

  /** Resolves when nothing is planned or driven any more. */
  async settle(): Promise<void> {
    while (this.#driving.size + this.#background.size + this.#ending.size > 0 || this.#pumping) {
      const driven = [...this.#driving.values()].map(({ done }) => done);
      const ended = [...this.#ending.values()];
      // None of the others rejects; of these, who asked for it gets the error.
      await Promise.allSettled([...driven, ...this.#background, ...ended, this.#pumping]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#stop.abort();
    await this.settle();
    await this.#clients[Symbol.asyncDispose]();
  }

  async #changed(hostnames: readonly string[]): Promise<void> {
    const wanted = new Set(this.#options.wanted());
    const open = await this.#planning.outdated(hostnames);
    const looked = hostnames.filter((hostname) => wanted.has(hostname));
    await this.#planning.look(wanted, looked, open);
    this.pump();
  }

  /** Has what is due driven, as far as there is room. One at a time: asked for meanwhile, it looks once more. */
  pump(): void {
    if (this.#options.settings.off !== undefined || this.#stop.signal.aborted) return;
    this.#pumpAgain = true;
    this.#pumping ??= this.#pump().finally(() => (this.#pumping = undefined));
  }

  async #pump(): Promise<void> {
    try {
      while (this.#pumpAgain && !this.#stop.signal.aborted) {
        this.#pumpAgain = false;
        while (await this.#beginSome());
      }
    } catch (cause) {
      this.#write('error', `orders can't be worked on: ${messageOf(cause)}`);
    }
  }

  /** Whether any was begun: then there may be more, of other CAs. */
  async #beginSome(): Promise<boolean> {
    const places = new Places(this.#driving.values());
    const closed = places.closedOf(this.settings.issuers, this.#heldAt);
    if (closed.length > 0 && closed.length === this.settings.issuers.length) return false;
    let isNews = false;
    for (const order of await this.orders.due(MAX_AT_ONE_CA, closed)) {
      const directory = this.issuerOf(order.document)?.directoryUrl;
      if (places.isFull(directory) || this.#isHeld(order) || this.#driving.has(order.id)) continue;
      if (!(await this.orders.claim(order.id))) continue;
      places.take(directory);
      this.#begin(order, directory);
      isNews = true;
    }
    return isNews;
  }

  #begin({ id }: StoredOrder, directory: string | undefined): void {
    const cancel = new AbortController();
    const done = this.#drive(id, cancel.signal)
      .catch((cause: unknown) => {
        if (!(cause instanceof LeaseLost)) this.#write('error', `order ${id}: ${messageOf(cause)}`);
      })
      .finally(() => {
        this.#driving.delete(id);
        this.#watchers.tell(id);
        this.pump();
      });
    this.#driving.set(id, { done, cancel, directory });
  }

  async #drive(id: string, cancel: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const found = await this.orders.get(id);
    const order = found && (await this.#withIssuer(found));
    if (!order) return;
    const issuer = this.issuerOf(order.document);
    if (!issuer) return;
    const late = new AbortController();
    const driveMs = driveMsOf(order.document.names, this.#options);
    const timer = clock.after(driveMs, () => late.abort(cutOff(driveMs)));
    const signal = AbortSignal.any([this.#stop.signal, late.signal]);
    try {
      const done = await this.#issuing.drive(order, {
        issuer,
        call: { signal },
        cancel,
        deadline: clock.now() + driveMs,
      });
      for (const { hostname, message } of doneNews(done)) this.#write('info', message, hostname);
    } catch (cause) {
      // On the way out nothing is a failure: what is in the store is gone on with.
      if (this.#stop.signal.aborted || isCancelled(cause)) return this.orders.release(id);
      await this.#setBack(order, issuer, cause);
    } finally {
      timer.cancel();
    }
  }

  /** Settings may have changed since: an issuer that is gone is not asked, nor one that can't be for these names. */
  async #withIssuer(order: StoredOrder): Promise<StoredOrder | undefined> {
    if (this.issuerOf(order.document)) return order;
    const { names } = order.document;
    const { issuer } = chooseIssuer(names, { issuers: this.issuersFor(names) }, this.#options.dns01);
    if (issuer) return this.orders.step(order, moveTo(issuer, order));
    await this.orders.step(order, {
      state: 'abandoned',
      event: { kind: 'ended', text: `the issuer ${order.document.issuer} is not set up any more` },
    });
    return undefined;
  }

  async #setBack(before: StoredOrder, issuer: Issuer, cause: unknown): Promise<void> {
    if (cause instanceof LeaseLost) throw cause;
    const { clock, dns01, shelf } = this.#options;
    // The steps of the attempt are in the store; what was read before them is old.
    const order = (await this.orders.get(before.id)) ?? before;
    const now = clock.now();
    const ends = order.document.names.flatMap((name) => shelf.serving(name)?.notAfter ?? []);
    const step = setbackOf(cause, {
      order,
      issuer,
      issuers: this.issuersFor(order.document.names),
      dns01,
      now,
      restMs: ends.length > 0 ? Math.min(...ends) - now : undefined,
      waiting: cause instanceof Held ? await this.orders.countOpen() : 0,
    });
    await this.orders.step(order, { ...step, isLast: true, isNewKey: isKeyRefused(cause) });
    for (const news of setbackNews(order, step, now)) this.#write('warn', news.message, news.hostname);
    this.#options.events.emit('certificate.failed', { order: order.id, names: order.document.names });
  }

  /** Forgets what is over and what nobody got. */
  async sweep(): Promise<void> {
    await this.orders.sweep();
    const { clock, shelf } = this.#options;
    const now = clock.now();
    await this.#planning.giveUp(now - REQUESTED_MS);
    const isOver = ({ source, notAfter }: Entry) => source === 'acme' && notAfter + KEPT_AFTER_END_MS < now;
    await shelf.drop([...shelf.entries()].filter(isOver));
    this.#planning.forget(new Set([...shelf.entries()].map(({ id }) => id)));
  }

  /** In the background, awaited at the end; a failure is reported, and tried again at the next chance. */
  #run(work: Promise<void>): void {
    const task = work
      .catch((cause: unknown) =>
        this.#write('error', `certificates can't be looked after: ${messageOf(cause)}`),
      )
      .finally(() => this.#background.delete(task));
    this.#background.add(task);
  }

  #write(level: LogRecord['level'], message: string, hostname?: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level, component: 'certificates', message, hostname });
  }
}
