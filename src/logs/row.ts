/** A record as the row that the log files keep, in the order of their columns. `detail` is apart: it is text there. */
import type { LogRecord } from '../core/record.ts';
import { dayOf } from './folder.ts';
import { levelRank } from './levels.ts';

export const columns = [
  'time',
  'level',
  'kind',
  'component',
  'message',
  'trace_id',
  'hostname',
  'method',
  'path',
  'status',
  'duration_ms',
  'bytes_in',
  'bytes_out',
  'client_address',
  'principal',
  'user_agent',
  'operation',
  'outcome',
] as const;

export type Row = (string | number | undefined)[];

export const rowOf = (record: LogRecord): Row => [
  record.time,
  levelRank(record.level),
  record.kind,
  record.component,
  record.message,
  record.trace_id,
  record.hostname,
  record.method,
  record.path,
  record.status,
  record.duration_ms,
  record.bytes_in,
  record.bytes_out,
  record.client_address,
  record.principal,
  record.user_agent,
  record.operation,
  record.outcome,
];

/** Names a record: its day and its number there. */
export const recordId = ({ time, id }: { time: number; id: number }): string =>
  `${dayOf(time).replaceAll('-', '')}.${id}`;
