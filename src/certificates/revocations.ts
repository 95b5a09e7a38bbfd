/**
 * Has CAs revoke certificates. That it is wanted is in the store before the CA hears of it, and from then on the
 * certificate is not served: after a crash or a lost reply nobody knows whether clients still accept it. The CA is asked
 * until it answers; what it refuses is served again. Called by `ordering.ts`.
 */
import { type Clock, MINUTE, type Timer } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { OperationContext } from '../core/operation.ts';
import { system } from '../core/principal.ts';
import type { Log } from '../core/record.ts';
import { AcmeError } from './acme/fault.ts';
import { AcmeProblem } from './acme/problem.ts';
import type { RevocationReason } from './acme/revocation-reason.ts';
import type { Issuance } from './issuance.ts';
import type { Issuer } from './issuers.ts';
import type { Certificate } from './schema.ts';
import type { CertificateService } from './service.ts';

/** For the CA to answer. */
const ASK_MS = MINUTE;
const AGAIN_EVERY_MS = 5 * MINUTE;

type Caller = Pick<OperationContext, 'principal' | 'signal' | 'idempotency'>;

export interface RevocationsOptions {
  clock: Clock;
  log: Log;
  issuance: Issuance;
  certificates: CertificateService;
}

export class Revocations implements AsyncDisposable {
  readonly #options: RevocationsOptions;
  /** Ids that the CA is being asked about. */
  readonly #asking = new Set<string>();
  readonly #stop = new AbortController();
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;

  constructor(options: RevocationsOptions) {
    this.#options = options;
  }

  /** Goes on with those of an earlier process. */
  start(): void {
    this.#timer = this.#options.clock.every(AGAIN_EVERY_MS, () => this.#again());
    this.#again();
  }

  /** @throws AppError NOT_FOUND, FORBIDDEN, PRECONDITION_FAILED; UPSTREAM_FAILED with the words of the CA */
  async revoke(
    { id, reason }: { id: string; reason: RevocationReason },
    { principal, signal, idempotency }: Caller,
  ): Promise<Certificate> {
    const { certificates, issuance } = this.#options;
    await certificates.own(id, principal);
    const issuer = await this.#issuerOf(id);
    if (!issuer)
      throw new AppError(
        'PRECONDITION_FAILED',
        `${id} was not ordered from a CA that is set up here; only who ordered it can revoke it, with delete_certificate it is no longer served`,
      );
    this.#asking.add(id);
    try {
      const { names } = await certificates.setRevoking(id, reason);
      issuance.lookAt(names);
      await this.#ask({ id, reason, issuer }, signal);
      return await certificates.remove({ id, version: undefined, force: true }, { principal, idempotency });
    } finally {
      this.#asking.delete(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel();
    this.#stop.abort();
    await this.#round;
  }

  async #issuerOf(id: string): Promise<Issuer | undefined> {
    const { issuance } = this.#options;
    const order = await issuance.orders.ofCertificate(id);
    return order && issuance.issuerOf(order.document);
  }

  async #ask(
    { id, reason, issuer }: { id: string; reason: RevocationReason; issuer: Issuer },
    signal: AbortSignal,
  ): Promise<void> {
    const { certificates, issuance } = this.#options;
    const certificatePem = await certificates.chainOf(id);
    if (certificatePem === undefined) return;
    const call = { signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]) };
    try {
      const by = await issuance.accountOf(issuer, call.signal);
      await issuance.clientOf(issuer).revoke({ certificatePem, reason, by }, call);
    } catch (cause) {
      if (!(cause instanceof AcmeError)) throw cause;
      if (!isRefusal(cause))
        throw new AppError(
          'UPSTREAM_FAILED',
          `whether the CA has revoked ${id} is not known; it is not served any more, and the CA is asked again every ${AGAIN_EVERY_MS / MINUTE} minutes: ${messageOf(cause)}`,
          { cause },
        );
      await certificates.setRevoking(id, undefined);
      throw new AppError('UPSTREAM_FAILED', `${id} is not revoked: ${messageOf(cause)}`, { cause });
    }
  }

  /** One round at a time. */
  #again(): void {
    this.#round ??= this.#askAll().finally(() => (this.#round = undefined));
  }

  /** Never rejects. */
  async #askAll(): Promise<void> {
    const { certificates } = this.#options;
    for (const { id, revoking } of certificates.entries()) {
      if (revoking === undefined || this.#asking.has(id) || this.#stop.signal.aborted) continue;
      this.#asking.add(id);
      try {
        const issuer = await this.#issuerOf(id);
        // Its CA is not in the settings any more: it stays unserved until somebody deletes it, or the CA is back.
        if (!issuer) continue;
        await this.#ask({ id, reason: revoking, issuer }, this.#stop.signal);
        await certificates.remove({ id, version: undefined, force: true }, { principal: system });
        this.#say('info', `the CA has revoked ${id}, as was asked before`);
      } catch (cause) {
        const isGone = certificates.entry(id) === undefined;
        if (!isGone && !this.#stop.signal.aborted) this.#say('warn', messageOf(cause));
      } finally {
        this.#asking.delete(id);
      }
    }
  }

  #say(level: 'info' | 'warn', message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'tls', level, component: 'certificates', message });
  }
}

/** The CA has decided; after anything else it may have acted, or may act later. */
const isRefusal = (cause: AcmeError): boolean =>
  cause instanceof AcmeProblem && cause.consequence !== 'retry_later';
