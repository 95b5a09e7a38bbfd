/**
 * Answers to challenges of HTTP-01 and TLS-ALPN-01 that are pending: the gateway asks here before it asks anybody else, so that no upstream can
 * answer for its own hostname. In memory: whoever resumes an order after a restart puts them here again.
 */
import { randomBytes } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { tlsPolicy } from '../core/tls-policy.ts';
import type { Authorization, Challenge } from './acme/authorization.ts';
import { keyAuthorization } from './acme/challenge.ts';
import { HTTP_01_PREFIX } from './acme/http-01.ts';
import type { AccountRef } from './acme/session.ts';
import { tlsAlpn01Answer } from './acme/tls-alpn-01.ts';
import type { ChallengeType } from './issuers.ts';

const PROBE_BYTES = 32;

export interface Placed {
  /** Takes it away again. */
  remove(): Promise<void>;
}

export interface Placing {
  readonly authorization: Pick<Authorization, 'identifier'>;
  readonly challenge: Pick<Challenge, 'token'> & { type: Exclude<ChallengeType, 'dns-01'> };
  readonly account: AccountRef;
}

export class Challenges {
  readonly #clock: Clock;
  /** Token → who may answer it with what. */
  readonly #http = new Map<string, { hostname: string; body: string }>();
  readonly #tls = new Map<string, SecureContext>();
  /** Server name → when it is free for the next order: one certificate answers for a name at a time. */
  readonly #turns = new Map<string, Promise<void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `hostname`: canonical, as the request has it. @see RFC 8555 §8.3 */
  readonly http = (hostname: string, token: string): string | undefined => {
    const answer = this.#http.get(token);
    return answer?.hostname === hostname ? answer.body : undefined;
  };

  /** For who asks for the protocol `acme-tls/1` under this server name, in any case. @see RFC 8737 §3 */
  readonly tls = (servername: string): SecureContext | undefined => this.#tls.get(servername.toLowerCase());

  /** Whether anybody may ask by TLS at all: then handshakes are looked at before they begin. */
  get isAskedByTls(): boolean {
    return this.#tls.size > 0;
  }

  /** What only this process answers under this hostname; no CA knows its token. */
  readonly placeProbe = (hostname: string) => {
    const [token, body] = [randomBytes(PROBE_BYTES), randomBytes(PROBE_BYTES)].map((bytes) =>
      bytes.toString('base64url'),
    ) as [string, string];
    this.#http.set(token, { hostname, body });
    return { path: `${HTTP_01_PREFIX}${token}`, body, remove: () => void this.#http.delete(token) };
  };

  async place({ authorization, challenge, account }: Placing): Promise<Placed> {
    const { token = '' } = challenge;
    const { identifier } = authorization;
    if (challenge.type === 'http-01') {
      const body = await keyAuthorization(token, account.key);
      this.#http.set(token, { hostname: identifier.value, body });
      return { remove: async () => void this.#http.delete(token) };
    }
    return this.#placeTls(identifier, token, account);
  }

  async #placeTls(
    identifier: Authorization['identifier'],
    token: string,
    account: AccountRef,
  ): Promise<Placed> {
    const wish = { identifier, token, accountKey: account.key, now: this.#clock.now() };
    const { serverName, certificatePem, keyPem } = await tlsAlpn01Answer(wish);
    const context = createSecureContext({ ...tlsPolicy, cert: certificatePem, key: keyPem });
    const { promise: isFree, resolve: free } = Promise.withResolvers<void>();
    const before = this.#turns.get(serverName);
    this.#turns.set(serverName, isFree);
    // Whoever has it takes its answer away when its drive ends, whatever comes of it.
    await before;
    this.#tls.set(serverName, context);
    return {
      remove: async () => {
        this.#tls.delete(serverName);
        if (this.#turns.get(serverName) === isFree) this.#turns.delete(serverName);
        free();
      },
    };
  }
}
