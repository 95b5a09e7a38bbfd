/** What an upstream is told of who is let through. */
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import type { Principal } from '../core/principal.ts';
import type { IdentityPolicy } from '../proxies/auth-policy.ts';
import type { Visitor } from './policy.ts';

const ASSERTION_MS = 2 * MINUTE;
/** One that lives this long yet is given again. */
const ASSERTION_REST_MS = MINUTE;
const MAX_ASSERTIONS = 10_000;

export interface Identified {
  readonly principal: Principal;
  /** Undefined for a client or an API token. */
  readonly visitor: Visitor | undefined;
  readonly scopes: readonly string[];
}

/** Where it is for, and who says so. */
export interface AssertionPlace {
  readonly origin: string;
  readonly issuer: string;
}

interface Claims {
  readonly user: string;
  readonly email: string;
  readonly groups: readonly string[];
}

export class Identities {
  readonly #sign: (claims: Readonly<Record<string, unknown>>) => string;
  readonly #clock: Clock;
  readonly #assertions = new Map<string, { readonly text: string; readonly expiresAt: number }>();

  constructor(sign: (claims: Readonly<Record<string, unknown>>) => string, clock: Clock) {
    this.#sign = sign;
    this.#clock = clock;
  }

  /** Name, value, name, value. Each name that the policy has is there, also where there is nothing to say. */
  headers(policy: IdentityPolicy, who: Identified, place: AssertionPlace): readonly string[] {
    switch (policy.kind) {
      case 'none':
        return [];
      case 'assertion':
        return [policy.header, who.principal.kind === 'anonymous' ? '' : this.#assertion(who, place)];
      case 'headers': {
        const { user, email, groups } = claimsOf(who);
        const fields = [
          [policy.user, user],
          [policy.email, email],
          [policy.groups, groups.join(',')],
          [policy.scopes, who.scopes.join(' ')],
        ] as const;
        return fields.flatMap(([name, value]) => (name === null ? [] : [name, value]));
      }
    }
  }

  #assertion(who: Identified, { origin, issuer }: AssertionPlace): string {
    const now = this.#clock.now();
    const { user, email, groups } = claimsOf(who);
    const facts = {
      iss: issuer,
      aud: origin,
      sub: who.principal.oauth?.userId ?? user,
      preferred_username: user,
      ...(email !== '' && { email, email_verified: true }),
      groups,
      scope: who.scopes.join(' '),
      client_id: who.principal.oauth?.clientId,
    };
    const key = JSON.stringify(facts);
    const known = this.#assertions.get(key);
    if (known && known.expiresAt - now >= ASSERTION_REST_MS) return known.text;
    const expiresAt = now + ASSERTION_MS;
    const text = this.#sign({ ...facts, iat: Math.floor(now / SECOND), exp: Math.floor(expiresAt / SECOND) });
    this.#remember(key, { text, expiresAt });
    return text;
  }

  #remember(key: string, assertion: { text: string; expiresAt: number }): void {
    this.#assertions.delete(key);
    if (this.#assertions.size >= MAX_ASSERTIONS) {
      const [oldest] = this.#assertions.keys();
      if (oldest !== undefined) this.#assertions.delete(oldest);
    }
    this.#assertions.set(key, assertion);
  }
}

/** The colon keeps programs apart from people: no username has one. */
function claimsOf({ principal, visitor }: Identified): Claims {
  if (principal.kind === 'anonymous') return { user: '', email: '', groups: [] };
  if (!visitor) {
    const id = principal.oauth === undefined ? principal.id : principal.oauth.clientId;
    return { user: `${principal.kind}:${printable(id)}`, email: '', groups: [] };
  }
  const email = visitor.isEmailVerified ? (visitor.email ?? '') : '';
  return { user: visitor.username, email: printable(email), groups: visitor.groups };
}

/** A client's id may be a URL that a stranger chose; a header field is visible ASCII. */
const printable = (text: string): string =>
  VISIBLE.test(text) ? text : encodeURI(text.toWellFormed()).replace(/%25/g, '%');
/** What `encodeURI` leaves as it is. */
const VISIBLE = /^[\w;,/?:@&=+$.!~*'()#%-]*$/;
