/** Somebody has to know when the trail can't be written, was tampered with, or grows beyond what was expected of it. */
import { type Clock, HOUR, MINUTE, SECOND, type Timer } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import type { TrailState } from './trail.ts';

const LOOK_MS = 10 * SECOND;
/** What lasts is told again: what ended and came back is news to who keeps alerts only after a while. */
const TELL_AGAIN_MS = MINUTE;
const SWEEP_MS = HOUR;

export interface AuditAlert {
  key: string;
  stage: number;
  code: 'audit.failing' | 'audit.broken' | 'audit.large';
  level: 'warn' | 'error';
  summary: string;
  facts: Record<string, unknown>;
}

export interface WatchOptions {
  clock: Clock;
  log: Log;
  state: () => TrailState;
  /** Deletes what is too old, and keeps a head elsewhere. */
  sweep: () => Promise<void>;
  alertBytes: number;
  tell: (current: readonly AuditAlert[]) => Promise<void>;
}

export class AuditWatch implements AsyncDisposable {
  readonly #options: WatchOptions;
  #timers: Timer[] = [];
  #told: string | undefined;
  #toldAt = 0;
  #untold: readonly AuditAlert[] | undefined;
  #telling: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  start(): void {
    const { clock } = this.#options;
    this.#timers = [clock.every(LOOK_MS, () => this.look()), clock.every(SWEEP_MS, () => this.#sweep())];
    this.#sweep();
    this.look();
  }

  /** What could not be told, since the store is on the same disk, is told by a later look, also when it is over by then. */
  look(): void {
    const current = this.#untold ?? alertsOf(this.#options.state(), this.#options.alertBytes);
    const news = current.map(({ key, stage }) => `${key} ${stage}`).join('\n');
    const now = this.#options.clock.now();
    const isAgain = current.length > 0 && now - this.#toldAt >= TELL_AGAIN_MS;
    if (news === this.#told && !isAgain) return;
    this.#telling ??= this.#options
      .tell(current)
      .then(() => {
        this.#told = news;
        this.#toldAt = now;
        this.#untold = undefined;
      })
      .catch(() => void (this.#untold = current)) // The trail has told the terminal and the log.
      .finally(() => (this.#telling = undefined));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) timer.cancel();
    await this.#telling;
    await this.#sweeping;
  }

  #sweep(): void {
    const { clock, log, sweep } = this.#options;
    this.#sweeping ??= sweep()
      .catch((cause: unknown) => {
        const message = `the audit trail can't be looked after: ${messageOf(cause)}`;
        log.write({ time: clock.now(), kind: 'system', level: 'warn', component: 'system', message });
      })
      .finally(() => (this.#sweeping = undefined));
  }
}

export function alertsOf({ problem, lost, bytes, gap }: TrailState, alertBytes: number): AuditAlert[] {
  const alerts: AuditAlert[] = [];
  if (problem !== undefined)
    alerts.push({
      key: 'audit.failing',
      stage: 1,
      code: 'audit.failing',
      level: 'error',
      summary: `${problem}; changes are refused until it can. Make room on the disk, or let this user write there`,
      facts: { lost_records: lost },
    });
  if (gap?.suspect === true)
    alerts.push({
      key: `audit.broken/${gap.expected}`,
      stage: 1,
      code: 'audit.broken',
      level: 'error',
      summary: `the audit trail is not as it was written: ${gap.why}; verify_audit shows where. Keep the folder as it is, and compare it with a copy`,
      facts: { expected_seq: gap.expected, found_seq: gap.found },
    });
  if (bytes > alertBytes)
    alerts.push({
      key: 'audit.large',
      stage: 1,
      code: 'audit.large',
      level: 'warn',
      summary: `the audit trail has ${bytes} bytes, more than audit.alert_bytes; nothing of it is deleted for that. See who makes so many records (get_log_stats by principal, kind audit), or lower audit.retention_days`,
      facts: { bytes, alert_bytes: alertBytes },
    });
  return alerts;
}
