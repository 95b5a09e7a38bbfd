/**
 * Drives one order from where it stands to its certificate: what the store says is done is not done again, and what the
 * CA says of the order decides what comes next. So it makes no difference whether it is the first try, or one after a
 * crash at any point. Called by `issuance.ts`, which holds the lease; when to try again is `renewal.ts`.
 */
import { type Clock, SECOND } from '../core/clock.ts';
import type { Database } from '../store/database.ts';
import type { Account, Accounts } from './accounts.ts';
import { type Authorization, type Challenge, isNewError } from './acme/authorization.ts';
import { certificateId } from './acme/certificate-id.ts';
import type { AcmeClient } from './acme/client.ts';
import { writeCsr } from './acme/csr.ts';
import { dns01Answer } from './acme/dns-01.ts';
import { AcmeError, AcmeFault, type FaultCode } from './acme/fault.ts';
import type { NewOrder, Order } from './acme/order.ts';
import { AcmeProblem, acmeType, type Problem } from './acme/problem.ts';
import type { Call } from './acme/session.ts';
import { allLimitsOf, type Limit, onDemandLimitsOf } from './budget.ts';
import { endCancelled } from './cancelling.ts';
import type { ChallengeRecords } from './challenge-records.ts';
import type { Challenges } from './challenges.ts';
import {
  type ChallengeType,
  challengesFor,
  challengeTypes,
  type Dns01Port,
  type IssuanceSettings,
  type Issuer,
  issuerOf,
} from './issuers.ts';
import type { OrderEvent } from './order-schema.ts';
import { type StoredOrder, subjectOf } from './order-rows.ts';
import type { Orders } from './orders.ts';
import type { KeepCertificate } from './shelf.ts';
import { toPkcs8 } from './x509.ts';

/** Each turn brings an order on by one state; one that goes round is left for later. */
const MAX_TURNS = 12;
/** Of the CA's list, the newest ones are looked at for the one whose URL did not arrive. */
const MAX_LOOKED_AT = 30;

export interface IssuingOptions {
  database: Database;
  orders: Orders;
  accounts: Accounts;
  challenges: Challenges;
  records: ChallengeRecords | undefined;
  clock: Clock;
  clientOf: (issuer: Issuer) => AcmeClient;
  keep: KeepCertificate;
  /** The chain of a certificate of ours, for the CA to know what is replaced; undefined when it is gone. */
  chainOf: (certificateId: string) => Promise<string | undefined>;
  dns01: Dns01Port | undefined;
  settings: Pick<IssuanceSettings, 'ownerBudget' | 'onDemand'>;
}

interface Work {
  readonly issuer: Issuer;
  readonly client: AcmeClient;
  readonly account: Account;
  readonly call: Call;
  /** Milliseconds since 1970. */
  readonly deadline: number;
}

interface Attempt extends Pick<Work, 'issuer' | 'call' | 'deadline'> {
  /** Ends what comes before the CA is asked to sign. */
  readonly cancel: AbortSignal;
}

interface Proof {
  /** As in the order. */
  readonly name: string;
  readonly authorization: Authorization;
  readonly challenge: Challenge & { readonly type: ChallengeType; readonly token: string };
}

/** A name could not be shown to be ours. */
export class ProofFailed extends Error {
  override readonly name = 'ProofFailed';
  readonly hostname: string;
  readonly challenge: ChallengeType | undefined;
  readonly problem: Problem | undefined;

  constructor(hostname: string, challenge: ChallengeType | undefined, problem: Problem | undefined) {
    super(`the CA could not check ${hostname} by ${challenge ?? 'any challenge'}`);
    this.hostname = hostname;
    this.challenge = challenge;
    this.problem = problem;
  }
}

/** The CA does not tell of an order that it made, or keeps the certificate: what it was asked for may be signed. */
export class Denied extends Error {
  override readonly name = 'Denied';
  readonly refusal: AcmeError;

  constructor(refusal: AcmeError) {
    super(refusal.message, { cause: refusal });
    this.refusal = refusal;
  }
}

export class Issuing {
  readonly #options: IssuingOptions;

  constructor(options: IssuingOptions) {
    this.#options = options;
  }

  /** @throws ProofFailed, Denied, Unpublished, Held, LeaseLost, AcmeProblem, AcmeFault; what the signal says */
  async drive(order: StoredOrder, attempt: Attempt): Promise<StoredOrder> {
    try {
      return await this.#attempt(order, attempt);
    } finally {
      await this.#options.records?.withdraw(order.id);
    }
  }

  async #attempt(order: StoredOrder, { issuer, call, deadline, cancel }: Attempt): Promise<StoredOrder> {
    const { orders, accounts, clientOf } = this.#options;
    const { cancelled, order_url: url } = order.document;
    if (cancelled && url === undefined) return endCancelled(orders, order);
    const client = clientOf(issuer);
    if (url === undefined) await this.#requireZones(order, call);
    const account = await accounts.of(issuer, client, call);
    const work: Work = { issuer, client, account, call, deadline };
    const before: Work = { ...work, call: { ...call, signal: AbortSignal.any([call.signal, cancel]) } };
    try {
      return await this.#driveTo(order, work, before);
    } catch (cause) {
      if (cause instanceof AcmeProblem && cause.type === 'accountDoesNotExist')
        await accounts.forget(issuer, account.url);
      throw cause;
    }
  }

  /** `before`: for what comes before the CA is asked to sign. */
  async #driveTo(order: StoredOrder, work: Work, before: Work): Promise<StoredOrder> {
    const { client, account, call, deadline } = work;
    let current = await this.#send(order, before);
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      const remote = await told(client.getOrder(account, urlOf(current), before.call));
      const isSigned = remote.status === 'valid' || remote.status === 'processing';
      if (order.document.cancelled && !isSigned) return endCancelled(this.#options.orders, current);
      if (remote.status === 'valid') return this.#fetch(await this.#signed(current), remote, work);
      if (remote.status === 'invalid') throw await this.#whyInvalid(remote, work);
      if (remote.status === 'pending') current = await this.#prove(current, remote, before);
      if (remote.status === 'ready') current = await this.#finalize(current, remote, work);
      if (remote.status === 'processing')
        await told(client.pollOrder(account, remote.url, { ...call, deadline, while: ['processing'] }));
    }
    throw new AcmeFault('deadline', 'the order at the CA does not get on', { consequence: 'retry_later' });
  }

  /** All that sending it counts against. */
  #limits({ document }: StoredOrder, { directoryUrl: issuer, limits }: Issuer): Limit[] {
    const { names, reason, owner, wildcard } = document;
    const { ownerBudget, onDemand } = this.#options.settings;
    const [name = ''] = names;
    const counted = { names, subject: subjectOf(names), isRenewal: reason === 'renewal', issuer };
    return [
      ...(wildcard !== undefined && onDemand ? onDemandLimitsOf(name, wildcard, onDemand) : []),
      ...allLimitsOf(counted, { limits, owner, ownerBudget }),
    ];
  }

  /** What only DNS-01 can show is not asked for where no record could be written. */
  async #requireZones({ document: { names } }: StoredOrder, { signal }: Call): Promise<void> {
    const { records, dns01 } = this.#options;
    const byDnsOnly = names.filter((name) => challengesFor(name, dns01).every((type) => type === 'dns-01'));
    if (byDnsOnly.length > 0) await records?.check(byDnsOnly, signal);
  }

  /** The order at the CA, made when there is none. What a reply that was lost may have made is looked for first. */
  async #send(order: StoredOrder, work: Work): Promise<StoredOrder> {
    const { orders, clock } = this.#options;
    if (order.document.order_url !== undefined) return order;
    if (order.state === 'sending') {
      const found = await this.#recover(order, work);
      if (found) return this.#sent(order, found.url, 'found at the CA the order that it had made');
    }
    const { attempts, names } = order.document;
    const sending = await orders.step(order, {
      state: 'sending',
      document: { attempts: attempts + 1, sent_at: clock.now() },
      event: { kind: 'sent', text: `asked ${work.issuer.name} for a certificate for ${names.join(', ')}` },
      limits: this.#limits(order, work.issuer),
    });
    const { order: sent, made } = await this.#create(sending, work);
    return this.#sent(sent, made.url, `the CA made order ${made.url}`);
  }

  #sent(order: StoredOrder, url: string, text: string): Promise<StoredOrder> {
    return this.#options.orders.step(order, {
      state: 'ordered',
      document: { order_url: url, sent_at: this.#options.clock.now() },
      event: { kind: 'ordered', text },
    });
  }

  async #create(order: StoredOrder, work: Work): Promise<{ order: StoredOrder; made: Order }> {
    const { client, account, call, issuer } = work;
    const { document } = order;
    const { meta } = await client.directory(call);
    const wished = document.profile;
    // A profile is the CA's own: at another one, its usual certificate is better than none.
    const isOffered = wished !== undefined && Object.hasOwn(meta.profiles, wished);
    const profile = isOffered ? wished : issuer.profile;
    const wanted: NewOrder = { identifiers: identifiersOf(document.names), profile };
    const replaces = await this.#replacedBy(document.replaces, work);
    if (replaces === undefined) return { order, made: await client.createOrder(account, wanted, call) };
    try {
      return { order, made: await client.createOrder(account, { ...wanted, replaces }, call) };
    } catch (cause) {
      if (!isRefused(cause)) throw cause;
      const without = await this.#withoutReplaces(order, cause);
      return { order: without, made: await client.createOrder(account, wanted, call) };
    }
  }

  /**
   * A CA may refuse it for reasons that are no fault of the names (RFC 9773 §5: another account, replaced already, no
   * name in common), and in its own words. Being told what is replaced is a courtesy; the certificate is what counts.
   */
  #withoutReplaces(order: StoredOrder, { problem }: AcmeProblem): Promise<StoredOrder> {
    return this.#options.orders.step(order, {
      document: { replaces: undefined },
      event: {
        kind: 'failed',
        text: `the CA refused an order that says it replaces ${order.document.replaces ?? ''}: asked without that`,
        ca_words: problem.raw,
        problem: acmeType(problem) ?? problem.type,
      },
    });
  }

  /** Only the CA that made it knows it, and only one with ARI takes it. */
  async #replacedBy(id: string | undefined, { client, call, issuer }: Work): Promise<string | undefined> {
    if (id === undefined) return undefined;
    const before = await this.#options.orders.ofCertificate(id);
    const { renewalInfo } = await client.directory(call);
    if (!before || !issuerOf(before.document, [issuer]) || renewalInfo === undefined) return undefined;
    const chain = await this.#options.chainOf(id);
    return chain === undefined ? undefined : certificateId(chain);
  }

  /** @see RFC 8555 §7.1.2.1; CAs without a list give the same order again to who asks for the same while it is open. */
  async #recover(order: StoredOrder, work: Work): Promise<Order | undefined> {
    const { client, account, call } = work;
    if (account.ordersUrl === undefined) return undefined;
    const wanted = subjectOf(order.document.names);
    const urls = await this.#unlessNonsense(order, client.listOrders(account, account.ordersUrl, call));
    for (const url of urls?.slice(-MAX_LOOKED_AT).reverse() ?? []) {
      if (await this.#options.orders.knowsUrl(url)) continue;
      const found = await this.#unlessNonsense(order, client.getOrder(account, url, call));
      const isOpen = found?.status === 'pending' || found?.status === 'ready';
      if (isOpen && subjectOf(found.identifiers.map(({ value }) => value)) === wanted) return found;
    }
    return undefined;
  }

  /** Some CAs name a list and have none: to ask anew costs an order, to wait for the list would be for ever. */
  async #unlessNonsense<T>({ document }: StoredOrder, answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer;
    } catch (cause) {
      if (!(cause instanceof AcmeError) || isPassing(cause, document.failures_at_issuer)) throw cause;
      return undefined;
    }
  }

  /** Shows of every name that it is ours; those that the CA believes already are passed over. */
  async #prove(order: StoredOrder, remote: Order, work: Work): Promise<StoredOrder> {
    const proofs: Proof[] = [];
    for (const url of remote.authorizationUrls) {
      const authorization = await work.client.getAuthorization(work.account, url, work.call);
      if (authorization.status !== 'valid') proofs.push(this.#proofOf(order, authorization));
    }
    const published = await this.#publish(order, proofs, work);
    const proved: string[] = [];
    for (const proof of proofs) proved.push(await this.#proveOne(proof, work));
    const { client, account, call, deadline } = work;
    await client.pollOrder(account, remote.url, { ...call, deadline, while: ['pending'] });
    if (proved.length === 0) return order;
    return this.#options.orders.step(published, {
      event: { kind: 'proved', text: `the CA checked ${proved.join(', ')}` },
    });
  }

  #proofOf(order: StoredOrder, authorization: Authorization): Proof {
    const name = nameOf(authorization);
    if (authorization.status !== 'pending') throw proofFailed(name, authorization);
    const challenge = this.#choose(order, authorization);
    if (challenge?.token === undefined) throw new ProofFailed(name, undefined, undefined);
    return { name, authorization, challenge: { ...challenge, token: challenge.token } };
  }

  /** All records of DNS-01 at once, so that name servers are waited for once. */
  async #publish(
    order: StoredOrder,
    proofs: readonly Proof[],
    { account, call }: Work,
  ): Promise<StoredOrder> {
    const byDns = proofs.filter(({ challenge: { type } }) => type === 'dns-01');
    const { records } = this.#options;
    if (byDns.length === 0 || !records) return order;
    const answers = await Promise.all(
      byDns.map(async ({ name: hostname, authorization: { identifier }, challenge: { token } }) => ({
        hostname,
        ...(await dns01Answer(identifier.value, token, account.key)),
      })),
    );
    await records.publish(order, answers, call.signal);
    const names = [...new Set(answers.map(({ recordName }) => recordName))];
    return this.#options.orders.step(order, {
      event: {
        kind: 'published',
        text: `every name server of the zone answers with the TXT record at ${names.join(', ')}`,
      },
    });
  }

  async #proveOne({ name, authorization, challenge }: Proof, work: Work): Promise<string> {
    const { client, account, call } = work;
    const { type, token } = challenge;
    const placed =
      type === 'dns-01'
        ? undefined
        : await this.#options.challenges.place({ authorization, challenge: { type, token }, account });
    try {
      if (challenge.status === 'pending') await client.respond(account, challenge.url, call);
      const done = await this.#checked(authorization.url, challenge, work);
      if (done.status !== 'valid') throw proofFailed(name, done, type);
      return `${name} by ${type}`;
    } finally {
      await placed?.remove();
    }
  }

  /** A CA that looks again and again, each time in vain, is waited for by one attempt; what it saw is why it failed. */
  async #checked(url: string, answered: Challenge, work: Work): Promise<Authorization> {
    const { client, account, call, deadline } = work;
    try {
      return await client.pollAuthorization(account, url, { ...call, deadline, answered });
    } catch (cause) {
      if (!(cause instanceof AcmeFault && cause.code === 'deadline')) throw cause;
      const last = await client.getAuthorization(account, url, call);
      if (last.challenges.some((each) => isNewError(each, answered))) return last;
      throw cause;
    }
  }

  /** One that the CA is looking at already stays; else the first that did not fail the last time. */
  #choose({ document }: StoredOrder, authorization: Authorization) {
    const name = nameOf(authorization);
    const failed = document.failed_proofs[name] ?? [];
    const possible = challengesFor(name, this.#options.dns01).flatMap((type) => {
      const found = authorization.challenges.find((each) => each.type === type);
      return found ? [{ ...found, type }] : [];
    });
    return (
      possible.find(({ status }) => status === 'processing') ??
      possible.find(({ type }) => !failed.includes(type)) ??
      possible[0]
    );
  }

  async #finalize(order: StoredOrder, remote: Order, work: Work): Promise<StoredOrder> {
    const { orders, clock } = this.#options;
    const csr = writeCsr(identifiersOf(order.document.names), await orders.keyOf(order.id));
    const { client, account, call, deadline } = work;
    // Before the CA hears of it: whatever becomes of the reply, what it signs is waited for from now on.
    const asked = await orders.step(order, { document: { sent_at: clock.now(), denials: 0 } });
    await client.finalize(account, { ...remote, csr }, call);
    const signed = await this.#signed(asked);
    await told(client.pollOrder(account, remote.url, { ...call, deadline, while: ['processing'] }));
    return signed;
  }

  /** Counted with the CA from here on, whatever becomes of the certificate. After a lost reply it is not written yet. */
  async #signed(order: StoredOrder): Promise<StoredOrder> {
    const { events } = order.document;
    const last = (kind: OrderEvent['kind']) => events.findLastIndex((event) => event.kind === kind);
    if (last('signed') > last('ordered')) return order;
    return this.#options.orders.step(order, {
      event: { kind: 'signed', text: 'asked the CA to sign the key' },
    });
  }

  /** Certificate and end of the order in one transaction: there is never one without the other. */
  async #fetch(order: StoredOrder, { certificateUrl }: Order, work: Work): Promise<StoredOrder> {
    const { client, account, call, issuer } = work;
    const { names } = order.document;
    if (certificateUrl === undefined)
      throw new AcmeFault('malformed_reply', 'the order is valid and has no certificate');
    const key = await this.#options.orders.keyOf(order.id);
    const { preferredChain: preferredIssuer } = issuer;
    const wanted = { certificateUrl, key, identifiers: identifiersOf(names), preferredIssuer };
    const { chainPem, isPreferred } = await told(client.download(account, wanted, call));
    return this.#options.database.change({}, async (tx, afterCommit) => {
      const certificate = await this.#options.keep(tx, afterCommit, { chainPem, keyPem: toPkcs8(key) });
      return this.#options.orders.stepIn(tx, order, {
        state: 'issued',
        certificateId: certificate.id,
        document: { failures: 0, failures_at_issuer: 0, failed_proofs: {}, stuck: false },
        event: {
          kind: 'issued',
          text: `${certificate.id} by ${certificate.issuer}, until ${certificate.not_after}${isPreferred ? '' : otherChain(issuer)}`,
        },
      });
    });
  }

  /** The order says that it is over; which name it failed at is told by its authorizations. */
  async #whyInvalid(remote: Order, { client, account, call }: Work): Promise<Error> {
    for (const url of remote.authorizationUrls) {
      const authorization = await client.getAuthorization(account, url, call);
      if (authorization.status === 'invalid') return proofFailed(nameOf(authorization), authorization);
    }
    if (remote.error)
      return new AcmeProblem(remote.error, {
        scope: 'order',
        retryAfterMs: undefined,
        termsOfService: undefined,
      });
    return new AcmeFault('malformed_reply', 'the CA ended the order and does not say why', {
      consequence: 'order',
    });
  }
}

/** All waits for the CA included. */
const DRIVE_MS = 240 * SECOND;

/** How long one drive may take. Name servers may take their time, while the lease is renewed. */
export const driveMsOf = (
  names: readonly string[],
  {
    dns,
    dns01,
  }: { dns?: { readonly propagationTimeoutMs: number } | undefined; dns01?: Dns01Port | undefined },
): number =>
  DRIVE_MS +
  (names.some((name) => challengesFor(name, dns01).includes('dns-01'))
    ? (dns?.propagationTimeoutMs ?? 0)
    : 0);

const otherChain = ({ preferredChain = '' }: Issuer): string =>
  `; with the usual chain of the CA, for none that it has leads to ${preferredChain} (preferred_chain)`;

/** What a CA has made is asked for. Where the account is gone, so is what was made for it. @throws Denied */
async function told<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (cause) {
    throw isDenial(cause) ? new Denied(cause) : cause;
  }
}

function isDenial(cause: unknown): cause is AcmeError {
  if (!(cause instanceof AcmeError)) return false;
  const isLost = cause instanceof AcmeProblem && cause.type === 'accountDoesNotExist';
  const isUseless = cause instanceof AcmeFault && cause.code === 'wrong_certificate';
  return !isLost && !isUseless && cause.consequence !== 'network' && cause.consequence !== 'retry_later';
}

const isRefused = (cause: unknown): cause is AcmeProblem =>
  cause instanceof AcmeProblem && (cause.consequence === 'order' || cause.consequence === 'account');

const NOT_REACHED: readonly FaultCode[] = ['unreachable', 'timeout', 'tls', 'deadline'];
/** What may be otherwise the next time is waited for so often. */
const MAX_PATIENCE = 3;

/** Whether it may go by: the CA was not reached, is busy, or has lost the account, which comes back. */
function isPassing(cause: AcmeError, failures: number): boolean {
  if (cause instanceof AcmeFault && NOT_REACHED.includes(cause.code)) return true;
  if (cause instanceof AcmeProblem && cause.type === 'accountDoesNotExist') return true;
  return cause.consequence === 'retry_later' && failures < MAX_PATIENCE;
}

const isChallengeType = (type: string): type is ChallengeType =>
  challengeTypes.some((known) => known === type);

/** `tried`: then another one's error is of an attempt before. */
function proofFailed(name: string, { challenges }: Authorization, tried?: ChallengeType): ProofFailed {
  const failed = challenges.find(({ type, error }) => (tried === undefined ? error : type === tried));
  const type = failed && isChallengeType(failed.type) ? failed.type : tried;
  return new ProofFailed(name, type, failed?.error);
}

const nameOf = ({ identifier, wildcard }: Authorization): string =>
  wildcard ? `*.${identifier.value}` : identifier.value;

const identifiersOf = (names: readonly string[]) => names.map((value) => ({ type: 'dns', value }));

function urlOf({ id, document }: StoredOrder): string {
  if (document.order_url === undefined) throw new Error(`order ${id} is at no CA`);
  return document.order_url;
}
