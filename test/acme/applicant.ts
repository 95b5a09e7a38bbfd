/** Somebody who applies for certificates step by step, with real answers to challenges on loopback. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createSecureContext, type SecureContext, createServer as createTlsServer } from 'node:tls';
import { type AcmeClient, openAcmeClient } from '../../src/certificates/acme/client.ts';
import { newCertificateKey, writeCsr } from '../../src/certificates/acme/csr.ts';
import type { CertificateKeyType } from '../../src/core/key-type.ts';
import { dns01Answer } from '../../src/certificates/acme/dns-01.ts';
import { http01Answer } from '../../src/certificates/acme/http-01.ts';
import type { ExternalAccount } from '../../src/certificates/acme/external-account.ts';
import type { Identifier } from '../../src/certificates/acme/identifier.ts';
import type { NewOrder, Order } from '../../src/certificates/acme/order.ts';
import type { Problem } from '../../src/certificates/acme/problem.ts';
import type { AccountRef, Call } from '../../src/certificates/acme/session.ts';
import { tlsAlpn01Answer } from '../../src/certificates/acme/tls-alpn-01.ts';
import { ACME_TLS_PROTOCOL } from '../../src/core/tls-policy.ts';
import { type Clock, MINUTE, SECOND, systemClock } from '../../src/core/clock.ts';
import { eventually } from '../support/eventually.ts';
import type { TestDns } from '../support/pebble.ts';
import { closed } from '../support/program.ts';

/** CAs on loopback are done long before the seconds that they ask for; the time for a request is as it is. */
const PATIENT = 60 * SECOND;
const HURRY = 50;
export const hurriedClock: Clock = {
  ...systemClock,
  after: (ms, run) => systemClock.after(ms < PATIENT ? ms / HURRY : ms, run),
};

/** Generous: what hangs is ended by the test runner. */
export const call: Call = { signal: new AbortController().signal };
export const wait = () => ({ ...call, deadline: Date.now() + 5 * MINUTE });

export const newAccountKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
export const dnsNames = (...names: string[]): Identifier[] => names.map((value) => ({ type: 'dns', value }));

export interface Responder extends AsyncDisposable {
  httpPort: number;
  tlsPort: number;
  /** Path → body. */
  http: Map<string, string>;
  /** Server name → certificate. */
  tls: Map<string, SecureContext>;
}

/** Answers HTTP-01 and TLS-ALPN-01 as a gateway would. */
export async function startResponder(): Promise<Responder> {
  const http = new Map<string, string>();
  const tls = new Map<string, SecureContext>();
  const httpServer = createServer(({ url = '' }, response) => {
    response.statusCode = http.has(url) ? 200 : 404;
    response.end(http.get(url));
  });
  const tlsServer = createTlsServer(
    {
      ALPNProtocols: [ACME_TLS_PROTOCOL],
      SNICallback: (name, answer) => answer(null, tls.get(name)),
    },
    (socket) => socket.on('error', () => {}).end(),
  );
  httpServer.listen(0, '127.0.0.1');
  tlsServer.listen(0, '127.0.0.1');
  await Promise.all([once(httpServer, 'listening'), once(tlsServer, 'listening')]);
  return {
    httpPort: (httpServer.address() as AddressInfo).port,
    tlsPort: (tlsServer.address() as AddressInfo).port,
    http,
    tls,
    async [Symbol.asyncDispose]() {
      httpServer.closeAllConnections();
      await Promise.all([closed(httpServer), closed(tlsServer)]);
    },
  };
}

export interface Ca {
  directoryUrl: string;
  trustPem: string;
  dns: TestDns;
}

export type ChallengeType = 'http-01' | 'dns-01' | 'tls-alpn-01';

export interface Issued {
  chainPem: string;
  key: KeyObject;
  order: Order;
}

export class Applicant {
  readonly client: AcmeClient;
  readonly ca: Ca;
  readonly responder: Responder;

  constructor(ca: Ca, responder: Responder, clock: Clock = hurriedClock) {
    this.client = openAcmeClient({ directoryUrl: ca.directoryUrl, extraTrustPem: ca.trustPem, clock });
    this.ca = ca;
    this.responder = responder;
  }

  /** As after a restart. */
  again(): Applicant {
    return new Applicant(this.ca, this.responder);
  }

  /** The error of the first challenge that has one. */
  async untilFailed(account: AccountRef, url: string): Promise<Problem> {
    return eventually(async () => {
      const { challenges } = await this.client.getAuthorization(account, url, call);
      return challenges.find(({ error }) => error)?.error;
    }, 'the error of a challenge');
  }

  async account(externalAccount?: ExternalAccount): Promise<AccountRef> {
    const key = newAccountKey();
    const { url } = await this.client.createAccount(
      { key, contact: ['mailto:it@example.com'], termsOfServiceAgreed: true, externalAccount },
      call,
    );
    return { url, key };
  }

  /** Every authorization of the order, by this kind of challenge, until the order is ready. */
  async authorize(account: AccountRef, order: Order, type: ChallengeType): Promise<Order> {
    for (const url of order.authorizationUrls) await this.#prove(account, url, type);
    return this.client.pollOrder(account, order.url, { ...wait(), while: ['pending'] });
  }

  async #prove(account: AccountRef, url: string, type: ChallengeType): Promise<void> {
    const authorization = await this.client.getAuthorization(account, url, call);
    if (authorization.status === 'valid') return;
    const challenge = authorization.challenges.find((each) => each.type === type);
    assert.ok(challenge?.token !== undefined, `the CA offers ${type}`);
    await this.place(account, authorization.identifier, { type, token: challenge.token });
    await this.client.respond(account, challenge.url, call);
    const done = await this.client.pollAuthorization(account, url, wait());
    assert.equal(done.status, 'valid', JSON.stringify(done.challenges));
  }

  async place(
    { key }: AccountRef,
    identifier: Identifier,
    { type, token }: { type: ChallengeType; token: string },
  ): Promise<void> {
    if (type === 'http-01') {
      const { path, body } = await http01Answer(token, key);
      this.responder.http.set(path, body);
    } else if (type === 'dns-01') {
      const { recordName, value } = await dns01Answer(identifier.value, token, key);
      await this.ca.dns.setTxt(recordName, value);
    } else {
      const wish = { identifier, token, accountKey: key, now: Date.now() };
      const { serverName, certificatePem, keyPem } = await tlsAlpn01Answer(wish);
      this.responder.tls.set(serverName, createSecureContext({ cert: certificatePem, key: keyPem }));
    }
  }

  /** From order to chain. */
  async issue(
    account: AccountRef,
    wanted: NewOrder,
    {
      type = 'http-01',
      keyType = 'p256',
      preferredIssuer,
    }: { type?: ChallengeType; keyType?: CertificateKeyType; preferredIssuer?: string | undefined } = {},
  ): Promise<Issued> {
    const order = await this.client.createOrder(account, wanted, call);
    const ready = await this.authorize(account, order, type);
    assert.equal(ready.status, 'ready');
    const key = await newCertificateKey(keyType);
    const valid = await this.finalize(account, ready, key);
    const { chainPem } = await this.client.download(
      account,
      { certificateUrl: valid.certificateUrl ?? '', key, identifiers: wanted.identifiers, preferredIssuer },
      call,
    );
    return { chainPem, key, order: valid };
  }

  async request(order: Order): Promise<{ key: KeyObject; csr: Buffer }> {
    const key = await newCertificateKey();
    return { key, csr: writeCsr(order.identifiers, key) };
  }

  async finalize(account: AccountRef, order: Order, key: KeyObject): Promise<Order> {
    const csr = writeCsr(order.identifiers, key);
    await this.client.finalize(account, { ...order, csr }, call);
    const done = await this.client.pollOrder(account, order.url, { ...wait(), while: ['processing'] });
    assert.equal(done.status, 'valid', JSON.stringify(done.error));
    return done;
  }

  async [Symbol.asyncDispose]() {
    await this.client[Symbol.asyncDispose]();
  }
}
