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

export const logSearchSchema = z.object({
  hits: z.int().describe('Records that have the text'),
  patterns: z
    .array(
      z.object({
        pattern: z.string().describe('The line without what differs (#), after … where else the text is'),
        count: z.int(),
        level: z.enum(logLevels),
        hostname: z.string().optional().describe('Where it is the same in all'),
        first: timestamp,
        last: timestamp,
        ids: z.array(z.string()).describe('The newest records, three at most'),
      }),
    )
    .describe('Kinds of lines, newest first'),
  pattern_count: z.int().describe('Of all kinds'),
  days: z.array(z.object({ day: z.string(), hits: z.int() })).describe('With hits, newest first'),
  next_cursor: nextCursorField,
  truncated: z.boolean().optional(),
  hint: z.string().optional().describe('How to see the rest'),
});
export type LogSearch = z.output<typeof logSearchSchema>;

export const logTailSchema = z.object({
  records: z.array(logEntrySchema).describe('Oldest first; the newest that fit'),
  left_out: z.int().describe('Told as progress only'),
});
export type LogTail = z.output<typeof logTailSchema>;

const count = z.int();
const figures = {
  count,
  per_second: z.number(),
  client_errors: count.describe('Status 4xx'),
  server_errors: count.describe('Status 5xx'),
  bytes_in: count,
  bytes_out: count,
  p50_ms: z.number().optional().describe('Half took less; within a fifth or a millisecond'),
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

const storyLine = z.object({
  time: timestamp,
  id: z.string().describe('The record that says so'),
  text: z.string(),
});
export type StoryLine = z.output<typeof storyLine>;

export const requestStorySchema = z.object({
  verdict: z.string().describe('In one sentence'),
  request: logEntrySchema.optional(),
  steps: z.array(storyLine).describe('In their order'),
  changes_before: z.array(storyLine).describe('Operations in the hour before, newest first'),
  trouble_before: z.array(storyLine).describe('Of TLS and certificates in the hour before, newest first'),
  other_requests: z.int().optional().describe('With the same trace'),
  truncated: z.boolean().optional(),
  hint: z.string().optional(),
});
export type RequestStory = z.output<typeof requestStorySchema>;

export const refusalsSchema = z.object({
  since: timestamp,
  until: timestamp,
  refusals: z
    .array(
      z.object({
        count,
        hostname: z.string().optional(),
        path: z.string().optional(),
        status: z.int().optional(),
        operation: z.string().optional(),
        principal: z.string().optional(),
        client_address: z.string().optional(),
        outcome: z.string(),
        reason: z.string(),
        last: timestamp,
        trace_id: z.string().optional(),
        ids: z.array(z.string()).describe('Records that prove it, three at most'),
      }),
    )
    .describe('Alike ones together, newest first; the other facts are of the last one'),
  changes_before: z
    .array(storyLine)
    .describe('Operations in the hour before the first of them, newest first'),
  truncated: z.boolean().optional(),
  hint: z.string().optional(),
});
export type Refusals = z.output<typeof refusalsSchema>;

export const changesSchema = z.object({
  since: timestamp,
  until: timestamp,
  changes: z.array(storyLine).describe('Operations that went well, reads left out; newest first'),
  trouble: z.array(storyLine).describe('Warnings and errors of the system itself, newest first'),
  truncated: z.boolean().optional(),
  hint: z.string().optional(),
});
export type Changes = z.output<typeof changesSchema>;

export const logLevelSchema = z.object({
  component: z.enum(components),
  level: z.enum(logLevels).describe('Least level that is kept'),
});
export type ComponentLevel = z.output<typeof logLevelSchema>;

export const logLevelListSchema = z.object({ levels: z.array(logLevelSchema) });
