/**
 * A sign-in that is under way: what a browser takes with it to the authorization server and brings back. It is kept by
 * the browser itself, sealed, in a cookie of the protected hostname, so that a stranger fills no store here and a
 * sign-in that somebody else began is none in this browser.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9700#section-4.7 | RFC 9700 §4.7} on state
 */
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import { isSameText } from '../core/same-text.ts';
import type { Sealer } from '../core/sealer.ts';
import { cookieIn, cookieLine, flowCookiePrefix, pairsIn } from '../core/site-cookies.ts';

/** A person may have to look for a password, or set one. */
const FLOW_MS = 10 * MINUTE;
/** Tabs that are opened at once; what is older is given up. */
const MAX_FLOWS = 8;
const MAX_RETURN = 2000;
const RANDOM_BYTES = 32;
const NAME_LENGTH = 12;

const flowSchema = z.object({
  state: z.string(),
  verifier: z.string(),
  issuer: z.string(),
  redirectUri: z.string(),
  /** Path and query. */
  returnTo: z.string(),
  startedAt: z.number(),
});
export type Flow = Readonly<z.output<typeof flowSchema>>;

export interface FlowSite {
  readonly hostname: string;
  readonly isSecure: boolean;
}

export class Flows {
  readonly #sealer: Sealer;
  readonly #clock: Clock;

  constructor(sealer: Sealer, clock: Clock) {
    this.#sealer = sealer;
    this.#clock = clock;
  }

  begin(
    site: FlowSite,
    facts: Pick<Flow, 'issuer' | 'redirectUri' | 'returnTo'>,
    cookie: string | undefined,
  ): { flow: Flow; challenge: string; cookies: string[] } {
    const flow: Flow = {
      ...facts,
      returnTo: facts.returnTo.length > MAX_RETURN ? '/' : facts.returnTo,
      state: randomBytes(RANDOM_BYTES).toString('base64url'),
      verifier: randomBytes(RANDOM_BYTES).toString('base64url'),
      startedAt: this.#clock.now(),
    };
    const sealed = this.#sealer.seal(JSON.stringify(flow), contextOf(site));
    return {
      flow,
      challenge: createHash('sha256').update(flow.verifier).digest('base64url'),
      cookies: [
        ...surplusOf(site, cookie),
        cookieLine(nameOf(site, flow.state), sealed, FLOW_MS / SECOND, site.isSecure),
      ],
    };
  }

  /** The sign-in that this browser began and that comes back with this state. */
  find(site: FlowSite, state: string, cookie: string | undefined): Flow | undefined {
    const sealed = cookieIn(cookie, nameOf(site, state));
    const flow = sealed === undefined ? undefined : this.#open(sealed, site);
    if (!flow || !isSameText(flow.state, state)) return undefined;
    return this.#clock.now() - flow.startedAt < FLOW_MS ? flow : undefined;
  }

  /** Value of `Set-Cookie` that takes it away. */
  ended(site: FlowSite, state: string): string {
    return cookieLine(nameOf(site, state), '', 0, site.isSecure);
  }

  #open(sealed: string, site: FlowSite): Flow | undefined {
    try {
      return flowSchema.parse(JSON.parse(this.#sealer.open(sealed, contextOf(site))));
    } catch {
      return undefined; // Not sealed here, or for another hostname: no sign-in of ours.
    }
  }
}

const contextOf = ({ hostname }: FlowSite): string => `site-flow:${hostname}`;

const nameOf = ({ isSecure }: FlowSite, state: string): string =>
  flowCookiePrefix(isSecure) + createHash('sha256').update(state).digest('hex').slice(0, NAME_LENGTH);

function surplusOf({ isSecure }: FlowSite, cookie: string | undefined): string[] {
  const names = pairsIn(cookie)
    .map(([name]) => name)
    .filter((name) => name.startsWith(flowCookiePrefix(isSecure)) && /^[\w-]+$/.test(name));
  return names.length < MAX_FLOWS ? [] : names.map((name) => cookieLine(name, '', 0, isSecure));
}
