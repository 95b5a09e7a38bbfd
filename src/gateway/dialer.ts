/**
 * Makes connections to one target. Every address is judged when it is connected to, and the address that was judged
 * is the one that is used: nothing resolves a second time. Of several addresses Node tries one after the other.
 * Callers: the pool of an `Upstream`, and what needs a connection of its own.
 */
import { lookup as resolve, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import type { Clock, Timer } from '../core/clock.ts';
import { addressFault, type OwnAddress } from '../proxies/target-policy.ts';
import type { Stay } from '../proxies/target-url.ts';
import { gatewayLimits } from './settings.ts';

export interface Target {
  /** The same for targets that may share connections. */
  readonly key: string;
  readonly origin: string;
  /** Without brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly isEncrypted: boolean;
  readonly isVerified: boolean;
  /** PEM; undefined: those that the system trusts. */
  readonly authorities: string | undefined;
  readonly connectTimeoutMs: number;
  /** Then another is asked at once rather than this one waited for. */
  readonly isOneOfSeveral: boolean;
  /** Of a service; undefined: it is where its URL says. */
  readonly stay: Pick<Stay, 'isOver'> | undefined;
}

/** All addresses of a name, as `dns.lookup` with `all`. */
export type Lookup = (
  hostname: string,
  options: { all: true; family?: number },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export interface DialerOptions {
  readonly clock: Clock;
  /** Where this process listens. */
  readonly own: () => readonly OwnAddress[];
  /** Tests put their own names in. */
  readonly lookup?: Lookup | undefined;
}

export class TargetRefused extends Error {
  override readonly name = 'TargetRefused';
}

/** The service is there no more: whoever has the address now is somebody else. */
export class TargetAway extends Error {
  override readonly name = 'TargetAway';
}

const AWAY = 'the service is there no more';

/** Nobody listens there at this moment, or the name could not be asked for: it may be different in a moment. */
const passing: ReadonlySet<string> = new Set(['ECONNREFUSED', 'EAI_AGAIN']);

export class Dialer {
  readonly #target: Target;
  readonly #options: DialerOptions;
  readonly #connect: buildConnector.connector;
  readonly #waiting = new Map<Timer, () => void>();
  /** It refused to the very end the last time: whoever asks now is not kept waiting as well. */
  #isAway = false;

  constructor(target: Target, options: DialerOptions) {
    this.#target = target;
    this.#options = options;
    const { isVerified, authorities, connectTimeoutMs } = target;
    this.#connect = buildConnector({
      allowH2: false,
      timeout: connectTimeoutMs,
      rejectUnauthorized: isVerified,
      lookup: this.#lookup(),
      ...(authorities === undefined ? {} : { ca: authorities }),
    });
  }

  /** As undici calls it. Nothing has been sent while a connection is made, so that any request may be tried again. */
  readonly dial: buildConnector.connector = (asked, callback) => {
    const { hostname, port, connectTimeoutMs } = this.#target;
    const isLiteral = isIP(hostname) !== 0;
    const fault = isLiteral ? addressFault(hostname, port, this.#options.own()) : undefined;
    if (fault) {
      callback(new TargetRefused(fault), null);
      return;
    }
    // The server name is the target's own, whatever Host says; an address has none (RFC 6066 §3).
    const options = { ...asked, hostname, servername: isLiteral ? '' : hostname };
    this.#attempt(options, { callback, giveUpAt: this.#options.clock.now() + connectTimeoutMs, failed: 0 });
  };

  /** Nobody waits any more. */
  close(): void {
    for (const [timer, giveUp] of this.#waiting) {
      timer.cancel();
      giveUp();
    }
    this.#waiting.clear();
  }

  #attempt(options: buildConnector.Options, attempt: Attempt): void {
    if (this.#isOver()) {
      attempt.callback(new TargetAway(AWAY), null);
      return;
    }
    this.#connect(options, (...[error, socket]) => {
      if (error) this.#failed(error, options, attempt);
      else if (this.#isOver()) {
        // It may have gone before somebody else answered there.
        socket.destroy();
        attempt.callback(new TargetAway(AWAY), null);
      } else {
        this.#isAway = false;
        attempt.callback(null, socket);
      }
    });
  }

  #isOver(): boolean {
    return this.#target.stay?.isOver === true;
  }

  #failed(error: Error, options: buildConnector.Options, attempt: Attempt): void {
    const isPassing = !this.#target.isOneOfSeveral && passing.has(String('code' in error && error.code));
    const waitMs = this.#isAway || !isPassing ? undefined : gatewayLimits.connectAgainMs[attempt.failed];
    const { clock } = this.#options;
    if (waitMs === undefined || clock.now() + waitMs >= attempt.giveUpAt) {
      this.#isAway ||= isPassing;
      attempt.callback(error, null);
      return;
    }
    const timer = clock.after(waitMs, () => {
      this.#waiting.delete(timer);
      this.#attempt(options, { ...attempt, failed: attempt.failed + 1 });
    });
    this.#waiting.set(timer, () => attempt.callback(error, null));
  }

  /** One address that may not be a target condemns the whole answer: a mixed one is an attack, not a mistake. */
  #lookup(): LookupFunction {
    const { own } = this.#options;
    const { port } = this.#target;
    const find: Lookup = this.#options.lookup ?? resolve;
    return (hostname, { all, family }, callback) => {
      const wanted = typeof family === 'number' ? { all: true as const, family } : { all: true as const };
      find(hostname, wanted, (error, addresses) => {
        if (error) return callback(error, []);
        for (const { address } of addresses) {
          const fault = addressFault(address, port, own());
          if (fault) return callback(new TargetRefused(`${hostname}: ${fault}`), []);
        }
        return all === true ? callback(null, addresses) : callback(null, ...first(addresses));
      });
    };
  }
}

interface Attempt {
  readonly callback: buildConnector.Callback;
  readonly giveUpAt: number;
  readonly failed: number;
}

const first = ([found]: readonly LookupAddress[]): [string, number] => [
  found?.address ?? '',
  found?.family ?? 0,
];
