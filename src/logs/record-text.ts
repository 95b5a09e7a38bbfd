/**
 * A record as text of bounded length: what waits in the queue and crosses to the writer. Its row as a list in JSON, and
 * on a second line its detail, which the writer has no need to parse. JSON has no line breaks of its own.
 */
import type { LogRecord } from '../core/record.ts';
import { columns, type Row, rowOf } from './row.ts';

const MAX_RECORD_LENGTH = 16 * 1024;
const MAX_FIELD_LENGTH = 2048;
const MAX_DETAIL_LENGTH = 8 * 1024;
const SEPARATOR = '\n';

export function recordText(record: LogRecord): string {
  const row = rowOf(record);
  const detail = detailText(record.detail);
  const text = join(row, detail);
  return text.length <= MAX_RECORD_LENGTH ? text : join(shortened(row), shortenedDetail(detail));
}

/** @throws SyntaxError, TypeError for what `recordText` did not make. */
export function parseRecordText(text: string): { row: unknown[]; detail: string | undefined } {
  const end = text.indexOf(SEPARATOR);
  const row: unknown = JSON.parse(end === -1 ? text : text.slice(0, end));
  if (!Array.isArray(row) || row.length !== columns.length)
    throw new TypeError(`a record has to be a list of ${columns.length} values`);
  return { row, detail: end === -1 ? undefined : text.slice(end + SEPARATOR.length) };
}

const join = (row: Row, detail: string | undefined): string =>
  detail === undefined ? JSON.stringify(row) : `${JSON.stringify(row)}${SEPARATOR}${detail}`;

function detailText(detail: LogRecord['detail']): string | undefined {
  if (detail === undefined) return undefined;
  try {
    return JSON.stringify(detail);
  } catch {
    return OMITTED; // A cycle or a bigint: that it was there is all that can be told.
  }
}

const OMITTED = JSON.stringify({ omitted: 'could not be written as JSON' });

const shortened = (row: Row): Row =>
  row.map((value) =>
    typeof value === 'string' && value.length > MAX_FIELD_LENGTH
      ? `${value.slice(0, MAX_FIELD_LENGTH)}…`
      : value,
  );

function shortenedDetail(detail: string | undefined): string | undefined {
  return detail === undefined || detail.length <= MAX_DETAIL_LENGTH
    ? detail
    : JSON.stringify({ cut: detail.slice(0, MAX_DETAIL_LENGTH) });
}
