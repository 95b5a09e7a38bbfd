/**
 * What a program writes: kept up to a limit, counted beyond it, and passed on as it arrives. Bytes become text here
 * and are cleaned, because a program may print what strangers wrote.
 */
import { StringDecoder } from 'node:string_decoder';
import type { Clock, Timer } from '../core/clock.ts';
import type { Progress } from '../core/operation.ts';
import { cleanLines } from '../core/untrusted.ts';

/** Lines that arrive close together are one progress notice. */
const PROGRESS_INTERVAL_MS = 100;
/** Characters of one progress notice; what is beyond them is in the result. */
const PROGRESS_TEXT = 4096;

export type OutputName = 'stdout' | 'stderr';

export interface Output {
  add(name: OutputName, chunk: Buffer): void;
  /** Bytes written by the program, kept or not. */
  readonly totalBytes: number;
  readonly truncated: boolean;
  /** Once, at the end. */
  text(name: OutputName): string;
  /** Sends what has not been sent yet and ends the notices. */
  end(): void;
}

export interface OutputOptions {
  clock: Clock;
  /** For both streams together: what comes first is kept. */
  maxBytes: number;
  progress: ((update: Progress) => void) | undefined;
}

export function createOutput({ clock, maxBytes, progress }: OutputOptions): Output {
  const kept = {
    stdout: { decoder: new StringDecoder(), text: '' },
    stderr: { decoder: new StringDecoder(), text: '' },
  };
  const notices = progress && createNotices(clock, progress);
  let totalBytes = 0;
  return {
    add(name, chunk) {
      const room = Math.max(0, maxBytes - totalBytes);
      totalBytes += chunk.length;
      if (room === 0) return;
      const text = kept[name].decoder.write(chunk.subarray(0, room));
      kept[name].text += text;
      notices?.add(text);
    },
    get totalBytes() {
      return totalBytes;
    },
    get truncated() {
      return totalBytes > maxBytes;
    },
    text: (name) => cleanLines(kept[name].text + kept[name].decoder.end(), maxBytes),
    end: () => notices?.end(),
  };
}

interface Report {
  stdout: string;
  stderr: string;
  truncated: boolean;
  hint?: string | undefined;
}

const HINT =
  'The output was too long to show. Ask for less with the options of the program, such as fewer lines, one object or a filter';

/** What each stream began with, in at most so many characters of JSON; a short one leaves its room to the other. */
export function shortReport<R extends Report>(report: R, characters: number): R & { hint: string } {
  const frame = { ...report, stdout: '', stderr: '', truncated: true, hint: HINT };
  const room = characters - JSON.stringify(frame).length;
  const stdout = beginning(report.stdout, Math.max(room / 2, room - jsonLength(report.stderr)));
  return { ...frame, stdout, stderr: beginning(report.stderr, room - jsonLength(stdout)) };
}

/** As long a beginning as fits. */
function beginning(text: string, room: number): string {
  let [fits, tooLong] = [0, text.length + 1];
  while (tooLong - fits > 1) {
    const middle = Math.floor((fits + tooLong) / 2);
    if (jsonLength(text.slice(0, middle)) <= room) fits = middle;
    else tooLong = middle;
  }
  // Not in the middle of a character.
  return text.slice(0, fits).replace(/[\ud800-\udbff]$/, '');
}

const QUOTES = 2;

/** Without the quotes around it. */
const jsonLength = (text: string): number => JSON.stringify(text).length - QUOTES;

function createNotices(clock: Clock, progress: (update: Progress) => void) {
  let sent = 0;
  let pending = '';
  let timer: Timer | undefined;

  function send(text: string): void {
    if (text === '') return;
    sent += 1;
    progress({ progress: sent, message: cleanLines(text, PROGRESS_TEXT) });
  }

  function sendLines(): void {
    timer = undefined;
    const end = pending.lastIndexOf('\n');
    const lines = pending.slice(0, Math.max(0, end));
    pending = pending.slice(end + 1);
    send(lines);
  }

  return {
    add(text: string): void {
      pending += text;
      timer ??= clock.after(PROGRESS_INTERVAL_MS, sendLines);
    },
    end(): void {
      timer?.cancel();
      send(pending.replace(/\n$/, ''));
      pending = '';
    },
  };
}
