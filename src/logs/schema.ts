/** What is told about log records and log levels. The record itself is `core/record`. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { components, logLevels, recordKinds } from '../core/record.ts';

/** Absent is what the record does not say. */
export const logEntrySchema = z.object({
  time: timestamp,
  level: z.enum(logLevels),
  kind: z.enum(recordKinds),
  component: z.string().optional().describe('Where it says more than kind'),
  message: z.string(),
  hostname: z.string().optional(),
  method: z.string().optional(),
  path: z.string().optional(),
  status: z.int().optional(),
  duration_ms: z.number().optional(),
  client_address: z.string().optional(),
  principal: z.string().optional(),
  operation: z.string().optional(),
  outcome: z.string().optional().describe('OK or an error code'),
  trace_id: z.string().optional(),
  id: z.string().describe('Names this record: its day and its number'),
  bytes_in: z.number().optional(),
  bytes_out: z.number().optional(),
  user_agent: z.string().optional(),
  detail: z.record(z.string(), z.unknown()).optional(),
});
export type LogEntry = z.output<typeof logEntrySchema>;

export const logPageSchema = z.object({
  records: z.array(logEntrySchema).describe('Newest first'),
  next_cursor: nextCursorField,
  truncated: z
    .boolean()
    .optional()
    .describe('True when fewer were returned than asked for, because of size or time'),
  hint: z.string().optional().describe('How to see the rest'),
});
export type LogPage = z.output<typeof logPageSchema>;

const count = z.int();
const figures = {
  count,
  per_second: z.number(),
  client_errors: count.describe('Status 4xx'),
  server_errors: count.describe('Status 5xx'),
  bytes_in: count,
  bytes_out: count,
  p50_ms: z.number().optional().describe('Half took less; percentiles are within a fifth of the true ones'),
  p95_ms: z.number().optional(),
  p99_ms: z.number().optional(),
};

export const logStatsSchema = z.object({
  since: timestamp,
  until: timestamp,
  total: z.object(figures),
  groups: z
    .array(z.object({ name: z.string(), ...figures }))
    .optional()
    .describe('First ones by sort_by; name is empty where the record says nothing'),
  group_count: count.optional().describe('Of all groups'),
  buckets: z
    .array(
      z.object({
        time: timestamp.describe('Its beginning'),
        count,
        client_errors: count,
        server_errors: count,
        p95_ms: z.number().optional(),
      }),
    )
    .optional()
    .describe('Over time; none where nothing was'),
  source: z
    .enum(['rollup', 'records', 'both'])
    .describe('rollup: counted as they came, by whole minutes; records: counted now'),
  truncated: z.boolean().optional(),
  hint: z.string().optional(),
});
export type LogStats = z.output<typeof logStatsSchema>;

export const logLevelSchema = z.object({
  component: z.enum(components),
  level: z.enum(logLevels).describe('Least level that is kept'),
});
export type ComponentLevel = z.output<typeof logLevelSchema>;

export const logLevelListSchema = z.object({ levels: z.array(logLevelSchema) });
