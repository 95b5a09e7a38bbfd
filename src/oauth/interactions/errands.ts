/**
 * What a browser was sent to a provider for: once, for ten minutes, and for that browser alone. Kept in memory by
 * `state`, with what the answer is checked with; after a restart the person begins again. The browser holds the other
 * half in a cookie, so that neither a captured URL of the way there nor one of the way back is worth anything elsewhere.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9700#section-4.7 | RFC 9700 §4.7}
 */
import { randomBytes } from 'node:crypto';
import { type Clock, MINUTE } from '../../core/clock.ts';
import { isSameText } from '../../core/same-text.ts';
import type { Proof } from '../upstreams/upstream.ts';

export const ERRAND_MS = 10 * MINUTE;
/** When strangers begin more than this, the oldest ones have to begin again. */
const MAX_ERRANDS = 20_000;
const BROWSER_BYTES = 32;
const MAX_STATE = 128;

/** Where the answer is waited for: it is worth nothing anywhere else. */
export type Aim =
  | { readonly kind: 'sign-in'; readonly uid: string }
  | { readonly kind: 'link'; readonly uid: string; readonly userId: string }
  | { readonly kind: 'invite'; readonly code: string };

export interface Errand {
  readonly provider: string;
  readonly aim: Aim;
  readonly proof: Proof;
}

export class Errands {
  readonly #clock: Clock;
  readonly #open = new Map<string, Errand & { readonly browser: string; readonly expiresAt: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What the browser has to show when it comes back. */
  begin(errand: Errand): string {
    const [oldest] = this.#open.keys();
    if (this.#open.size >= MAX_ERRANDS && oldest !== undefined) this.#open.delete(oldest);
    const browser = randomBytes(BROWSER_BYTES).toString('base64url');
    const expiresAt = this.#clock.now() + ERRAND_MS;
    this.#open.set(errand.proof.state, { ...errand, browser, expiresAt });
    return browser;
  }

  /** Undefined when there is none, or it is too old, of another browser or provider. It is gone whatever comes of it. */
  take(state: string, { provider, browser }: { provider: string; browser: string }): Errand | undefined {
    const found = state.length > MAX_STATE ? undefined : this.#open.get(state);
    this.#open.delete(state);
    if (!found || found.expiresAt <= this.#clock.now() || found.provider !== provider) return undefined;
    return isSameText(found.browser, browser) ? found : undefined;
  }
}
