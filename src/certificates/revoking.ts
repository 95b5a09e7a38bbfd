/**
 * Has CAs take certificates back. That one is to be revoked is in the store first, and it is not served from then on:
 * whatever happens meanwhile, its CA is asked until it has answered, and then the certificate is deleted with its key.
 * Called by `ordering.ts`, and by the timer of `issuance.ts` for what was left.
 */
import { type Clock, MINUTE, SECOND } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { Account } from './accounts.ts';
import type { AcmeClient } from './acme/client.ts';
import { AcmeError, AcmeFault } from './acme/fault.ts';
import { AcmeProblem } from './acme/problem.ts';
import type { RevocationReason } from './acme/revocation-reason.ts';
import type { Entry } from './catalog.ts';
import type { Issuer } from './issuers.ts';
import type { Orders } from './orders.ts';
import type { OrderDocument } from './order-schema.ts';
import type { Certificate } from './schema.ts';
import type { Shelf } from './shelf.ts';

/** For the CA to answer. */
const ANSWER_MS = MINUTE;
/** What was left is tried again after this. */
const AGAIN_MS = 15 * MINUTE;
/** The others have their turn with the next round. */
const MAX_AT_ONCE = 10;

export interface RevokingOptions {
  clock: Clock;
  log: Log;
  shelf: Pick<Shelf, 'entries' | 'chainOf' | 'setRevoking' | 'drop'>;
  orders: Pick<Orders, 'ofCertificate'>;
  issuerOf: (document: OrderDocument) => Issuer | undefined;
  accountOf: (issuer: Issuer, signal: AbortSignal) => Promise<Account>;
  clientOf: (issuer: Issuer) => AcmeClient;
}

export class Revoking {
  readonly #options: RevokingOptions;
  /** Certificate id → when its CA is asked again; Infinity: it is being asked. */
  readonly #againAt = new Map<string, number>();

  constructor(options: RevokingOptions) {
    this.#options = options;
  }

  /**
   * As it was. What a CA refuses is served again.
   * @throws AppError UPSTREAM_FAILED with the words of the CA, PRECONDITION_FAILED where there is none to ask
   */
  async revoke(entry: Entry, reason: RevocationReason, signal: AbortSignal): Promise<Certificate> {
    const { shelf } = this.#options;
    const { id } = entry;
    await this.#ca(id);
    const { revoking, ...certificate } = await shelf.setRevoking(id, reason);
    try {
      await this.#finish(id, revoking, signal);
    } catch (cause) {
      if (!(cause instanceof AcmeError)) throw cause;
      const isRefused = cause instanceof AcmeProblem && cause.consequence !== 'retry_later';
      if (isRefused) await shelf.setRevoking(id, undefined);
      const how = isRefused
        ? 'is not revoked'
        : 'is not served any more, and its CA is asked again until it has answered; whether it is revoked by now is not known';
      throw new AppError('UPSTREAM_FAILED', `${id} ${how}: ${messageOf(cause)}`, { cause });
    }
    return certificate;
  }

  /** What a call, or a process, did not bring to its end. Never rejects. */
  async repeat(signal: AbortSignal): Promise<void> {
    const { clock, shelf } = this.#options;
    const now = clock.now();
    const left = [...shelf.entries()].filter(
      ({ id, revoking, notAfter }) =>
        revoking !== undefined && now < notAfter && (this.#againAt.get(id) ?? 0) <= now,
    );
    for (const { id, revoking } of left.slice(0, MAX_AT_ONCE)) {
      if (signal.aborted) return;
      try {
        await this.#finish(id, revoking, signal);
      } catch (cause) {
        this.#write(`${id} is not served, and not revoked yet: ${messageOf(cause)}`);
      }
    }
  }

  async #finish(id: string, reason: RevocationReason | undefined, signal: AbortSignal): Promise<void> {
    const { clock, shelf } = this.#options;
    this.#againAt.set(id, Infinity);
    try {
      await this.#ask(id, reason, signal);
      await shelf.drop([...shelf.entries()].filter((entry) => entry.id === id));
      this.#againAt.delete(id);
    } catch (cause) {
      this.#againAt.set(id, clock.now() + AGAIN_MS);
      throw cause;
    }
  }

  async #ask(id: string, reason: RevocationReason | undefined, signal: AbortSignal): Promise<void> {
    const { clock, accountOf, clientOf } = this.#options;
    const { issuer, certificatePem } = await this.#ca(id);
    const late = new AbortController();
    const timer = clock.after(ANSWER_MS, () =>
      late.abort(new AcmeFault('timeout', `no answer in ${ANSWER_MS / SECOND} s`)),
    );
    const call = { signal: AbortSignal.any([signal, late.signal]) };
    try {
      const by = await accountOf(issuer, call.signal);
      await clientOf(issuer).revoke({ certificatePem, reason, by }, call);
    } finally {
      timer.cancel();
    }
  }

  async #ca(id: string): Promise<{ issuer: Issuer; certificatePem: string }> {
    const { orders, issuerOf, shelf } = this.#options;
    const order = await orders.ofCertificate(id);
    const issuer = order && issuerOf(order.document);
    const certificatePem = await shelf.chainOf(id);
    if (issuer && certificatePem !== undefined) return { issuer, certificatePem };
    throw new AppError(
      'PRECONDITION_FAILED',
      `${id} was not ordered from a CA that is set up here; only who ordered it can revoke it, with delete_certificate it is no longer served`,
    );
  }

  #write(message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level: 'error', component: 'certificates', message });
  }
}
