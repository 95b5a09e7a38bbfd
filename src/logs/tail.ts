/** `tail_logs`: what is written from now on, looked for at short intervals, told as it comes. Called by service.ts. */
import { type Clock, pause, SECOND } from '../core/clock.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import type { LogEntry, LogTail } from './schema.ts';

const EVERY_MS = SECOND / 2;
/** A record carries the time of its request's end and may come in a little later than a younger one. */
export const LATE_MS = 2 * SECOND;
/** Of one look, and held at once: the newest that could still be shown. */
export const MAX_TAIL = 200;
const ENVELOPE_CHARACTERS = 600;

interface Tailing {
  /** Newest first, from a time on. */
  look: (since: number) => Promise<LogEntry[]>;
  clock: Clock;
  context: Pick<OperationContext, 'signal' | 'progress'>;
}

/** Ends after `followMs`, when `lines` have come, or when the caller goes away. */
export async function tail(
  { followMs, lines }: { followMs: number; lines: number },
  { look, clock, context }: Tailing,
): Promise<LogTail> {
  const begun = clock.now();
  const ended = new AbortController();
  const timer = clock.after(followMs, () => ended.abort());
  const stop = AbortSignal.any([ended.signal, context.signal]);
  const told = new Set<string>();
  const found: LogEntry[] = [];
  try {
    for (let newest = begun; found.length < lines; ) {
      const isLast = stop.aborted;
      for (const entry of (await look(Math.max(begun, newest - LATE_MS))).reverse()) {
        if (told.has(entry.id) || found.length >= lines) continue;
        told.add(entry.id);
        found.push(entry);
        newest = Math.max(newest, Date.parse(entry.time));
        context.progress?.({ progress: found.length, message: lineOf(entry) });
      }
      if (isLast) break;
      if (!stop.aborted) await pause(clock, EVERY_MS, stop);
    }
  } finally {
    timer.cancel();
  }
  return fitting(found);
}

const lineOf = ({ time, level, message, status, outcome }: LogEntry): string =>
  [time, level, message, status, outcome].filter((part) => part !== undefined).join(' ');

/** The newest that fit, in their order. */
function fitting(found: readonly LogEntry[]): LogTail {
  let room = limits.resultCharactersDefault - ENVELOPE_CHARACTERS;
  const first = found.findLastIndex((entry) => (room -= JSON.stringify(entry).length + 1) < 0) + 1;
  return { records: found.slice(first), left_out: first };
}
