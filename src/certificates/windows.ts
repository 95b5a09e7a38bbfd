/**
 * When CAs suggest to renew, asked as often as they want to be asked. In memory: after a restart it is asked again.
 * Without an answer the usual time counts, so that a CA whose ARI is down is no reason to be late.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9773#section-4.3 | RFC 9773 §4.3}
 */
import { type Clock, HOUR, SECOND } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { type Log, writeDebug } from '../core/record.ts';
import type { AcmeClient } from './acme/client.ts';
import type { RenewalInfo } from './acme/renewal-info.ts';
import type { IssuanceSettings, Issuer } from './issuers.ts';
import type { Window } from './renewal.ts';
import type { Shelf } from './shelf.ts';

/** After a failure, and where the CA has no ARI. */
const AGAIN_MS = 6 * HOUR;
/** Questions in one round; the others come with the next one. */
const MAX_QUESTIONS = 50;
/** Far below the connections to one CA: orders are not to wait for answers that only help. */
const AT_ONCE = 2;
/** For one answer. */
const ANSWER_MS = 15 * SECOND;

export interface WindowsOptions {
  clock: Clock;
  log: Log;
  settings: Pick<IssuanceSettings, 'issuers'>;
  shelf: Pick<Shelf, 'chainOf' | 'serving'>;
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

  /**
   * One round, about the certificates of CAs that these hostnames are served with: asks of which it is time, forgets the
   * others. Whether anything is known now that was not.
   */
  async refresh(hostnames: Iterable<string>, signal: AbortSignal): Promise<boolean> {
    const { clock, shelf } = this.#options;
    const now = clock.now();
    const inUse = new Set<string>();
    for (const hostname of hostnames) {
      const entry = shelf.serving(hostname);
      if (entry?.source === 'acme') inUse.add(entry.id);
    }
    for (const id of this.#known.keys()) if (!inUse.has(id)) this.#known.delete(id);
    const due = [...inUse]
      .filter((id) => (this.#known.get(id)?.askAgainAt ?? 0) <= now)
      .slice(0, MAX_QUESTIONS)
      .values();
    // A CA that does not answer one question in time is asked none of the others of this round.
    const away = new Set<Issuer>();
    let isNews = false;
    const asker = async () => {
      for (const id of due) {
        if (signal.aborted) return;
        const before = this.of(id);
        this.#known.set(id, { window: before, askAgainAt: now + AGAIN_MS });
        const info = await this.#ask(id, { signal, away });
        if (!info) continue;
        this.#known.set(id, { window: info, askAgainAt: clock.now() + info.checkAgainMs });
        isNews ||= before?.start !== info.start || before.end !== info.end;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, asker));
    return isNews;
  }

  async #ask(
    id: string,
    { signal, away }: { signal: AbortSignal; away: Set<Issuer> },
  ): Promise<RenewalInfo | undefined> {
    const { clock, shelf, settings } = this.#options;
    const chain = await shelf.chainOf(id);
    if (chain === undefined) return undefined;
    // Any that has ARI for it: a certificate may outlive the name of its issuer in the settings.
    for (const issuer of settings.issuers.filter((each) => !away.has(each))) {
      const late = new AbortController();
      const timer = clock.after(ANSWER_MS, () => {
        away.add(issuer);
        late.abort(new Error(`no answer in ${ANSWER_MS / SECOND} s`));
      });
      try {
        const call = { signal: AbortSignal.any([signal, late.signal]) };
        const info = await this.#options.clientOf(issuer).renewalInfo(chain, call);
        if (info) return info;
      } catch (cause) {
        writeDebug(this.#options, 'certificates', () => ({
          message: `${issuer.name} does not say when ${id} should be renewed: ${messageOf(cause)}`,
        }));
      } finally {
        timer.cancel();
      }
    }
    return undefined;
  }
}
