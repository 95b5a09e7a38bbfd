/**
 * What can be asked of orders: to make one, to renew or revoke what came of one, and why a hostname has the certificate
 * that it has. Called by the operations of this folder. The order itself is `issuance.ts`' affair.
 */
import { calculateJwkThumbprint } from 'jose';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { OperationContext } from '../core/operation.ts';
import { isConfined, mayTouch, type Principal, requireHostname } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import type { CertificateKeyType } from '../core/key-type.ts';
import { AcmeError } from './acme/fault.ts';
import { publicJwk } from './acme/jws.ts';
import type { RevocationReason } from './acme/revocation-reason.ts';
import { allLimitsOf } from './budget.ts';
import { hasEnded } from './cancelling.ts';
import { type Explanation, explanationOf } from './explain.ts';
import type { Issuance } from './issuance.ts';
import { challengesFor, chooseIssuer, type Dns01Port, type Issuer, whyNot } from './issuers.ts';
import type { OnDemand } from './on-demand.ts';
import { type OnDemandReport, onDemandReport } from './on-demand-standing.ts';
import type { Check, Preflight } from './preflight.ts';
import { reportOf } from './order-report.ts';
import type { Certificate, ListedCertificate, ToldCertificate } from './schema.ts';
import type { CertificateService } from './service.ts';
import { askedFirst } from './wishes.ts';

/** How long a call waits for its certificate. */
const WAIT_MS = 60 * SECOND;
const TELL_EVERY_MS = 2 * SECOND;
/** For orders under way to end, which are not begun with one key and ended with another, and for the CA. */
const ROTATE_MS = 5 * MINUTE;
const MAX_SHOWN_ORDERS = 5;
/** Of the hostname, the newest: some may have other names too, which the principal may not see. */
const MAX_LOOKED_AT = 50;

type Caller = Pick<OperationContext, 'principal' | 'signal' | 'progress' | 'idempotency'>;

export interface OrderingOptions {
  clock: Clock;
  issuance: Issuance;
  certificates: CertificateService;
  dns01: Dns01Port | undefined;
  /** The hostname or `*.parent` under which it is served; undefined: it is not. */
  servedName: (hostname: string) => string | undefined;
  preflight?: Preflight | undefined;
  /** In whose name an order for a hostname that is served counts; undefined: nobody's. */
  ownerOf?: ((name: string) => string | undefined) | undefined;
  /** Certificates for names that somebody comes for; undefined: there are none. */
  onDemand?: Pick<OnDemand, 'isFor' | 'standing'> | undefined;
  /** In whose name orders of this principal count; undefined: nobody's. */
  payer: (principal: Principal) => string | undefined;
}

export class OrderingService {
  readonly #options: OrderingOptions;

  constructor(options: OrderingOptions) {
    this.#options = options;
  }

  /** Waits for it, for a minute at most. @throws AppError FORBIDDEN, PRECONDITION_FAILED, INVALID_INPUT */
  async request(
    {
      names,
      issuer: wanted,
      keyType,
    }: {
      names: readonly string[];
      issuer?: string | undefined;
      keyType?: CertificateKeyType | undefined;
    },
    caller: Caller,
  ) {
    for (const name of names) requireHostname(caller.principal, name);
    const unique = [...new Set(names)];
    const issuer = this.#issuerFor(unique, wanted);
    this.#requireKey(unique, keyType);
    const owner = await this.#requireBudget(caller.principal);
    const order = await this.#options.issuance.request(
      {
        names: unique,
        issuer: issuer.name,
        keyType,
        owner,
        reason: 'requested',
        asked: { issuer: wanted === undefined ? undefined : issuer, keyType },
      },
      caller,
    );
    return this.#outcome(order.id, caller);
  }

  async renew(id: string, caller: Caller) {
    const { issuance, certificates } = this.#options;
    const { names, source } = await certificates.own(id, caller.principal);
    if (source !== 'acme')
      throw new AppError(
        'PRECONDITION_FAILED',
        `${id} is ${source === 'internal' ? 'of the internal CA, which renews it by itself' : 'imported; import a new one, or request_certificate orders one'}`,
      );
    const before = await issuance.orders.ofCertificate(id);
    const asked = before?.document.asked_directory;
    const issuer = this.#issuerFor(names, undefined, asked);
    const order = await issuance.request({
      names,
      issuer: issuer.name,
      askedDirectory: asked,
      keyType: issuance.keyWishFor(names).keyType ?? before?.document.key_type,
      owner: await this.#requireBudget(caller.principal),
      reason: 'renewal',
      replaces: id,
    });
    return this.#outcome(order.id, caller);
  }

  /** Waits for it, for a minute at most. @throws AppError NOT_FOUND, PRECONDITION_FAILED, CONFLICT, TIMEOUT */
  async cancel(id: string, caller: Caller) {
    const { issuance } = this.#options;
    const known = await issuance.orders.get(id);
    if (!known?.document.names.every((name) => mayTouch(caller.principal, name)))
      throw new AppError(
        'NOT_FOUND',
        `no order ${JSON.stringify(id)}; explain_certificate of a hostname names its orders`,
      );
    if (hasEnded(known)) return reportOf(known);
    if (known.document.reason !== 'requested')
      throw new AppError(
        'PRECONDITION_FAILED',
        `${id} was not asked for by hand: it is ordered because ${known.document.names.join(', ')} is served, and would be again; enable_https: false of the proxy, or disabling it, ends that`,
      );
    const late = `${id} is at a step that is not broken off, and ends when that is over, unless the CA has signed by then; cancel it again to be told`;
    const order = await this.#within(WAIT_MS, { caller, late }, (signal) => issuance.cancel(id, signal));
    return order && hasEnded(order) ? reportOf(order) : this.#outcome(id, caller);
  }

  /** It is not served any more from now on. @throws AppError UPSTREAM_FAILED with the words of the CA */
  async revoke(
    { id, reason }: { id: string; reason: RevocationReason },
    { principal, signal }: Pick<OperationContext, 'principal' | 'signal'>,
  ): Promise<Certificate> {
    const { certificates, issuance } = this.#options;
    const entry = await certificates.own(id, principal);
    try {
      return await issuance.revoking.revoke(entry, reason, signal);
    } finally {
      issuance.lookAt(entry.names);
    }
  }

  /** @throws AppError PRECONDITION_FAILED, INVALID_INPUT; UPSTREAM_FAILED with the words of the CA */
  async rotateAccountKey(name: string, caller: Pick<OperationContext, 'signal'>) {
    const { issuance, clock } = this.#options;
    const issuer = this.#known(name);
    const late = `orders at ${name} were under way, or it did not answer, for ${ROTATE_MS / MINUTE} minutes; whether its account has the new key is looked at before it is next used. Ask again later`;
    try {
      const { url, key } = await this.#within(ROTATE_MS, { caller, late }, (signal) =>
        issuance.rotateAccountKey(issuer, signal),
      );
      const thumbprint = await calculateJwkThumbprint(publicJwk(key));
      return { issuer: name, account_url: cleanText(url), thumbprint, rotated_at: toTimestamp(clock.now()) };
    } catch (cause) {
      if (!(cause instanceof AcmeError)) throw cause;
      throw new AppError(
        'UPSTREAM_FAILED',
        `whether the account at ${name} has its new key is looked at before it is next used: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /** `late`: what is said when it takes longer. @throws AppError TIMEOUT */
  async #within<T>(
    ms: number,
    { caller, late }: { caller: Pick<Caller, 'signal'>; late: string },
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const over = new AbortController();
    const timer = this.#options.clock.after(ms, () => over.abort(new AppError('TIMEOUT', late)));
    try {
      return await work(AbortSignal.any([caller.signal, over.signal]));
    } catch (cause) {
      throw over.signal.aborted && !caller.signal.aborted ? over.signal.reason : cause;
    } finally {
      timer.cancel();
    }
  }

  async get(id: string, { principal }: Pick<Caller, 'principal'>): Promise<ToldCertificate> {
    const { certificates, issuance } = this.#options;
    const certificate = await certificates.get(id, principal);
    const entry = certificates.entry(id);
    const order = await issuance.orders.ofCertificate(id);
    const isSeen = order?.document.names.every((name) => mayTouch(principal, name)) === true;
    return {
      ...certificate,
      ...(entry?.source === 'acme' && { renews_at: toTimestamp(issuance.renewalAt(entry)) }),
      ...(order && isSeen && { order: reportOf(order) }),
    };
  }

  /** `isChecked`: the DNS, the CA's directory and our own listeners are asked too, where a CA would be. */
  async explain(
    { hostname, isChecked }: { hostname: string; isChecked: boolean },
    { principal, signal }: Pick<Caller, 'principal' | 'signal'>,
  ): Promise<Explanation> {
    requireHostname(principal, hostname);
    const { issuance, certificates, dns01, servedName, clock } = this.#options;
    const now = clock.now();
    const servedAs = certificates.servedAs(hostname);
    const entry = certificates.inUse(hostname);
    const orderedAs = this.#orderedAs(hostname, servedAs);
    const latest = await issuance.orders.ofName(orderedAs, MAX_LOOKED_AT);
    const orders = latest
      .filter(({ document: { names } }) => names.every((name) => mayTouch(principal, name)))
      .slice(0, MAX_SHOWN_ORDERS);
    const certificate = entry && (await this.#shown(entry.id, principal));
    return explanationOf({
      hostname,
      servedAs,
      orderedAs,
      onDemand: await this.#onDemand(hostname, principal),
      isProxied: servedName(hostname) !== undefined,
      whyUnwanted: this.#whyUnwanted(hostname, servedAs),
      certificate,
      renewsAt: entry?.source === 'acme' ? issuance.renewalAt(entry) : undefined,
      settings: { ...issuance.settings, issuers: issuance.issuersFor([orderedAs]) },
      keyWish: issuance.keyWishFor([orderedAs]),
      dns01,
      orders,
      checks: isChecked ? await this.#checks(orderedAs, principal, signal) : [],
      now,
    });
  }

  /** Below a wildcard whose names get theirs one by one, each is ordered as what it is. */
  #orderedAs(hostname: string, servedAs: string | undefined): string {
    const wildcard = this.#wildcardOf(hostname);
    const isOnDemand = wildcard !== undefined && this.#options.onDemand?.isFor(wildcard) === true;
    return isOnDemand ? hostname : (servedAs ?? hostname);
  }

  async #onDemand(hostname: string, principal: Principal): Promise<OnDemandReport | undefined> {
    const { onDemand, clock } = this.#options;
    const wildcard = this.#wildcardOf(hostname);
    if (!onDemand || wildcard === undefined) return undefined;
    const standing = await onDemand.standing(hostname, wildcard);
    // What others came for is for who has the wildcard; of a whole registered domain it is for administrators.
    const isSeen = ({ subject }: { subject: string }) =>
      subject === wildcard ? mayTouch(principal, wildcard) : !isConfined(principal);
    return onDemandReport(standing, { now: clock.now(), isSeen });
  }

  /** Under which a name without a proxy of its own is served. */
  #wildcardOf(hostname: string): string | undefined {
    const served = this.#options.servedName(hostname);
    return served === hostname ? undefined : served;
  }

  #whyUnwanted(hostname: string, servedAs: string | undefined): string | undefined {
    const { issuance, servedName } = this.#options;
    if (servedAs === undefined || issuance.isWanted([hostname, servedAs])) return undefined;
    return servedName(hostname) === undefined
      ? `${servedAs} is for this machine, and is not ordered unasked`
      : 'its proxy has enable_https: false';
  }

  /** None where no CA would be asked: then nobody else is either. */
  async #checks(name: string, principal: Principal, signal: AbortSignal): Promise<Check[]> {
    const { issuance, certificates, dns01, preflight, ownerOf, payer } = this.#options;
    const { issuer } = chooseIssuer([name], { issuers: issuance.issuersFor([name]) }, dns01);
    if (issuance.settings.off !== undefined || !issuer || !preflight) return [];
    const entry = certificates.inUse(name);
    const owner = ownerOf?.(name);
    return preflight({
      name,
      issuer,
      challenges: challengesFor(name, dns01),
      isServed: certificates.servedAs(name) !== undefined,
      fingerprint: entry?.fingerprint,
      limits: allLimitsOf(
        { names: [name], subject: name, isRenewal: entry?.source === 'acme', issuer: issuer.name },
        {
          ...issuer,
          ownerBudget: issuance.settings.ownerBudget,
          // Whose a hostname is, and what they have ordered, is for them and for administrators.
          owner: isConfined(principal) && payer(principal) !== owner ? undefined : owner,
        },
      ),
      isConfined: isConfined(principal),
      signal,
    });
  }

  /** Undefined when it went away just now. */
  async #shown(id: string, principal: Principal): Promise<ListedCertificate | undefined> {
    try {
      return await this.#options.certificates.get(id, principal);
    } catch (cause) {
      if (cause instanceof AppError && cause.code === 'NOT_FOUND') return undefined;
      throw cause;
    }
  }

  /** `asked`: directory of the one that was asked for by name the last time. */
  #issuerFor(names: readonly string[], wanted: string | undefined, asked?: string): Issuer {
    const { issuance, dns01 } = this.#options;
    const { settings } = issuance;
    if (settings.off !== undefined)
      throw new AppError('PRECONDITION_FAILED', `no certificates are ordered: ${settings.off}`);
    if (wanted !== undefined) return this.#named(wanted, names);
    const issuers = askedFirst(issuance.issuersFor(names), asked);
    const { issuer, reasons } = chooseIssuer(names, { issuers }, dns01);
    if (issuer) return issuer;
    const why =
      reasons.map((each) => `${each.issuer}: ${each.why}`).join('; ') ||
      'the proxies of these names want none in common that is set up';
    throw new AppError('PRECONDITION_FAILED', `no CA that is set up can be asked: ${why}`);
  }

  #known(wanted: string): Issuer {
    const { issuance } = this.#options;
    const issuer = issuance.issuerNamed(wanted);
    if (issuer) return issuer;
    throw new AppError(
      'INVALID_INPUT',
      `issuer: there is no ${JSON.stringify(wanted)}; there are ${issuance.settings.issuers.map(({ name }) => name).join(', ')}`,
    );
  }

  #named(wanted: string, names: readonly string[]): Issuer {
    const { dns01, issuance } = this.#options;
    const issuer = this.#known(wanted);
    const possible = issuance.issuersFor(names);
    if (!possible.includes(issuer))
      throw new AppError(
        'PRECONDITION_FAILED',
        `the proxies of these names want ${possible.map(({ name }) => name).join(', ') || 'no CA'}, not ${wanted}; change issuers with update_proxy`,
      );
    const why = names.map((name) => whyNot(name, issuer, dns01)).find((reason) => reason !== undefined);
    if (why !== undefined) throw new AppError('PRECONDITION_FAILED', `${wanted} can't be asked: ${why}`);
    return issuer;
  }

  /** What a proxy does not want would be ordered anew at once. */
  #requireKey(names: readonly string[], wanted: CertificateKeyType | undefined): void {
    const { keyType } = this.#options.issuance.keyWishFor(names);
    if (wanted === undefined || keyType === undefined || wanted === keyType) return;
    throw new AppError(
      'PRECONDITION_FAILED',
      `key_type: a proxy of these names wants ${keyType}; change it with update_proxy`,
    );
  }

  /** In whose name it counts. @throws AppError RATE_LIMITED when the budget is spent */
  async #requireBudget(principal: Principal): Promise<string | undefined> {
    const { clock, issuance, payer } = this.#options;
    const owner = payer(principal);
    if (owner === undefined) return undefined;
    const at = await issuance.ownerRoomAt(owner);
    if (at <= clock.now()) return owner;
    const { perDay, perWeek } = issuance.settings.ownerBudget ?? {};
    throw new AppError(
      'RATE_LIMITED',
      `the budget of this credential, with all that whoever made it has made, is spent: ${perDay} orders a day, ${perWeek} a week; the next is possible at ${toTimestamp(at)}`,
      { details: { retry_at: toTimestamp(at) } },
    );
  }

  /** As it stands after the first attempt that settles something, or after a minute. */
  async #outcome(id: string, { signal, progress }: Caller) {
    const { clock, issuance } = this.#options;
    const attempted = Promise.withResolvers<void>();
    const stopWatching = issuance.watch(id, attempted.resolve);
    const late = clock.after(WAIT_MS, attempted.resolve);
    let told = 0;
    const tell = async () => {
      const order = await issuance.orders.get(id);
      const { text = 'the order is under way' } = order?.document.events.at(-1) ?? {};
      told += 1;
      progress?.({ progress: told, total: WAIT_MS / TELL_EVERY_MS, message: cleanText(text) });
    };
    // A store that fails says so to who reads the outcome, below.
    const telling = clock.every(TELL_EVERY_MS, () => void (progress && tell().catch(() => undefined)));
    signal.addEventListener('abort', () => attempted.resolve(), { once: true });
    try {
      const order = await issuance.orders.get(id);
      const isComing = order && !hasEnded(order) && order.nextAttemptAt <= clock.now() + WAIT_MS;
      if (isComing === true && !signal.aborted) await attempted.promise;
    } finally {
      stopWatching();
      late.cancel();
      telling.cancel();
    }
    const order = await issuance.orders.get(id);
    if (!order) throw new AppError('NOT_FOUND', `the order ${cleanText(id)} is gone`);
    return reportOf(order);
  }
}
