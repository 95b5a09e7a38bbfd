/**
 * Tells who follows the log as a resource (`ohp://logs`, or with a filter) that there is something new for them: what
 * `tail_logs` looks for within one call, looked for as long as somebody follows. Each is looked for as its own
 * principal, so that nobody hears of records which they may not read. Made by `app.ts`.
 */
import { type Clock, SECOND } from '../core/clock.ts';
import type { Principal } from '../core/principal.ts';
import type { LogService } from './service.ts';
import type { LogSink } from './sink.ts';
import { LATE_MS } from './tail.ts';

/** Of many records at once whoever follows hears once. */
export const NEWS_EVERY_MS = 2 * SECOND;
/** That the looks of one round take, but for the last of them: the log is there for the questions of others, too. */
export const ROUND_MS = SECOND / 2;
/** A clock that is set forward is no look that took long. */
const MAX_RESTED = 30;

interface Follower {
  /** Who takes turns with others. */
  readonly holder: string;
  readonly uri: string;
  readonly principal: Principal;
  readonly raw: Readonly<Record<string, string>>;
  readonly tell: () => void;
}

export interface LogNewsParts {
  readonly clock: Clock;
  readonly sink: Pick<LogSink, 'stats'>;
  readonly logs: Pick<LogService, 'lookFrom'>;
  /** Who follows now, and may. */
  readonly followers: () => readonly Follower[];
}

/** What is looked for once for all that follow it. */
interface Followed {
  group: readonly Follower[];
  /** Records that they were told of, of those that a look still finds. */
  seen: ReadonlySet<string>;
  lookedAt: number;
  /** Its last; what is new has just had one, so that to connect again and again brings nobody to the front. */
  turn: number;
  /** Something was written since. */
  isDue: boolean;
}

export class LogNews implements Disposable {
  readonly #parts: LogNewsParts;
  readonly #ended = new AbortController();
  #followed = new Map<string, Followed>();
  #turn = 0;
  #lookedAt: number;
  #accepted = -1;
  #isLooking = false;
  /** Rounds that are left out. */
  #rests = 0;
  readonly #timer;

  constructor(parts: LogNewsParts) {
    this.#parts = parts;
    this.#lookedAt = parts.clock.now();
    this.#timer = parts.clock.every(NEWS_EVERY_MS, () => void this.look());
  }

  /** One round, of one look at a time: when much is followed, each hears less often. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    if (this.#rests > 0) return void (this.#rests -= 1);
    const { clock, sink } = this.#parts;
    const { written, queued, dropped } = sink.stats();
    const accepted = written + queued + dropped;
    const hasNews = accepted !== this.#accepted;
    this.#accepted = accepted;
    this.#isLooking = true;
    const began = clock.now();
    try {
      this.#list(hasNews);
      this.#lookedAt = began;
      for (const followed of this.#inTurns()) {
        if (clock.now() - began >= ROUND_MS) break;
        await this.#lookFor(followed);
      }
    } finally {
      this.#isLooking = false;
      const rounds = Math.round((clock.now() - began) / ROUND_MS);
      this.#rests = Math.min(MAX_RESTED, Math.max(0, rounds - 1));
    }
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
    this.#ended.abort();
  }

  #list(hasNews: boolean): void {
    const before = this.#followed;
    if (!hasNews && ![...before.values()].some(({ isDue }) => isDue)) return;
    const none = { seen: new Set<string>(), lookedAt: this.#lookedAt, turn: this.#turn };
    this.#followed = new Map(
      [...grouped(this.#parts.followers())].map(([key, group]) => {
        const known = before.get(key);
        return [key, { ...(known ?? none), group, isDue: hasNews || known?.isDue === true }];
      }),
    );
  }

  /** One of each holder, then the next of each: first the holder, and of it what, has waited longest. */
  #inTurns(): Followed[] {
    const queues = new Map<string, { queue: Followed[]; turn: number }>();
    for (const followed of this.#followed.values()) {
      const holder = followed.group[0]?.holder ?? '';
      const { queue, turn } = queues.get(holder) ?? { queue: [], turn: 0 };
      if (followed.isDue) queue.push(followed);
      queues.set(holder, { queue, turn: Math.max(turn, followed.turn) });
    }
    return [...queues.values()]
      .sort((a, b) => a.turn - b.turn)
      .flatMap(({ queue }) => [...queue.sort((a, b) => a.turn - b.turn).entries()])
      .sort(([a], [b]) => a - b)
      .map(([, followed]) => followed);
  }

  async #lookFor(followed: Followed): Promise<void> {
    const { clock, logs } = this.#parts;
    const { group, seen, lookedAt } = followed;
    const [first] = group;
    if (!first) return;
    this.#turn += 1;
    followed.turn = this.#turn;
    followed.isDue = false;
    followed.lookedAt = clock.now();
    const asking = { principal: first.principal, signal: this.#ended.signal };
    // A filter that is none, or a log that can't be read now: the next read says so.
    const found = await logs.lookFrom(first.raw['filter'], lookedAt - LATE_MS, asking).catch(() => undefined);
    if (!found) return;
    const ids = found.map(({ id }) => id);
    followed.seen = new Set(ids);
    if (ids.some((id) => !seen.has(id))) for (const { tell } of group) tell();
  }
}

/** Who follows the same in several connections is looked for once. */
function grouped(followers: readonly Follower[]): Map<string, Follower[]> {
  const groups = new Map<string, Follower[]>();
  for (const follower of followers) {
    const key = JSON.stringify([follower.principal.id, follower.principal.hostnames, follower.uri]);
    groups.set(key, [...(groups.get(key) ?? []), follower]);
  }
  return groups;
}
