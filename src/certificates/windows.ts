/**
 * When CAs suggest to renew, asked as often as they want to be asked. In memory: after a restart it is asked again.
 * Without an answer the usual time counts, so that a CA whose ARI is down is no reason to be late.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9773#section-4.3 | RFC 9773 §4.3}
 */
import { type Clock, HOUR } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { type Log, writeDebug } from '../core/record.ts';
import type { AcmeClient } from './acme/client.ts';
import type { Entry } from './catalog.ts';
import type { IssuanceSettings, Issuer } from './issuers.ts';
import type { Window } from './renewal.ts';

/** After a failure, and where the CA has no ARI. */
const AGAIN_MS = 6 * HOUR;
/** Questions at one time; the others come with the next one. */
const MAX_QUESTIONS = 50;

export interface WindowsOptions {
  clock: Clock;
  log: Log;
  settings: Pick<IssuanceSettings, 'issuers'>;
  shelf: { chainOf(id: string): Promise<string | undefined> };
  clientOf: (issuer: Issuer) => AcmeClient;
}

interface Known {
  readonly window: Window | undefined;
  readonly askAgainAt: number;
}

export class Windows {
  readonly #options: WindowsOptions;
  readonly #known = new Map<string, Known>();

  constructor(options: WindowsOptions) {
    this.#options = options;
  }

  of(certificateId: string): Window | undefined {
    return this.#known.get(certificateId)?.window;
  }

  /** Asks about those of which it is time; forgets the others. */
  async refresh(entries: readonly Entry[], signal: AbortSignal): Promise<void> {
    const now = this.#options.clock.now();
    const inUse = new Set(entries.map(({ id }) => id));
    if (entries.length > 1) for (const id of this.#known.keys()) if (!inUse.has(id)) this.#known.delete(id);
    const due = entries.filter(({ id }) => (this.#known.get(id)?.askAgainAt ?? 0) <= now);
    for (const entry of due.slice(0, MAX_QUESTIONS)) {
      if (signal.aborted) return;
      this.#known.set(entry.id, await this.#ask(entry, signal));
    }
  }

  async #ask({ id }: Entry, signal: AbortSignal): Promise<Known> {
    const { clock, shelf, settings } = this.#options;
    const later: Known = { window: this.of(id), askAgainAt: clock.now() + AGAIN_MS };
    const chain = await shelf.chainOf(id);
    if (chain === undefined) return later;
    // Any that has ARI for it: a certificate may outlive the name of its issuer in the settings.
    for (const issuer of settings.issuers) {
      try {
        const info = await this.#options.clientOf(issuer).renewalInfo(chain, { signal });
        if (info) return { window: info, askAgainAt: clock.now() + info.checkAgainMs };
      } catch (cause) {
        writeDebug(this.#options, 'certificates', () => ({
          message: `${issuer.name} does not say when ${id} should be renewed: ${messageOf(cause)}`,
        }));
      }
    }
    return later;
  }
}
