/**
 * Refusals of who sent no credential: anybody can cause as many as the network carries, and they must not fill the disk
 * with what is never deleted before its time. Some of each minute are told one by one, the others in sum.
 */
import { type Clock, MINUTE, type Timer } from '../core/clock.ts';
import { anonymous } from '../core/principal.ts';
import type { LogRecord } from '../core/record.ts';

const TOLD_A_MINUTE = 30;
/** Of operations and pages by name; the rest is one number. */
const MAX_NAMES = 20;
const OTHERS = 'others';

export class Strangers {
  readonly #clock: Clock;
  readonly #tell: (record: LogRecord) => void;
  #timer: Timer | undefined;
  #told = 0;
  #left = 0;
  #names = new Map<string, number>();

  constructor(clock: Clock, tell: (record: LogRecord) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** Whether it is told in sum, so that nobody else has to. */
  takes(record: LogRecord): boolean {
    if (!isOfStranger(record)) return false;
    this.#timer ??= this.#clock.after(MINUTE, () => this.flush());
    this.#told += 1;
    if (this.#told <= TOLD_A_MINUTE) return false;
    this.#left += 1;
    const name = `${record.operation ?? record.message}: ${record.outcome ?? ''}`;
    const key = this.#names.has(name) || this.#names.size < MAX_NAMES ? name : OTHERS;
    this.#names.set(key, (this.#names.get(key) ?? 0) + 1);
    return true;
  }

  /** Tells the sum of the minute. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const [count, names] = [this.#left, Object.fromEntries(this.#names)];
    [this.#told, this.#left, this.#names] = [0, 0, new Map()];
    if (count === 0) return;
    this.#tell({
      time: this.#clock.now(),
      kind: 'audit',
      level: 'info',
      component: 'audit',
      message: `${count} more calls without a credential within a minute`,
      principal: anonymous.id,
      detail: { count, by: names },
    });
  }
}

/** Reads of theirs, where `mcp.access` is public, are as many. What they are let in to do (sign in, accept) is told. */
const isOfStranger = ({ principal, outcome }: LogRecord): boolean =>
  principal === anonymous.id || (principal === undefined && outcome !== 'OK' && outcome !== undefined);
