/**
 * Replies that stay open (event streams, upgrades, long downloads) and whom they belong to, so that a credential
 * that is revoked or expires takes its streams with it.
 */
import { type Clock, SECOND, type Timer } from './clock.ts';
import type { Principal } from './principal.ts';
import { type Member, NOWHERE, Roster } from './roster.ts';

const SWEEP_MS = SECOND / 2;

interface Live extends Member {
  principal: Principal;
  close: () => void;
}

export class LiveStreams implements Disposable {
  readonly #clock: Clock;
  readonly #live = new Roster<Live>();
  readonly #sweep: Timer;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sweep = clock.every(SWEEP_MS, () => this.#closeExpired());
  }

  get size(): number {
    return this.#live.size;
  }

  /** Returns a function that takes it off the list; call it when the stream ends by itself. */
  add(principal: Principal, close: () => void): () => void {
    const live = { principal, close, place: NOWHERE };
    this.#live.add(live);
    return () => void this.#live.delete(live);
  }

  cut(principalId: string): void {
    this.#closeWhere(({ principal }) => principal.id === principalId);
  }

  cutGrant(grantId: string): void {
    this.#closeWhere(({ principal }) => principal.oauth?.grantId === grantId);
  }

  cutAccessToken(tokenId: string): void {
    this.#closeWhere(({ principal }) => principal.oauth?.tokenId === tokenId);
  }

  cutClient(clientId: string): void {
    this.#closeWhere(({ principal }) => principal.oauth?.clientId === clientId);
  }

  cutUser(userId: string): void {
    this.#closeWhere(({ principal }) => principal.oauth?.userId === userId);
  }

  [Symbol.dispose](): void {
    this.#sweep.cancel();
    this.#closeWhere(() => true);
  }

  #closeExpired(): void {
    const now = this.#clock.now();
    this.#closeWhere(({ principal: { expiresAt } }) => expiresAt !== undefined && expiresAt <= now);
  }

  #closeWhere(matches: (live: Live) => boolean): void {
    for (const live of [...this.#live].filter(matches)) {
      this.#live.delete(live);
      live.close();
    }
  }
}
