/**
 * Certificates for names below a wildcard that has none itself, each ordered when somebody comes for the name. A stranger
 * chooses those names, so that each is asked for at the rule first, then at the budgets; what is refused is remembered,
 * and everything that grows with the number of names has a bound. Called by the choice of a certificate for a handshake
 * (`select.ts`). What is asked for at the CA is `issuance.ts`' affair.
 */
import { type Clock, HOUR, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { coversHostname } from '../core/hostname.ts';
import { RateLimiter } from '../core/rate-limit.ts';
import { type Log, writeDebug } from '../core/record.ts';
import type { Database } from '../store/database.ts';
import { mayHave } from './ask.ts';
import { type OnDemandBudget, onDemandLimitsOf } from './budget.ts';
import type { Entry } from './catalog.ts';
import type { Issuance } from './issuance.ts';
import { chooseIssuer, type Dns01Port } from './issuers.ts';
import type { StoredOrder } from './order-rows.ts';
import type { Answer, Pause, Standing } from './on-demand-standing.ts';
import { SharedRate } from './shared-rate.ts';
import type { Shelf } from './shelf.ts';

/** A handshake waits so long for its certificate; below the time that a handshake may take (`gateway.header_timeout_ms`). */
export const WAIT_MS = 12 * SECOND;
/** Names for which handshakes wait at once. */
export const MAX_WAITING = 100;
/** Of those, below one wildcard: the others have theirs also when one is flooded. */
export const MAX_WAITING_BELOW_ONE = 50;
/** Of those, for the service, which may be slow: what it allowed before goes on. */
export const MAX_ASKING_BELOW_ONE = 25;
/** Questions to the rule in a minute, half of them below one wildcard: names are a stranger's choice, the service that answers is the operator's. */
export const ASKS_PER_MINUTE = 600;
/** Those before renewals leave the rest to handshakes, which wait. */
const RENEWAL_ASKS_PER_MINUTE = 60;
export const MAX_REMEMBERED = 10_000;
const ALLOWED_MS = 5 * MINUTE;
const REFUSED_MS = MINUTE;
const UNANSWERED_MS = 10 * SECOND;
const FAILED_MS = 15 * MINUTE;
/** Nobody waits for a renewal, and there is a third of a life for it. */
const RENEWAL_REFUSED_MS = HOUR;
const RENEWAL_UNANSWERED_MS = 10 * MINUTE;
/** How exactly it is kept when a name was last come for. */
const SEEN_EVERY_MS = HOUR;
const WRITE_EVERY_MS = 10 * MINUTE;
/** Of renewals, which no stranger chooses. */
const RENEWALS = 'renewals';

export interface OnDemandRule extends OnDemandBudget {
  /** Hostnames and `*.parent`; undefined: any that the service allows. */
  readonly allow: readonly string[] | undefined;
  readonly ask: string | undefined;
  readonly perMinute: number;
}

export interface OnDemandOptions {
  database: Database;
  clock: Clock;
  log: Log;
  /** Undefined: none are made on demand. */
  rule: OnDemandRule | undefined;
  issuance: Issuance;
  shelf: Pick<Shelf, 'serving'>;
  dns01: Dns01Port | undefined;
  /** For the service that is asked. */
  fetch: typeof globalThis.fetch;
  /** Whether the proxy of this wildcard wants it; undefined: where the wildcard can't have a certificate itself. */
  choiceOf: (wildcard: string) => boolean | undefined;
}

interface Seen {
  readonly wildcard: string;
  at: number;
  writtenAt: number;
}

export class OnDemand implements AsyncDisposable {
  readonly #options: OnDemandOptions;
  readonly #waiting = new Map<string, Promise<Entry | undefined>>();
  /** By wildcard. */
  readonly #waitingBelow = new Map<string, number>();
  readonly #askingBelow = new Map<string, number>();
  /** What the rule said, or what came of it, until when. `pause`: why it is a no. */
  readonly #verdicts = new Map<string, { pause: Pause | undefined; until: number }>();
  /** What the service said last, for people to read. */
  readonly #answers = new Map<string, Answer>();
  /** What the rule said of a renewal, until when. */
  readonly #renewals = new Map<string, { isAllowed: boolean; until: number }>();
  /** Names that the service is to be asked for before they are renewed. */
  readonly #toAsk = new Set<string>();
  #asking: Promise<void> | undefined;
  /** After a silence of the service. */
  #askAgainAt = 0;
  /** Names that have a certificate so. */
  readonly #seen = new Map<string, Seen>();
  readonly #asks: SharedRate;
  readonly #renewalAsks: RateLimiter;
  readonly #orders: SharedRate;
  readonly #stop = new AbortController();
  readonly #timer: Timer;
  #writing: Promise<void> | undefined;

  constructor(options: OnDemandOptions) {
    const { clock, rule } = options;
    this.#options = options;
    this.#asks = new SharedRate(clock, ASKS_PER_MINUTE);
    this.#renewalAsks = new RateLimiter(clock, RENEWAL_ASKS_PER_MINUTE, 1);
    this.#orders = new SharedRate(clock, rule?.perMinute ?? 1);
    this.#timer = clock.every(WRITE_EVERY_MS, () => void this.flush());
  }

  async load(): Promise<void> {
    const rows = await this.#options.database.read.selectFrom('on_demand_names').selectAll().execute();
    for (const { hostname, wildcard, last_seen_at: at } of rows)
      this.#seen.set(hostname, { wildcard, at, writtenAt: at });
  }

  /** Whether names below this wildcard get their certificates so. */
  isFor(wildcard: string): boolean {
    const { rule, issuance, choiceOf, dns01 } = this.#options;
    if (!rule || issuance.settings.off !== undefined || !wildcard.startsWith('*.')) return false;
    const choice = choiceOf(wildcard);
    if (choice !== undefined) return choice;
    return !chooseIssuer([wildcard], { issuers: issuance.issuersFor([wildcard]) }, dns01).issuer;
  }

  /** How it stands with a name below this wildcard, by what is known here: the service is not asked. */
  async standing(hostname: string, wildcard: string): Promise<Standing> {
    const { rule, issuance } = this.#options;
    const limits = rule ? onDemandLimitsOf(hostname, wildcard, rule) : [];
    const verdict = this.#verdicts.get(hostname);
    return {
      wildcard,
      off: this.#whyOff(hostname, wildcard),
      answer: this.#answers.get(hostname),
      pause: verdict?.pause && { why: verdict.pause, until: verdict.until },
      minuteWaitMs: this.#orders.wait(wildcard),
      isCrowded:
        this.#waiting.size >= MAX_WAITING || (this.#waitingBelow.get(wildcard) ?? 0) >= MAX_WAITING_BELOW_ONE,
      budgets: await Promise.all(
        limits.map(async (limit) => ({ limit, ...(await issuance.orders.usageOf(limit)) })),
      ),
    };
  }

  #whyOff(hostname: string, wildcard: string): string | undefined {
    const { rule, issuance, choiceOf, dns01 } = this.#options;
    if (!rule) return 'acme.on_demand is not set up';
    if (issuance.settings.off !== undefined) return issuance.settings.off;
    if (!this.isFor(wildcard))
      return choiceOf(wildcard) === false
        ? `the proxy ${wildcard} has certificate.on_demand: false`
        : `${wildcard} can have a certificate itself; certificate.on_demand of its proxy orders one for each name`;
    if (!this.#isListed(hostname)) return `acme.on_demand.allow does not have ${hostname}`;
    const { issuer, reasons } = chooseIssuer([hostname], { issuers: issuance.issuersFor([hostname]) }, dns01);
    return issuer ? undefined : (reasons.at(0)?.why ?? 'its proxy wants no CA that is set up');
  }

  /** Waits for it, for `WAIT_MS` at most; undefined: there is none, and what else there is has to do. */
  async certificate(hostname: string, wildcard: string): Promise<Entry | undefined> {
    if (!this.isFor(wildcard) || !this.#isListed(hostname)) return undefined;
    const verdict = this.#verdicts.get(hostname);
    if (verdict?.pause && this.#options.clock.now() < verdict.until) return undefined;
    const known = this.#waiting.get(hostname);
    if (known) return known;
    if (this.#waiting.size >= MAX_WAITING) return undefined;
    if ((this.#waitingBelow.get(wildcard) ?? 0) >= MAX_WAITING_BELOW_ONE) return undefined;
    const waiting = counted(this.#waitingBelow, wildcard, () => this.#obtain(hostname, wildcard))
      .catch((cause: unknown) => {
        this.#say('warn', hostname, `no certificate on demand: ${messageOf(cause)}`);
        return undefined;
      })
      .finally(() => this.#waiting.delete(hostname));
    this.#waiting.set(hostname, waiting);
    return waiting;
  }

  /** Somebody came for a name that has a certificate of its own below a wildcard. */
  seen(hostname: string, wildcard: string): void {
    if (!this.isFor(wildcard) || !this.#isListed(hostname)) return;
    const now = this.#options.clock.now();
    const known = this.#seen.get(hostname);
    if (known) known.at = now;
    else this.#seen.set(hostname, { wildcard, at: now, writtenAt: 0 });
  }

  /** Names whose certificates are kept going: those that were come for in the last half of a life. */
  *wanted(): Generator<string> {
    const now = this.#options.clock.now();
    for (const [hostname, { wildcard, at }] of this.#seen) {
      const entry = this.#options.shelf.serving(hostname);
      if (entry?.source !== 'acme' || !this.isFor(wildcard)) continue;
      if (isComeFor(entry, at, now)) yield hostname;
    }
  }

  /**
   * Whether the rule allows the name still, asked when it is due. While the service was not asked, the answer is no and
   * the question is on its way: a service that is slow or away holds up nobody's renewal but those that depend on it.
   */
  mayRenew(hostname: string): boolean {
    const { rule, clock } = this.#options;
    if (!this.#isListed(hostname)) return false;
    if (rule?.ask === undefined) return true;
    const verdict = this.#renewals.get(hostname);
    if (verdict && clock.now() < verdict.until) return verdict.isAllowed;
    if (clock.now() < this.#askAgainAt) return false;
    if (this.#toAsk.size < MAX_REMEMBERED) this.#toAsk.add(hostname);
    this.#asking ??= this.#askForRenewals(rule.ask).finally(() => (this.#asking = undefined));
    return false;
  }

  /** Resolves when no question before a renewal is on its way. */
  async settle(): Promise<void> {
    await this.#asking;
  }

  /** Whether its certificate may end, because nobody comes for the name any more. */
  isLeft(hostname: string): boolean {
    const seen = this.#seen.get(hostname);
    const entry = this.#options.shelf.serving(hostname);
    if (!seen || entry?.source !== 'acme') return false;
    return !isComeFor(entry, seen.at, this.#options.clock.now());
  }

  /** Keeps when names were come for; forgets those whose certificate is gone. */
  flush(): Promise<void> {
    this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
    return this.#writing;
  }

  async #write(): Promise<void> {
    const due = [...this.#seen].filter(([, { at, writtenAt }]) => at - writtenAt >= SEEN_EVERY_MS);
    const gone = [...this.#seen.keys()].filter((hostname) => !this.#options.shelf.serving(hostname));
    if (due.length + gone.length === 0) return;
    try {
      await this.#options.database.change({}, async (tx) => {
        for (const [hostname, { wildcard, at }] of due)
          await tx
            .insertInto('on_demand_names')
            .values({ hostname, wildcard, last_seen_at: at })
            .onConflict((conflict) => conflict.column('hostname').doUpdateSet({ wildcard, last_seen_at: at }))
            .execute();
        for (const hostname of gone)
          await tx.deleteFrom('on_demand_names').where('hostname', '=', hostname).execute();
      });
      for (const [, seen] of due) seen.writtenAt = seen.at;
      for (const hostname of gone) this.#seen.delete(hostname);
    } catch (cause) {
      this.#say('error', undefined, `when names were last come for can't be kept: ${messageOf(cause)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.cancel();
    this.#stop.abort();
    this.#asks.stop();
    this.#renewalAsks.stop();
    this.#orders.stop();
    await Promise.all([...this.#waiting.values(), this.#asking, this.#writing]);
    await this.flush();
  }

  #isListed(hostname: string): boolean {
    const { rule } = this.#options;
    return rule?.allow?.some((pattern) => coversHostname(pattern, hostname)) ?? rule?.ask !== undefined;
  }

  async #obtain(hostname: string, wildcard: string): Promise<Entry | undefined> {
    const { issuance, shelf, dns01 } = this.#options;
    const underWay = await issuance.orders.ofSubject(hostname);
    if (underWay && underWay.document.reason !== 'on-demand') return this.#watched(underWay, hostname);
    // One that is under way was asked for at the rule before.
    // While no order may be made, nobody is asked, so that a flood of names costs next to nothing.
    if (!underWay && (this.#orders.wait(wildcard) > 0 || !(await this.#isAllowed(hostname, wildcard))))
      return undefined;
    const { issuer } = chooseIssuer([hostname], { issuers: issuance.issuersFor([hostname]) }, dns01);
    if (!issuer) return undefined;
    if (!underWay && !(await this.#hasRoom(hostname, wildcard))) return undefined;
    const order = await issuance.request({
      names: [hostname],
      issuer: issuer.name,
      // Strangers use up the budgets of their own, and nobody else's.
      owner: undefined,
      wildcard,
      reason: 'on-demand',
    });
    await this.#attempt(order.id);
    const entry = shelf.serving(hostname);
    if (entry) this.seen(hostname, wildcard);
    else if ((await issuance.orders.get(order.id))?.state === 'abandoned')
      this.#remember(hostname, 'failed', FAILED_MS);
    return entry;
  }

  /** Ordered for another reason: what comes of it is waited for, and no stranger brings it forward. */
  async #watched({ id, nextAttemptAt }: StoredOrder, hostname: string): Promise<Entry | undefined> {
    const { shelf, clock } = this.#options;
    if (nextAttemptAt > clock.now()) return undefined;
    await this.#attempt(id);
    return shelf.serving(hostname);
  }

  async #isAllowed(hostname: string, wildcard: string): Promise<boolean> {
    const { rule, clock } = this.#options;
    const verdict = this.#verdicts.get(hostname);
    if (verdict && clock.now() < verdict.until) return verdict.pause === undefined;
    const { ask } = rule ?? {};
    if (ask === undefined) return true;
    if ((this.#askingBelow.get(wildcard) ?? 0) >= MAX_ASKING_BELOW_ONE) return false;
    if (!this.#asks.take(wildcard)) return false;
    try {
      const isAllowed = await counted(this.#askingBelow, wildcard, () => this.#ask(ask, hostname));
      if (isAllowed) this.#remember(hostname, undefined, ALLOWED_MS);
      else this.#remember(hostname, 'refused', REFUSED_MS);
      writeDebug(this.#options, 'certificates', () => ({
        message: `a certificate on demand is ${isAllowed ? 'allowed' : 'refused'} by the rule`,
        hostname,
      }));
      return isAllowed;
    } catch (cause) {
      this.#answered(hostname, 'silent');
      this.#remember(hostname, 'silent', UNANSWERED_MS);
      this.#say('warn', hostname, `acme.on_demand.ask gives no answer, which is a no: ${messageOf(cause)}`);
      return false;
    }
  }

  /** What the service says, which is kept for people to read. @throws when there was no answer. */
  async #ask(askUrl: string, hostname: string): Promise<boolean> {
    const { fetch } = this.#options;
    const isAllowed = await mayHave(askUrl, hostname, { fetch, signal: this.#stop.signal });
    this.#answered(hostname, isAllowed ? 'allowed' : 'refused');
    return isAllowed;
  }

  /** One after the other. What is left when there is no answer, or no room for more, is asked at the next look. */
  async #askForRenewals(askUrl: string): Promise<void> {
    const { clock } = this.#options;
    for (const [hostname, { until }] of this.#renewals)
      if (until <= clock.now()) this.#renewals.delete(hostname);
    try {
      for (const hostname of this.#toAsk) {
        if (this.#stop.signal.aborted || this.#renewalAsks.take(RENEWALS) > 0) break;
        const isAllowed = await this.#ask(askUrl, hostname);
        const until = clock.now() + (isAllowed ? ALLOWED_MS : RENEWAL_REFUSED_MS);
        this.#renewals.set(hostname, { isAllowed, until });
        if (!isAllowed)
          this.#say('warn', hostname, 'its certificate is not renewed: acme.on_demand.ask refuses it');
      }
    } catch (cause) {
      this.#askAgainAt = clock.now() + RENEWAL_UNANSWERED_MS;
      if (!this.#stop.signal.aborted)
        this.#say(
          'warn',
          undefined,
          `acme.on_demand.ask gives no answer, and names that came on demand are not renewed: ${messageOf(cause)}`,
        );
    } finally {
      this.#toAsk.clear();
    }
  }

  async #hasRoom(hostname: string, wildcard: string): Promise<boolean> {
    const { rule, issuance, clock } = this.#options;
    if (!rule) return false;
    const at = await issuance.orders.roomAt(onDemandLimitsOf(hostname, wildcard, rule));
    const waitMs = at - clock.now();
    if (waitMs > 0) {
      this.#remember(hostname, 'no_room', Math.min(waitMs, FAILED_MS));
      return false;
    }
    return this.#orders.take(wildcard);
  }

  /** Until its first attempt is over, or the time is up. */
  async #attempt(id: string): Promise<void> {
    const { issuance, clock } = this.#options;
    const done = Promise.withResolvers<void>();
    const stopWatching = issuance.watch(
      id,
      // What can't be read now is read again below, by who gets the error.
      () =>
        void this.#isOver(id).then(
          (isOver) => isOver && done.resolve(),
          () => done.resolve(),
        ),
    );
    const late = clock.after(WAIT_MS, done.resolve);
    const stopped = () => done.resolve();
    this.#stop.signal.addEventListener('abort', stopped, { once: true });
    try {
      if (!(await this.#isOver(id)) && !this.#stop.signal.aborted) await done.promise;
    } finally {
      stopWatching();
      late.cancel();
      this.#stop.signal.removeEventListener('abort', stopped);
    }
  }

  async #isOver(id: string): Promise<boolean> {
    const order = await this.#options.issuance.orders.get(id);
    return !order || order.state === 'issued' || order.state === 'abandoned';
  }

  #remember(hostname: string, pause: Pause | undefined, forMs: number): void {
    keep(this.#verdicts, hostname, { pause, until: this.#options.clock.now() + forMs });
  }

  #answered(hostname: string, answer: Answer['answer']): void {
    keep(this.#answers, hostname, { answer, at: this.#options.clock.now() });
  }

  #say(level: 'warn' | 'error', hostname: string | undefined, message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level, component: 'certificates', message, hostname });
  }
}

/** Counts it while it is under way. */
async function counted<T>(counts: Map<string, number>, key: string, work: () => Promise<T>): Promise<T> {
  counts.set(key, (counts.get(key) ?? 0) + 1);
  try {
    return await work();
  } finally {
    const left = (counts.get(key) ?? 1) - 1;
    if (left > 0) counts.set(key, left);
    else counts.delete(key);
  }
}

/** Of too many the oldest goes. */
function keep<T>(map: Map<string, T>, hostname: string, value: T): void {
  map.delete(hostname);
  if (map.size >= MAX_REMEMBERED) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  map.set(hostname, value);
}

const isComeFor = ({ notBefore, notAfter }: Entry, at: number, now: number): boolean =>
  at >= now - (notAfter - notBefore) / 2;
