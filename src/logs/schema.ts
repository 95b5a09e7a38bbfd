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

export const logLevelSchema = z.object({
  component: z.enum(components),
  level: z.enum(logLevels).describe('Least level that is kept'),
});
export type ComponentLevel = z.output<typeof logLevelSchema>;

export const logLevelListSchema = z.object({ levels: z.array(logLevelSchema) });
