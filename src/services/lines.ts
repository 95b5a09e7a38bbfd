/** What a container says, cleaned and bounded: its program wrote it, for whoever reads it. */
import type { Clock } from '../core/clock.ts';
import { limits } from '../core/limits.ts';
import type { OperationContext } from '../core/operation.ts';
import { cleanText } from '../core/untrusted.ts';
import { parseTime } from '../logs/time-range.ts';
import type { ContainerEngine, LogLine } from './engine.ts';
import { tellingOf } from './pull.ts';
import type { LogLines } from './schema.ts';
import { shownTime } from './shown.ts';

const DEFAULT_TAIL = 100;
const MAX_LINE = 2000;
/** Lines held at once while it is followed: the newest that could still be shown. */
const MAX_HELD = 2000;
/** For the brackets around the lines. */
const ENVELOPE_CHARACTERS = 600;

interface Wanted {
  tail?: number | undefined;
  since?: string | undefined;
  follow_ms: number;
  context: Pick<OperationContext, 'progress' | 'signal'>;
}

/** Follows for `follow_ms`, or until the container ends or the caller goes away. */
export async function readLines(
  { engine, clock }: { engine: Pick<ContainerEngine, 'logs'>; clock: Clock },
  id: string,
  { tail, since, follow_ms, context }: Wanted,
): Promise<LogLines> {
  const { tell } = tellingOf(context);
  const ended = new AbortController();
  const timer = follow_ms > 0 ? clock.after(follow_ms, () => ended.abort()) : undefined;
  const lines: LogLines['lines'] = [];
  let left_out = 0;
  try {
    const found = engine.logs(id, {
      tail: tail ?? DEFAULT_TAIL,
      since: since === undefined ? undefined : parseTime('since', since, clock.now()),
      follow: follow_ms > 0,
      signal: AbortSignal.any([ended.signal, context.signal]),
    });
    for await (const line of found) {
      const shown = shownLine(line);
      lines.push(shown);
      if (follow_ms > 0) tell(shown.text);
      if (lines.length > MAX_HELD) left_out += lines.splice(0, MAX_HELD / 2).length;
    }
  } finally {
    timer?.cancel();
  }
  const fitting = newest(
    lines,
    tail === undefined ? limits.resultCharactersDefault : limits.resultCharacters,
  );
  return { lines: fitting, left_out: left_out + lines.length - fitting.length };
}

const shownLine = ({ time, stream, text }: LogLine): LogLines['lines'][number] => ({
  ...(time !== undefined && { time: shownTime(time) }),
  stream,
  text: cleanText(text, MAX_LINE),
});

/** As many of the last as fit. */
function newest(lines: LogLines['lines'], characters: number): LogLines['lines'] {
  let room = characters - ENVELOPE_CHARACTERS;
  const first = lines.findLastIndex((line) => (room -= JSON.stringify(line).length + 1) < 0);
  return lines.slice(first + 1);
}
