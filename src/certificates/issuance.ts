/**
 * Sees to it that every hostname that is served has a certificate of a CA, and keeps it: says what is wanted, opens an
 * order for what is missing or due, and has so many driven at once, the most urgent first. A coarse timer and the news
 * of proxies wake it. Knows no protocol (`issuing.ts`), no dates (`renewal.ts`) and no rows (`orders.ts`).
 */
import { type Clock, DAY, HOUR, MINUTE, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Events } from '../core/events.ts';
import type { Log, LogRecord } from '../core/record.ts';
import type { Sealer } from '../core/sealer.ts';
import { cleanText } from '../core/untrusted.ts';
import type { ChangeContext, Database } from '../store/database.ts';
import { Accounts } from './accounts.ts';
import { type AcmeClient, openAcmeClient } from './acme/client.ts';
import type { AccountRef } from './acme/session.ts';
import type { CertificateKeyType } from './acme/csr.ts';
import type { Entry } from './catalog.ts';
import { Challenges } from './challenges.ts';
import { chooseIssuer, type Dns01Port, type IssuanceSettings, type Issuer } from './issuers.ts';
import { DRIVE_MS, Issuing, type KeepCertificate } from './issuing.ts';
import { LeaseLost, Orders, type StoredOrder } from './orders.ts';
import { renewalTime } from './renewal.ts';
import { setbackOf } from './setback.ts';
import { Windows } from './windows.ts';

const EVERY_MS = MINUTE;
/** Orders that are driven at once. */
const MAX_AT_ONCE = 8;
const SWEEP_EVERY_MS = HOUR;
/** A certificate that is over is kept for people to see for this long. */
const KEPT_AFTER_END_MS = 7 * DAY;
export const urgency = { requested: 0, served: 1, renewal: 2 } as const;

/** What the certificates of this folder's service give. */
export interface Shelf {
  /** From elsewhere and valid now: what the hostname is served with. */
  serving(hostname: string): Entry | undefined;
  entries(): Iterable<Entry>;
  keep: KeepCertificate;
  chainOf(id: string): Promise<string | undefined>;
  /** Removes certificates that are over. */
  drop(entries: readonly Entry[]): Promise<void>;
}

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
  dns01?: Dns01Port | undefined;
  /** Whether no other process is on the store: then what was under way is taken up at once. */
  isAlone: boolean;
  /** Tests and simulations have their own CA. */
  openClient?: ((issuer: Issuer) => AcmeClient) | undefined;
}

export class Issuance implements AsyncDisposable {
  readonly #options: IssuanceOptions;
  readonly challenges: Challenges;
  readonly orders: Orders;
  readonly #accounts: Accounts;
  readonly #issuing: Issuing;
  readonly #windows: Windows;
  readonly #clients = new Map<string, AcmeClient>();
  readonly #driving = new Map<string, Promise<void>>();
  readonly #background = new Set<Promise<void>>();
  readonly #watchers = new Map<string, Set<() => void>>();
  readonly #stop = new AbortController();
  #timers: Timer[] = [];
  #unsubscribe: (() => void)[] = [];
  #pumping: Promise<void> | undefined;
  #pumpAgain = false;
  /** No order is begun. */
  #isHeld = false;
  #rotation: Promise<unknown> = Promise.resolve();

  constructor(options: IssuanceOptions) {
    const { clock, dns01, shelf } = options;
    this.#options = options;
    this.challenges = new Challenges(clock, dns01);
    this.orders = new Orders(options);
    this.#accounts = new Accounts(options);
    this.#windows = new Windows({ ...options, clientOf: (issuer) => this.clientOf(issuer) });
    this.#issuing = new Issuing({
      ...options,
      orders: this.orders,
      accounts: this.#accounts,
      challenges: this.challenges,
      clientOf: (issuer) => this.clientOf(issuer),
      keep: shelf.keep,
      chainOf: (id) => shelf.chainOf(id),
      dns01,
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
      clock.every(SWEEP_EVERY_MS, () => this.#run(this.#sweep())),
    ];
    this.#unsubscribe = [events.on('proxy.changed', ({ hostnames }) => this.#run(this.#changed(hostnames)))];
    this.#run(this.tick());
  }

  /** Looks at everything that is served. */
  async tick(): Promise<void> {
    const wanted = new Set(this.#options.wanted());
    await this.#plan(wanted, wanted);
    this.pump();
  }

  /** Opens or finds the order for these names; its turn is now. */
  async request(
    wanted: {
      names: readonly string[];
      issuer: Issuer;
      keyType: CertificateKeyType;
      replaces?: string | undefined;
    },
    context: ChangeContext = {},
  ): Promise<StoredOrder> {
    const order = await this.orders.open(
      {
        names: wanted.names,
        issuer: wanted.issuer.name,
        keyType: wanted.keyType,
        reason: wanted.replaces === undefined ? 'requested' : 'renewal',
        replaces: wanted.replaces,
        urgency: urgency.requested,
      },
      context,
    );
    await this.orders.hurry(order.id, urgency.requested);
    this.pump();
    return order;
  }

  /** Calls `changed` after every attempt at this order; returns how to stop that. */
  watch(id: string, changed: () => void): () => void {
    const watchers = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, watchers.add(changed));
    return () => {
      watchers.delete(changed);
      if (watchers.size === 0) this.#watchers.delete(id);
    };
  }

  clientOf(issuer: Issuer): AcmeClient {
    const known = this.#clients.get(issuer.name);
    if (known) return known;
    const { clock, openClient } = this.#options;
    const client =
      openClient?.(issuer) ??
      openAcmeClient({ directoryUrl: issuer.directoryUrl, clock, extraTrustPem: issuer.trustPem });
    this.#clients.set(issuer.name, client);
    return client;
  }

  accountOf(issuer: Issuer, signal: AbortSignal) {
    return this.#accounts.of(issuer, this.clientOf(issuer), { signal });
  }

  /**
   * Gives our account at this CA another key, between orders: what a CA checks of an order is bound to the key by which
   * it was begun. @throws as `Accounts.rotate`
   */
  async rotateAccountKey(issuer: Issuer, signal: AbortSignal): Promise<AccountRef> {
    const turn = this.#rotation.then(async () => {
      this.#isHeld = true;
      try {
        await Promise.all([this.#pumping, ...this.#driving.values()]);
        signal.throwIfAborted();
        return await this.#accounts.rotate(issuer, this.clientOf(issuer), { signal });
      } finally {
        this.#isHeld = false;
        this.pump();
      }
    });
    // The next one has its turn whatever came of this one, whose caller gets the error.
    this.#rotation = turn.catch(() => undefined);
    return turn;
  }

  issuerNamed(name: string): Issuer | undefined {
    return this.#options.settings.issuers.find((issuer) => issuer.name === name);
  }

  /** When a certificate is renewed, milliseconds since 1970. */
  renewalAt(entry: Entry): number {
    return renewalTime(entry, this.#windows.of(entry.id), entry.id);
  }

  /** Resolves when nothing is planned or driven any more. */
  async settle(): Promise<void> {
    while (this.#driving.size + this.#background.size > 0 || this.#pumping)
      await Promise.all([...this.#driving.values(), ...this.#background, this.#pumping]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#stop.abort();
    await this.settle();
    for (const client of this.#clients.values()) await client[Symbol.asyncDispose]();
  }

  async #changed(hostnames: readonly string[]): Promise<void> {
    const wanted = new Set(this.#options.wanted());
    await this.#plan(
      wanted,
      hostnames.filter((hostname) => wanted.has(hostname)),
    );
    this.pump();
  }

  /** `looked`: which of the wanted hostnames are looked at. */
  async #plan(wanted: ReadonlySet<string>, looked: Iterable<string>): Promise<void> {
    if (this.#options.settings.off !== undefined) return;
    const open = await this.orders.allOpen();
    await this.#abandon(open, wanted);
    const underWay = new Set(open.flatMap(({ document }) => document.names));
    const due = new Map<string, Entry>();
    for (const hostname of looked) {
      if (this.#stop.signal.aborted) return;
      if (underWay.has(hostname)) continue;
      const entry = this.#options.shelf.serving(hostname);
      if (!entry) await this.#openFor([hostname], { reason: 'served' });
      else if (entry.source === 'acme') due.set(entry.id, entry);
    }
    await this.#renew([...due.values()], wanted);
  }

  async #renew(entries: readonly Entry[], wanted: ReadonlySet<string>): Promise<void> {
    await this.#windows.refresh(entries, this.#stop.signal);
    const now = this.#options.clock.now();
    for (const entry of entries) {
      if (this.renewalAt(entry) > now) continue;
      const names = entry.names.filter((name) => wanted.has(name));
      await this.#openFor(names, { reason: 'renewal', replaces: entry.id });
    }
  }

  async #openFor(
    names: readonly string[],
    { reason, replaces }: { reason: 'served' | 'renewal'; replaces?: string },
  ): Promise<void> {
    const { settings, dns01 } = this.#options;
    const { issuer } = chooseIssuer(names, settings, dns01);
    if (!issuer) return;
    const before = replaces === undefined ? undefined : await this.orders.ofCertificate(replaces);
    const keyType = before?.document.key_type ?? 'p256';
    await this.orders.open({
      names,
      issuer: issuer.name,
      keyType,
      reason,
      replaces,
      urgency: urgency[reason],
    });
  }

  /** What nobody wants any more is not ordered; what somebody asked for by hand is. */
  async #abandon(open: readonly StoredOrder[], wanted: ReadonlySet<string>): Promise<void> {
    for (const order of open) {
      const { reason, names } = order.document;
      if (reason === 'requested' || names.some((name) => wanted.has(name))) continue;
      if (this.#driving.has(order.id) || !(await this.orders.claim(order.id))) continue;
      await this.orders.step(order, {
        state: 'abandoned',
        event: { kind: 'ended', text: 'none of its hostnames is served any more' },
      });
    }
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
        const room = MAX_AT_ONCE - this.#driving.size;
        if (room <= 0 || this.#isHeld) return;
        for (const order of await this.orders.due(room))
          if (!this.#isHeld && !this.#driving.has(order.id) && (await this.orders.claim(order.id)))
            this.#begin(order.id);
      }
    } catch (cause) {
      this.#write('error', `orders can't be worked on: ${messageOf(cause)}`);
    }
  }

  #begin(id: string): void {
    const driving = this.#drive(id)
      .catch((cause: unknown) => {
        if (!(cause instanceof LeaseLost)) this.#write('error', `order ${id}: ${messageOf(cause)}`);
      })
      .finally(() => {
        this.#driving.delete(id);
        for (const changed of this.#watchers.get(id) ?? []) changed();
        this.pump();
      });
    this.#driving.set(id, driving);
  }

  async #drive(id: string): Promise<void> {
    const { clock } = this.#options;
    const found = await this.orders.get(id);
    const order = found && (await this.#withIssuer(found));
    if (!order) return;
    const issuer = this.issuerNamed(order.document.issuer);
    if (!issuer) return;
    const late = new AbortController();
    const timer = clock.after(DRIVE_MS, () => late.abort());
    const signal = AbortSignal.any([this.#stop.signal, late.signal]);
    try {
      const done = await this.#issuing.drive(order, {
        issuer,
        call: { signal },
        deadline: clock.now() + DRIVE_MS,
      });
      this.#write('info', `${done.certificateId} for ${done.document.names.join(', ')} by ${issuer.name}`);
    } catch (cause) {
      // On the way out nothing is a failure: what is in the store is gone on with.
      if (this.#stop.signal.aborted) return this.orders.release(id);
      await this.#setBack(order, issuer, cause);
    } finally {
      timer.cancel();
    }
  }

  /** Settings may have changed since: an issuer that is gone is not asked, nor one that can't be for these names. */
  async #withIssuer(order: StoredOrder): Promise<StoredOrder | undefined> {
    if (this.issuerNamed(order.document.issuer)) return order;
    const { settings, dns01 } = this.#options;
    const { issuer } = chooseIssuer(order.document.names, settings, dns01);
    if (issuer)
      return this.orders.step(order, {
        state: 'waiting',
        document: { issuer: issuer.name, order_url: undefined, failures_at_issuer: 0, failed_challenges: [] },
      });
    await this.orders.step(order, {
      state: 'abandoned',
      event: { kind: 'ended', text: `the issuer ${order.document.issuer} is not set up any more` },
    });
    return undefined;
  }

  async #setBack(before: StoredOrder, issuer: Issuer, cause: unknown): Promise<void> {
    if (cause instanceof LeaseLost) throw cause;
    const { clock, settings, dns01, shelf } = this.#options;
    // The steps of the attempt are in the store; what was read before them is old.
    const order = (await this.orders.get(before.id)) ?? before;
    const now = clock.now();
    const [name = ''] = order.document.names;
    const serving = shelf.serving(name);
    const step = setbackOf(cause, {
      order,
      issuer,
      issuers: settings.issuers,
      dns01,
      now,
      restMs: serving && serving.notAfter - now,
    });
    await this.orders.step(order, step);
    await this.orders.release(order.id);
    this.#options.events.emit('certificate.failed', { order: order.id, names: order.document.names });
    const { text = '', ca_words: words } = step.event ?? {};
    const next = new Date(step.nextAttemptAt ?? now).toISOString();
    const said = words === undefined ? '' : `; the CA says: ${cleanText(words)}`;
    this.#write(
      'warn',
      `no certificate yet for ${order.document.names.join(', ')}: ${text}${said}; next attempt ${next}`,
      name,
    );
  }

  async #sweep(): Promise<void> {
    await this.orders.sweep();
    const now = this.#options.clock.now();
    const over = [...this.#options.shelf.entries()].filter(
      ({ source, notAfter }) => source === 'acme' && notAfter + KEPT_AFTER_END_MS < now,
    );
    await this.#options.shelf.drop(over);
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
