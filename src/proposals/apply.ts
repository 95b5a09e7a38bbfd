/**
 * Labels that the operator lets be applied: a container that asks for a hostname gets its proxy while it runs. Looks at
 * what runs by the engine's events, after every gap, and once a minute; what is to be done is `decide.ts`'s to say. Each
 * proxy is in a record before it is made and until it is deleted, and no other is touched. Where its container is, is
 * followed beside the snapshot (`services/addresses.ts`): no proxy is changed by a start, a stop or a move.
 */
import type { AuditTrail } from '../core/audit.ts';
import { type Clock, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { AppError, messageOf, toAppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import { system } from '../core/principal.ts';
import type { Log, LogRecord } from '../core/record.ts';
import { cleanText } from '../core/untrusted.ts';
import type { ContainerEngine } from '../services/engine.ts';
import { type Follower, followEvents } from '../services/follow-events.ts';
import type { LabelRule } from '../services/label-rules.ts';
import type { Database } from '../store/database.ts';
import { type Decision, decide, keyOf, type Step } from './decide.ts';
import { HOSTNAME_LABEL, type Offer, offerOf, shownId } from './offer.ts';
import { type Applied, putApplied, removeApplied, type Standing, standings, targetOf } from './record.ts';

export const applyLimits = {
  /** Between two looks, however many containers begin and end. */
  paceMs: SECOND,
  /** In case an event was lost. */
  everyMs: MINUTE,
  againMs: SECOND,
  longestAgainMs: MINUTE,
  /** Reasons that are remembered, so that each is told once. */
  told: 1000,
} as const;

const CHANGES: ReadonlySet<string> = new Set(['start', 'unpause', 'die', 'pause', 'destroy']);

export interface ApplyParts {
  readonly rules: readonly LabelRule[];
  /** Where the engine is, when that is not this machine. */
  readonly machine: string | undefined;
  readonly engine: Pick<ContainerEngine, 'list' | 'events'>;
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  /** Absent: what is done is told to the log alone. */
  readonly trail: AuditTrail | undefined;
  readonly proxies: {
    /** Why it would be refused now. */
    fault(hostname: string, url: string): Promise<string | undefined>;
    /** The wildcard that serves the hostname. */
    servedBy(hostname: string): Promise<string | undefined>;
    create(hostname: string, target: string, id: string): Promise<unknown>;
    /** Only the one of this id, and only as it was made. */
    remove(hostname: string, id: string): Promise<'removed' | 'gone' | 'changed'>;
  };
  /** For who follows where such a target leads. Never rejects. */
  readonly moved: (id: string) => Promise<void>;
}

/** Of a proxy, as its audit record tells it. */
interface Change {
  readonly operation: 'create_proxy' | 'delete_proxy' | 'accept_proposal';
  readonly effect: 'create' | 'delete' | 'update';
  readonly record: Applied;
  readonly reason: string;
}

/** For who lists them. */
export interface AppliedFacts {
  readonly records: readonly (Standing & { readonly missingSince: number | undefined })[];
  /** By `keyOf`. */
  readonly refusals: ReadonlyMap<string, string>;
}

export class LabelApplier implements AsyncDisposable {
  readonly #parts: ApplyParts;
  readonly #stop = new AbortController();
  #decision: Pick<Decision, 'refusals' | 'missing'> = { refusals: new Map(), missing: new Map() };
  #following: Promise<void> = Promise.resolve();
  #current: Promise<void> = Promise.resolve();
  #next: Timer | undefined;
  #every: Timer | undefined;
  /** When somebody's time is over, or what failed is tried again. */
  #due: Timer | undefined;
  #lookedAt = -Infinity;
  #failures = 0;
  #isToldLost = false;
  /** Why something is not applied, as it was last told; with the id of the container. */
  readonly #told = new Map<string, string>();

  constructor(parts: ApplyParts) {
    this.#parts = parts;
  }

  /** Asks no engine where no label is applied; what was made by one that is no more is taken away. Never throws. */
  async start(): Promise<void> {
    const { rules, clock } = this.#parts;
    if (rules.length === 0) return this.#look();
    this.#every = clock.every(applyLimits.everyMs, () => this.#want());
    this.#following = followEvents(this.#parts, this.#follower(), this.#stop.signal);
    await this.#look();
  }

  /** Keys of labels that are applied. */
  get keys(): string[] {
    return this.#parts.rules.map(({ key }) => key);
  }

  async facts(): Promise<AppliedFacts> {
    const { refusals, missing } = this.#decision;
    const records = await standings(this.#parts.database.read);
    return {
      refusals,
      records: records.map((record) => ({ ...record, missingSince: missing.get(record.id) })),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const timer of [this.#next, this.#every, this.#due]) timer?.cancel();
    await Promise.all([this.#following, this.#current]);
  }

  #follower(): Follower {
    return {
      seen: ({ kind, action }) => {
        if (kind === 'container' && CHANGES.has(action)) this.#want();
      },
      heard: () => (this.#failures = 0),
      lost: (cause) => this.#lost(cause),
      backOff: () => Math.min(applyLimits.longestAgainMs, applyLimits.againMs * 2 ** this.#failures++),
      afterGap: () => this.#want(),
    };
  }

  /** A look that begins after this, and no sooner than the pace allows. */
  #want(): void {
    if (this.#stop.signal.aborted || this.#next) return;
    const { clock } = this.#parts;
    const waitMs = Math.max(0, this.#lookedAt + applyLimits.paceMs - clock.now());
    this.#next = clock.after(waitMs, () => {
      this.#next = undefined;
      void this.#look();
    });
  }

  /** One at a time. Never rejects. */
  #look(): Promise<void> {
    this.#current = this.#current.then(async () => {
      if (this.#stop.signal.aborted) return;
      try {
        const isMoreToDo = await this.#lookOnce();
        this.#isToldLost = false;
        this.#lookedAt = this.#parts.clock.now();
        if (isMoreToDo) this.#want();
      } catch (cause) {
        this.#lookedAt = this.#parts.clock.now();
        this.#lost(cause);
      }
    });
    return this.#current;
  }

  /** Answers whether something became free that another container may ask for. */
  async #lookOnce(): Promise<boolean> {
    const { rules, clock, database } = this.#parts;
    const records = await standings(database.read);
    if (rules.length + records.length === 0) return false;
    const { offers, there } = rules.length === 0 ? nothing : await this.#seen();
    const seen = { offers, there, now: clock.now() };
    const { steps, refusals, missing } = decide(rules, records, seen, this.#decision.missing);
    const refused = new Map(refusals);
    const failed = new Set<Step>();
    for (const step of steps) {
      if (this.#stop.signal.aborted) return false;
      await this.#take(step, refused).catch((cause: unknown) => {
        failed.add(step);
        this.#failed(step, cause);
      });
    }
    this.#decision = { refusals: refused, missing };
    this.#tellRefusals(offers, there);
    this.#lookWhenDue(records, failed.size > 0);
    return steps.some((step) => step.kind === 'take-away' && !failed.has(step));
  }

  async #seen(): Promise<{ offers: Offer[]; there: ReadonlySet<string> }> {
    const { engine, machine } = this.#parts;
    const containers = await engine.list({ all: true });
    const running = containers.filter(({ state }) => state === 'running');
    return {
      offers: running.flatMap((one) => this.keys.flatMap((key) => offerOf(one, machine, key) ?? [])),
      there: new Set(containers.map(({ id }) => id)),
    };
  }

  async #take(step: Step, refused: Map<string, string>): Promise<void> {
    switch (step.kind) {
      case 'make': {
        const fault = await this.#make(step.offer);
        if (fault !== undefined) refused.set(keyOf(step.offer), `not applied: ${fault}`);
        return;
      }
      case 'move':
        return this.#move(step);
      case 'take-away':
        return this.#takeAway(step);
      case 'dismiss':
        return this.#put({ ...step.record, state: 'dismissed' });
      case 'forget':
        return this.#forget(step.record);
    }
  }

  async #make(offer: Extract<Step, { kind: 'make' }>['offer']): Promise<string | undefined> {
    const { proxies } = this.#parts;
    const { hostname, port } = offer;
    const wildcard = await proxies.servedBy(hostname);
    if (wildcard !== undefined)
      return `${wildcard} serves this hostname; accept_proposal takes it out of that`;
    const fault = await proxies.fault(hostname, offer.target_url ?? '');
    if (fault !== undefined) return fault;
    const record: Applied = {
      id: newId('lbl'),
      hostname,
      label: offer.label,
      container: offer.id,
      image: offer.image,
      port,
      proxy_id: newId('prx'),
      state: 'making',
    };
    const reason = asksFor(record);
    const change: Change = { operation: 'create_proxy', effect: 'create', record, reason };
    const refusal = await this.#audited(
      change,
      async () => {
        await this.#put(record);
        try {
          await proxies.create(hostname, targetOf(record), record.proxy_id);
        } catch (cause) {
          if (!(cause instanceof AppError) || cause.code === 'INTERNAL') throw cause;
          await this.#forget(record);
          return cause;
        }
        await this.#put({ ...record, state: 'applied' });
        return undefined;
      },
      (refused) => refused?.code ?? 'OK',
    );
    return refusal?.message;
  }

  async #move({ record, offer }: Extract<Step, { kind: 'move' }>): Promise<void> {
    const { id: container, port } = offer;
    const image = container === record.container ? record.image : offer.image;
    const next: Applied = { ...record, container, image, port, state: 'applied' };
    const before = `${shownId(record.container)}, port ${record.port}`;
    const change: Change =
      record.state === 'making'
        ? {
            operation: 'create_proxy',
            effect: 'create',
            record: next,
            reason: `${asksFor(next)}; making it was cut off`,
          }
        : {
            operation: 'accept_proposal',
            effect: 'update',
            record: next,
            reason: `it asks for what ${before} had`,
          };
    await this.#audited(change, async () => {
      await this.#put(next);
      await this.#parts.moved(record.id);
    });
  }

  async #takeAway({ record, reason }: Extract<Step, { kind: 'take-away' }>): Promise<void> {
    const change: Change = { operation: 'delete_proxy', effect: 'delete', record, reason };
    await this.#audited(
      change,
      async () => {
        await this.#put({ ...record, state: 'leaving' });
        const outcome = await this.#parts.proxies.remove(record.hostname, record.proxy_id);
        // Somebody was quicker: it is theirs.
        await (outcome === 'changed' ? this.#put({ ...record, state: 'applied' }) : this.#forget(record));
        return outcome;
      },
      (outcome) => REMOVALS[outcome],
    );
  }

  /** As `dispatch` does it: nothing is changed that is not told before, and what came of it after. */
  async #audited<Result>(
    change: Change,
    work: () => Promise<Result>,
    codeOf: (result: Result) => string = () => 'OK',
  ): Promise<Result> {
    const { clock, log, trail } = this.#parts;
    const begun = await trail?.begin(auditRecord(change, clock.now()));
    let code = 'INTERNAL';
    try {
      const result = await work();
      code = codeOf(result);
      return result;
    } catch (cause) {
      ({ code } = toAppError(cause));
      throw cause;
    } finally {
      const record = auditRecord(change, clock.now(), code);
      if (begun) await begun.end(record);
      else log.write(record);
    }
  }

  async #put(record: Applied): Promise<void> {
    const { id, hostname, proxy_id, label, container, image, port, state } = record;
    await this.#parts.database.change({}, (tx) =>
      putApplied(tx, { id, hostname, proxy_id, label, container, image, port, state }),
    );
  }

  async #forget(record: Applied): Promise<void> {
    await this.#parts.database.change({}, (tx) => removeApplied(tx, record));
    await this.#parts.moved(record.id);
  }

  #lookWhenDue(records: readonly Standing[], hasFailed: boolean): void {
    const { clock, rules } = this.#parts;
    this.#due?.cancel();
    const keepMs = new Map(rules.map(({ key, keep_ms }) => [key, keep_ms]));
    const ends = records.flatMap(({ id, label, proxy }) => {
      const since = this.#decision.missing.get(id);
      return since === undefined || proxy === 'changed' ? [] : since + (keepMs.get(label) ?? 0);
    });
    const again = hasFailed ? [clock.now() + applyLimits.everyMs] : [];
    const next = Math.min(...ends.filter((end) => end > clock.now()), ...again);
    this.#due = Number.isFinite(next) ? clock.after(next - clock.now(), () => this.#want()) : undefined;
  }

  /** Each once, until something else is to be said: a container may ask again and again. */
  #tellRefusals(offers: readonly Offer[], there: ReadonlySet<string>): void {
    for (const [text, id] of this.#told) if (!there.has(id)) this.#told.delete(text);
    for (const offer of offers) {
      const why = this.#decision.refusals.get(keyOf(offer));
      const text = `the label ${offer.label} of the container ${offer.container}, ${offer.hostname}: ${why}`;
      if (why === undefined || this.#told.has(text)) continue;
      if (this.#told.size >= applyLimits.told) return;
      this.#told.set(text, offer.id);
      this.#write({ level: 'warn', message: cleanText(text), hostname: offer.hostname });
    }
  }

  #failed({ kind, ...step }: Step, cause: unknown): void {
    const hostname = 'record' in step ? step.record.hostname : step.offer.hostname;
    const message = `a label of a container: ${kind} of ${hostname} failed and is tried again: ${cleanText(messageOf(cause))}`;
    this.#write({ level: 'warn', message, hostname });
  }

  #lost(cause: unknown): void {
    if (this.#stop.signal.aborted || this.#isToldLost) return;
    this.#isToldLost = true;
    const message = `labels of containers are not looked at: ${cleanText(messageOf(cause))}; nothing is applied or taken away until the engine answers`;
    this.#write({ level: 'warn', message });
  }

  #write(record: Partial<LogRecord> & Pick<LogRecord, 'level' | 'message'>): void {
    const { clock, log } = this.#parts;
    log.write({ time: clock.now(), kind: 'system', component: 'services', ...record });
  }
}

const asksFor = ({ label }: Applied): string => `its label ${label} asks for it`;

/** What came of taking a proxy away, by the codes of operations. */
const REMOVALS = { removed: 'OK', gone: 'NOT_FOUND', changed: 'CONFLICT' } as const;

/** @param outcome absent: it begins */
function auditRecord(
  { operation, effect, record, reason }: Change,
  time: number,
  outcome?: string,
): LogRecord {
  const { hostname, container, label, image, proxy_id: proxy } = record;
  return {
    time,
    kind: 'audit',
    component: 'audit',
    level: outcome === undefined || outcome === 'OK' ? 'info' : 'warn',
    message: `system ${operation}: ${outcome ?? 'begun'}`,
    hostname,
    principal: system.id,
    operation,
    outcome,
    detail: { effect, surface: 'internal', proxy, container: shownId(container), image, label, reason },
  };
}

const nothing = { offers: [], there: new Set<string>() };

/** Keys of labels that are looked at, applied or not. */
export const keysOf = ({ keys }: Pick<LabelApplier, 'keys'>): string[] => [
  ...new Set([HOSTNAME_LABEL, ...keys]),
];
