/**
 * The port for whoever hosts a zone: writes the TXT records of DNS-01 (RFC 8555 §8.4) and takes them away. Adapters are
 * in `adapters/`, each passes `provider.contract.ts`. Which record belongs where is decided before, in `challenges.ts`.
 */

export interface TxtRecord {
  /** Of the zone that has the record; canonical, as all names here. */
  readonly zone: string;
  readonly name: string;
  readonly value: string;
}

/** Every method throws AppError: CANCELLED, RATE_LIMITED (with `retry_after_ms`), UNAVAILABLE, TIMEOUT, UPSTREAM_FAILED. */
export interface DnsProvider {
  /** Adds this value beside what the name has. Where it is already, nothing changes. */
  publish(record: TxtRecord, signal: AbortSignal): Promise<void>;
  /** Takes this value away and no other. Where it is not, nothing changes. */
  withdraw(record: TxtRecord, signal: AbortSignal): Promise<void>;
}

/** Long enough to be taken by every host of zones, short enough that nothing old is found again. */
export const TXT_TTL_SECONDS = 60;
