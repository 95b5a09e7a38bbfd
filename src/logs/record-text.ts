/** A record as JSON text of bounded length: what waits in the queue and crosses to the writer. */
import type { LogRecord } from '../core/record.ts';

const MAX_RECORD_LENGTH = 16 * 1024;
const MAX_FIELD_LENGTH = 2048;
const MAX_DETAIL_LENGTH = 8 * 1024;

/** Undefined when nothing could be made of it. */
export function recordText(record: LogRecord): string | undefined {
  const text = stringify(record);
  return text !== undefined && text.length <= MAX_RECORD_LENGTH ? text : stringify(shortened(record));
}

function stringify(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // A cycle or a bigint in `detail`: the caller tries without.
  }
}

function shortened(record: LogRecord): Record<string, unknown> {
  const fields = Object.entries(record).map(([key, value]) => [
    key,
    typeof value === 'string' && value.length > MAX_FIELD_LENGTH
      ? `${value.slice(0, MAX_FIELD_LENGTH)}…`
      : value,
  ]);
  return { ...Object.fromEntries(fields), detail: shortenedDetail(record.detail) };
}

function shortenedDetail(detail: LogRecord['detail']): Record<string, unknown> | undefined {
  if (detail === undefined) return undefined;
  const text = stringify(detail);
  if (text === undefined) return { omitted: 'could not be written as JSON' };
  return text.length <= MAX_DETAIL_LENGTH ? detail : { cut: text.slice(0, MAX_DETAIL_LENGTH) };
}
