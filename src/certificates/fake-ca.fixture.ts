/** A CA behind the interface of the client, for simulations: faults and time are the test's, certificates are real. */
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { ManualClock } from '../core/clock.ts';
import type { NewAccount } from './acme/account.ts';
import type { AcmeClient } from './acme/client.ts';
import type { Download } from './acme/download.ts';
import { AcmeFault } from './acme/fault.ts';
import type { NewOrder, Order, OrderWait } from './acme/order.ts';
import { AcmeProblem, type Problem } from './acme/problem.ts';
import type { RenewalInfo } from './acme/renewal-info.ts';
import type { AccountRef, Call } from './acme/session.ts';
import { newKeys, toPkcs8, type Signer, writeLeaf } from './x509.ts';

export interface FakeCaOptions {
  clock: ManualClock;
  lifeMs: number;
  /** Before a request is acted on, and after: may throw, or hold it up. */
  trouble?: (what: string, when: 'before' | 'after', signal: AbortSignal | undefined) => void | Promise<void>;
  /** Gives an open order again to who asks for the same, in place of a list of orders. */
  reusesOrders?: boolean;
  renewalInfo?: (
    pem: string,
    signal: AbortSignal,
  ) => RenewalInfo | undefined | Promise<RenewalInfo | undefined>;
  /** Whether a name can't be shown to be ours by this challenge; absent: every one can, and HTTP-01 is all there is. */
  fails?: (name: string, challenge: string) => boolean;
  /** What an attempt of before left at this challenge. */
  leftAt?: (challenge: string) => Problem | undefined;
  /** Whether it still signs. */
  isSigning?: () => boolean;
  /** How it answers to an order that says what it replaces; undefined: it takes it. */
  refusesReplaces?: () => Error | undefined;
}

interface Made {
  order: Order;
  names: string[];
  at: number;
  replaces: string | undefined;
  profile: string | undefined;
  readonly proofs: Map<string, 'valid' | 'invalid'>;
  chainPem?: string;
}

/** What was asked for, refused or not. */
interface Asked {
  readonly at: number;
  readonly names: readonly string[];
  readonly replaces: string | undefined;
}

export class FakeCa {
  readonly orders = new Map<string, Made>();
  readonly asked: Asked[] = [];
  readonly revoked: string[] = [];
  /** As it was told of changes. */
  readonly contacts: (readonly string[])[] = [];
  readonly #options: FakeCaOptions;
  /** Key → URL. */
  readonly #accounts = new Map<string, string>();
  /** URL → how to reach whose it is. */
  readonly #contactsOf = new Map<string, readonly string[]>();
  readonly #signer: Promise<Signer>;
  /** Of certificates that it makes from now on. */
  lifeMs: number;
  /** By how much its clock is before the test's. */
  aheadMs = 0;
  accounts = 0;
  requests = 0;
  underWay = 0;
  mostAtOnce = 0;

  constructor(options: FakeCaOptions) {
    this.#options = options;
    this.lifeMs = options.lifeMs;
    this.#signer = newKeys().then((keys) => ({ ...keys, commonName: 'Fake CA' }));
  }

  /** Of those that it gave out. */
  certificates(): X509Certificate[] {
    return [...this.orders.values()].flatMap(({ chainPem }) =>
      chainPem ? [new X509Certificate(chainPem)] : [],
    );
  }

  /** One request: in trouble before it is acted on, or after. */
  readonly #step =
    <Arguments extends unknown[], Result>(
      what: string,
      act: (...args: Arguments) => Promise<Result> | Result,
    ) =>
    async (...args: Arguments): Promise<Result> => {
      this.requests++;
      const signal = signalOf(args.at(-1));
      const held = this.#options.trouble?.(what, 'before', signal);
      if (held) await held;
      signal?.throwIfAborted();
      this.underWay++;
      this.mostAtOnce = Math.max(this.mostAtOnce, this.underWay);
      try {
        const result = await act(...args);
        const heldAfter = this.#options.trouble?.(what, 'after', signal);
        if (heldAfter) await heldAfter;
        signal?.throwIfAborted();
        return result;
      } finally {
        this.underWay--;
      }
    };

  client(): AcmeClient {
    const accounts = this.#accounts;
    const step = this.#step;
    const find = (url: string) => this.#made(url);
    const client = {
      directory: async () => ({
        renewalInfo: 'https://ca.test/ari',
        meta: { profiles: { shortlived: 'six days' } },
      }),
      createAccount: step('newAccount', ({ key, contact }: NewAccount) => {
        const id = toPkcs8(key);
        const isNew = !accounts.has(id);
        const url = accounts.get(id) ?? `https://ca.test/acct/${++this.accounts}`;
        accounts.set(id, url);
        if (isNew) this.#contactsOf.set(url, contact);
        const ordersUrl = this.#options.reusesOrders ? undefined : 'https://ca.test/orders';
        return { url, isNew, contact: this.#contactsOf.get(url), ordersUrl };
      }),
      findAccount: step('newAccount', (key: KeyObject) => this.#find(key)),
      updateContact: step('account', (account: AccountRef, contact: readonly string[]) => {
        this.#requireAccount(account);
        this.contacts.push(contact);
        this.#contactsOf.set(account.url, contact);
        return account;
      }),
      changeKey: step('keyChange', (account: AccountRef, newKey: KeyObject) =>
        this.#changeKey(account, newKey),
      ),
      createOrder: step('newOrder', (account: AccountRef, wanted: NewOrder) => {
        this.#requireAccount(account);
        return this.#create(wanted);
      }),
      getOrder: step('order', (_account: unknown, url: string) => find(url).order),
      pollOrder: step('order', (_account: unknown, url: string, wait: OrderWait) =>
        this.#polled(find(url), wait),
      ),
      listOrders: step('orders', () =>
        [...this.orders.values()].filter(isOpen).map(({ order }) => order.url),
      ),
      getAuthorization: step('authorization', (_account: unknown, url: string) =>
        this.#authorization(find, url),
      ),
      respond: step('challenge', (_account: unknown, url: string) => this.#prove(find(url), url)),
      pollAuthorization: step('authorization', (_account: unknown, url: string) =>
        this.#authorization(find, url),
      ),
      finalize: step('finalize', (_account: unknown, { url, csr }: { url: string; csr: Buffer }) =>
        this.#sign(find(url), csr),
      ),
      download: step('certificate', (_account: unknown, { certificateUrl, preferredIssuer }: Download) => ({
        chainPem: find(certificateUrl).chainPem ?? '',
        isPreferred: preferredIssuer === undefined,
      })),
      revoke: step('revoke', ({ certificatePem }: { certificatePem: string }, _call: Call) => {
        this.revoked.push(new X509Certificate(certificatePem).fingerprint256);
        return { isNew: true };
      }),
      renewalInfo: step('renewalInfo', (pem: string, { signal }: Call) =>
        this.#options.renewalInfo?.(pem, signal),
      ),
      [Symbol.asyncDispose]: async () => undefined,
    };
    // What orders never call is left out.
    return client as unknown as AcmeClient;
  }

  #made(url: string): Made {
    const made = this.orders.get(url.split('/authz/', 1)[0] ?? '');
    if (made) return made;
    throw problem('malformed', 404);
  }

  /** As after a restart of a CA that lost its data. */
  forgetAccounts(): void {
    this.#accounts.clear();
  }

  #find(key: KeyObject) {
    const url = this.#accounts.get(toPkcs8(key));
    return url === undefined ? undefined : { url };
  }

  #changeKey(account: AccountRef, newKey: KeyObject): AccountRef {
    this.#requireAccount(account);
    this.#accounts.delete(toPkcs8(account.key));
    this.#accounts.set(toPkcs8(newKey), account.url);
    return { url: account.url, key: newKey };
  }

  #requireAccount({ url, key }: AccountRef): void {
    if (![...this.#accounts.values()].includes(url)) throw problem('accountDoesNotExist', 400);
    if (this.#accounts.get(toPkcs8(key)) !== url) throw problem('malformed', 400);
  }

  #create({ identifiers, replaces, profile }: NewOrder): Order {
    const names = identifiers.map(({ value }) => value);
    const at = this.#options.clock.now() + this.aheadMs;
    this.asked.push({ at, names, replaces });
    const refusal = replaces === undefined ? undefined : this.#options.refusesReplaces?.();
    if (refusal) throw refusal;
    const open = [...this.orders.values()].findLast(
      (made) => isOpen(made) && made.names.join(' ') === names.join(' '),
    );
    if (this.#options.reusesOrders && open) return open.order;
    const url = `https://ca.test/order/${this.orders.size}`;
    const order: Order = {
      url,
      status: 'pending',
      identifiers,
      authorizationUrls: names.map((name) => `${url}/authz/${name}`),
      finalizeUrl: url,
      certificateUrl: undefined,
      expires: undefined,
      error: undefined,
      profile: undefined,
      replaces,
      notBefore: undefined,
      notAfter: undefined,
      retryAfterMs: undefined,
    };
    this.orders.set(url, { order, names, at, replaces, profile, proofs: new Map() });
    return order;
  }

  #authorization(find: (url: string) => Made, url: string) {
    const name = nameIn(url);
    const status = find(url).proofs.get(name) ?? 'pending';
    const isWildcard = name.startsWith('*.');
    const others = this.#options.fails ? ['http-01', 'tls-alpn-01'] : ['http-01'];
    return {
      url,
      identifier: { type: 'dns', value: name.replace('*.', '') },
      wildcard: isWildcard,
      status,
      challenges: (isWildcard ? ['dns-01'] : others).map((type) => ({
        type,
        url: `${url}/${type}`,
        status: 'pending',
        token: `t${url.replaceAll(/[^a-z0-9]/g, '')}${type}`,
        error: this.#options.leftAt?.(type),
      })),
    };
  }

  #prove({ order, names, proofs }: Made, url: string) {
    const name = nameIn(url);
    const isFailed = this.#options.fails?.(name, url.split('/').at(-1) ?? '') === true;
    proofs.set(name, isFailed ? 'invalid' : 'valid');
    if (isFailed) order.status = 'invalid';
    else if (names.every((each) => proofs.get(each) === 'valid')) order.status = 'ready';
    return {};
  }

  #polled({ order }: Made, wait: OrderWait): Order {
    if (order.status === 'processing' && this.#options.isSigning?.() !== true)
      Object.assign(order, { status: 'valid', certificateUrl: order.url });
    if (wait.while.includes(order.status))
      throw new AcmeFault('deadline', 'not done yet', { consequence: 'retry_later' });
    return order;
  }

  async #sign(made: Made, csr: Buffer): Promise<Order> {
    const now = this.#options.clock.now() + this.aheadMs;
    const publicKey = createPublicKey({ key: publicKeyIn(csr), format: 'der', type: 'spki' });
    made.chainPem = writeLeaf(
      await this.#signer,
      { hostnames: made.names, addresses: [], publicKey },
      { notBefore: now - 1000, notAfter: now + this.lifeMs },
    );
    Object.assign(
      made.order,
      this.#options.isSigning?.() === true
        ? { status: 'processing' }
        : { status: 'valid', certificateUrl: made.order.url },
    );
    return made.order;
  }
}

/** Of the call that comes last: a reply after the time is up is heard by nobody. */
function signalOf(call: unknown): AbortSignal | undefined {
  const isCall = typeof call === 'object' && call !== null && 'signal' in call;
  return isCall && call.signal instanceof AbortSignal ? call.signal : undefined;
}

const isOpen = ({ order }: Made): boolean => order.status !== 'valid' && order.status !== 'invalid';

const nameIn = (url: string): string => url.split('/authz/')[1]?.split('/', 1)[0] ?? '';

/** Beginning and length of the SubjectPublicKeyInfo of a key on P-256 and on P-384. */
const KEYS = [
  ['3059301306072a8648ce3d0201', 91],
  ['3076301006072a8648ce3d0201', 120],
] as const;

function publicKeyIn(csr: Buffer): Buffer {
  for (const [beginning, length] of KEYS) {
    const at = csr.indexOf(Buffer.from(beginning, 'hex'));
    if (at >= 0) return csr.subarray(at, at + length);
  }
  throw new Error('the request is for a key that the fake CA does not know');
}

export const unreachable = () => new AcmeFault('unreachable', 'the CA is away');

export const problem = (type: string, status: number, retryAfterMs?: number) =>
  new AcmeProblem(
    {
      type: `urn:ietf:params:acme:error:${type}`,
      detail: 'no',
      title: undefined,
      status,
      instance: undefined,
      identifier: undefined,
      subproblems: [],
      raw: JSON.stringify({ type, detail: 'no' }),
    },
    { scope: 'order', retryAfterMs, termsOfService: undefined },
  );
