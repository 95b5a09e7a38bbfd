/**
 * Asks each of several targets on its own whether it is well, where the proxy says how. Over the connections that
 * requests use, so that the same dialer judges the address; no access record is written. One question at a time for each
 * target, and so many for all.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { BalancedTarget, HealthCheck } from '../proxies/load-balancing.ts';
import type { Proxy } from '../proxies/schema.ts';
import type { Whereabouts } from '../proxies/target-url.ts';
import { askTarget, questionsFor, type TargetQuestion } from './ask-target.ts';
import { gatewayLimits } from './settings.ts';
import type { Upstreams } from './upstream.ts';

const FIRST_ERROR = 400;

interface Checked {
  checked(fault: string | undefined, settings: HealthCheck): void;
  unchecked(): void;
}

interface CheckedGroup {
  readonly proxy: Proxy;
  readonly slots: readonly { readonly endpoint: Checked; readonly target: BalancedTarget }[];
}

export interface ChecksOptions {
  readonly clock: Clock;
  readonly upstreams: Pick<Upstreams, 'of'>;
  readonly services: Pick<Whereabouts, 'placeOf'>;
  /** Of all checks of their owner. */
  readonly underWay: UnderWay;
}

export interface UnderWay {
  count: number;
}

export interface Checks {
  stop(): void;
}

/** Of all targets; undefined where the proxy asks for none: then they count as not checked. */
export function startChecks({ proxy, slots }: CheckedGroup, options: ChecksOptions): Checks | undefined {
  const settings = proxy.load_balancing?.health_check;
  if (!settings) {
    for (const { endpoint } of slots) endpoint.unchecked();
    return undefined;
  }
  const checks = slots.map(({ endpoint, target }) => {
    const { path } = settings;
    const ask = questionsFor(target.url, { proxy, path, isOneOfSeveral: true, services: options.services });
    return new Check(endpoint, { settings, ask }, options);
  });
  return { stop: () => checks.forEach((check) => check.stop()) };
}

interface Asked {
  readonly settings: HealthCheck;
  /** @throws when there is nobody to ask. */
  readonly ask: () => TargetQuestion[];
}

class Check implements Checks {
  readonly #endpoint: Checked;
  readonly #asked: Asked;
  readonly #options: ChecksOptions;
  readonly #timer: Timer;
  #asking: AbortController | undefined;

  constructor(endpoint: Checked, asked: Asked, options: ChecksOptions) {
    this.#endpoint = endpoint;
    this.#asked = asked;
    this.#options = options;
    this.#timer = options.clock.every(asked.settings.interval_ms, () => void this.#check());
  }

  stop(): void {
    this.#timer.cancel();
    this.#asking?.abort();
    this.#asking = undefined;
  }

  /** Never rejects. One that is still under way, or too many of them, is one left out. */
  async #check(): Promise<void> {
    const { underWay } = this.#options;
    if (this.#asking || underWay.count >= gatewayLimits.healthChecks) return;
    const asking = new AbortController();
    this.#asking = asking;
    underWay.count++;
    const { settings } = this.#asked;
    const late = this.#options.clock.after(settings.timeout_ms, () =>
      asking.abort(new Error(`no answer within ${settings.timeout_ms} ms`)),
    );
    const fault = await this.#ask(asking.signal);
    underWay.count--;
    late.cancel();
    // Stopped meanwhile: what it found is nobody's.
    if (this.#asking !== asking) return;
    this.#asking = undefined;
    this.#endpoint.checked(fault, settings);
  }

  /** Well while one of its replicas is: which of them run, their orchestrator decides. */
  async #ask(signal: AbortSignal): Promise<string | undefined> {
    try {
      const questions = this.#asked.ask();
      const faults = await Promise.all(questions.map((question) => this.#faultOf(question, signal)));
      return faults.includes(undefined) ? undefined : faults.join(' | ');
    } catch (error) {
      return messageOf(error); // That there is nobody to ask is what was asked for.
    }
  }

  async #faultOf(question: TargetQuestion, signal: AbortSignal): Promise<string | undefined> {
    const { settings } = this.#asked;
    try {
      const status = await askTarget(question, this.#options, signal);
      return isWell(status, settings) ? undefined : `status ${status}`;
    } catch (error) {
      return messageOf(error); // That it can't be asked is what was asked for.
    }
  }
}

const isWell = (status: number, { statuses }: HealthCheck): boolean =>
  statuses.length > 0 ? statuses.includes(status) : status < FIRST_ERROR;
