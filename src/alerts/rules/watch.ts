/**
 * Asks every rule once a minute, and says what is wrong by them. Where something stands is in memory, and in the store as
 * the alert that was raised: after a restart what was told goes on, and what was not yet told begins again, for nobody
 * has looked meanwhile. Made by `app.alerts.ts`, which gives it what it asks and where to say so.
 */
import { type Clock, MINUTE, type Timer } from '../../core/clock.ts';
import { messageOf } from '../../core/errors.ts';
import type { Log } from '../../core/record.ts';
import type { Alert } from '../schema.ts';
import { alertOf, keyOf, type Measurement, ruleNameOf, timesOf, verdictOf } from './judge.ts';
import { LossCounter } from './losses.ts';
import { MAX_SUBJECTS, measure, type Sources } from './measure.ts';
import type { Rule } from './schema.ts';
import { isTold, nextStanding, type Standing } from './standing.ts';

const EVERY_MS = MINUTE;

export interface RuleWatchOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly rules: readonly Rule[];
  readonly sources: Sources;
  /** Log records that were lost since the start. */
  readonly dropped: () => number;
  /** What an earlier process told and did not end. */
  readonly told: () => Promise<readonly Alert[]>;
  readonly tell: (current: readonly Alert[]) => Promise<void>;
}

/** One subject of one rule. `alert`: as it was raised, or would be. */
interface Followed {
  readonly rule: Rule;
  readonly standing: Standing;
  readonly alert: Alert;
}

export class RuleWatch implements AsyncDisposable {
  readonly #options: RuleWatchOptions;
  readonly #losses: LossCounter;
  /** By key of the alert. */
  #followed = new Map<string, Followed>();
  readonly #stop = new AbortController();
  #isLoaded = false;
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  /** Rules that could not be asked: each is reported once, until it can be asked again. */
  readonly #silent = new Set<string>();
  /** Rules that do not see every hostname: each is reported once. */
  readonly #blind = new Set<string>();

  constructor(options: RuleWatchOptions) {
    this.#options = options;
    this.#losses = new LossCounter(options.dropped);
  }

  /** Call it once what is served is known. */
  start(): void {
    this.#losses.sample(this.#options.clock.now());
    this.#timer = this.#options.clock.every(EVERY_MS, () => void this.look());
    void this.look();
  }

  /** One at a time. A failure is reported; the next look is a minute away. */
  look(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((cause: unknown) => this.#report(`alerts by rules can't be told: ${messageOf(cause)}`))
      .finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.cancel();
    this.#stop.abort();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { clock, rules, tell } = this.#options;
    const now = clock.now();
    if (!this.#isLoaded) await this.#load(now);
    this.#losses.sample(now);
    const followed = new Map<string, Followed>();
    for (const rule of rules) for (const one of await this.#ask(rule, now)) followed.set(one.alert.key, one);
    // What was cut short says nothing.
    if (this.#stop.signal.aborted) return;
    this.#followed = followed;
    await tell([...followed.values()].flatMap(({ standing, alert }) => (isTold(standing) ? [alert] : [])));
  }

  /** Those of rules that are gone are left out, and so resolved. */
  async #load(now: number): Promise<void> {
    const rules = new Map(this.#options.rules.map((rule) => [rule.name, rule]));
    for (const alert of await this.#options.told()) {
      const rule = rules.get(ruleNameOf(alert.key) ?? '');
      if (rule) this.#followed.set(alert.key, { rule, alert, standing: { phase: 'firing', since: now } });
    }
    this.#isLoaded = true;
  }

  async #ask(rule: Rule, now: number): Promise<Followed[]> {
    const own = [...this.#followed.values()].filter((one) => one.rule === rule);
    const measured = await this.#measure(rule, now);
    return measured === undefined ? own : follow(rule, { own, measured, now });
  }

  async #measure(rule: Rule, now: number): Promise<readonly Measurement[] | undefined> {
    const { sources } = this.#options;
    const { signal } = this.#stop;
    try {
      const unseen = (requests: number) => this.#reportBlind(rule, requests);
      const measured = await measure(rule, { sources, losses: this.#losses, now, signal, unseen });
      this.#silent.delete(rule.name);
      return measured;
    } catch (cause) {
      if (!signal.aborted && !this.#silent.has(rule.name))
        this.#report(`the rule ${rule.name} can't be asked: ${messageOf(cause)}`);
      this.#silent.add(rule.name);
      return undefined;
    }
  }

  #reportBlind({ name }: Rule, requests: number): void {
    if (this.#blind.has(name)) return;
    this.#blind.add(name);
    this.#report(
      `the rule ${name} does not see ${requests} requests of its last look: their hostnames are too many to be counted apart; name those that matter in its hostnames`,
    );
  }

  #report(message: string): void {
    const { log, clock } = this.#options;
    log.write({ time: clock.now(), kind: 'system', level: 'warn', component: 'system', message });
  }
}

/** What there is to follow after one look: of what is not measured any more, nothing is wrong. */
function follow(
  rule: Rule,
  { own, measured, now }: { own: readonly Followed[]; measured: readonly Measurement[]; now: number },
): Followed[] {
  const times = timesOf(rule);
  const known = new Map(own.map((one) => [one.alert.key, one]));
  const byKey = new Map(measured.map((one) => [keyOf(rule, one.subject), one]));
  const followed: Followed[] = [];
  for (const [key, { alert, standing }] of known) {
    const one = byKey.get(key);
    const next = nextStanding(standing, one ? verdictOf(rule, one) : 'good', times, now);
    if (!next) continue;
    followed.push({ rule, standing: next, alert: one && !isTold(standing) ? alertOf(rule, one) : alert });
  }
  for (const [key, one] of byKey) {
    if (followed.length >= MAX_SUBJECTS) break;
    if (known.has(key)) continue;
    const standing = nextStanding(undefined, verdictOf(rule, one), times, now);
    if (standing) followed.push({ rule, standing, alert: alertOf(rule, one) });
  }
  return followed;
}
