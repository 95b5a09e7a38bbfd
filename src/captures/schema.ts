/** What is told about captured requests. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';

const count = z.int();
const headers = z
  .array(z.string())
  .describe('name: value; credentials, identities and cookies without their values');
const body = z
  .object({
    text: z.string().optional().describe('Its beginning; absent where it is no text'),
    truncated: z.boolean().optional(),
  })
  .optional()
  .describe('Of the body, where that was captured and asked for');

export const capturedRequestSchema = z.object({
  number: count.describe('In this capture, from 1'),
  at: timestamp,
  state: z.enum(['open', 'ended']).describe('open: not over yet, such as a WebSocket'),
  method: z.string(),
  path: z.string(),
  query: z.array(z.string()).optional().describe('Names only'),
  kind: z.string().describe('What it was: proxied, upgrade, mcp, site'),
  protocol: z.enum(['h1', 'h2']).optional(),
  client_address: z.string(),
  trace_id: z.string().optional().describe('explain_request tells more'),
  request_headers: headers,
  request_headers_left_out: count.optional().describe('Fields beyond what is kept'),
  taken_by: z.string().optional().describe('Step of the pipeline that answered or sent it on'),
  tries: z
    .array(
      z.object({
        target: z.string(),
        after_ms: z.number(),
        failed: z.string().optional().describe('Why'),
      }),
    )
    .optional()
    .describe('Upstreams, in the order in which it was sent to them'),
  status: count.optional(),
  upstream_status: count.optional(),
  outcome: z.string().optional().describe('OK or an error code'),
  reason: z.string().optional(),
  response_headers: headers.optional(),
  response_headers_left_out: count.optional(),
  answered_after_ms: z.number().optional().describe('Until the head of the reply'),
  ended_after_ms: z.number().optional(),
  bytes_in: count.optional(),
  bytes_out: count.optional(),
  request_body: body,
  response_body: body,
});
export type CapturedRequest = z.output<typeof capturedRequestSchema>;

export const captureStates = ['running', 'complete', 'expired', 'replaced', 'stopped'] as const;

export const captureSchema = z.object({
  id: z.string(),
  hostname: z.string(),
  state: z
    .enum(captureStates)
    .describe(
      'complete: count was reached; expired: its time was; replaced: by another of this hostname; stopped: by stop_capture',
    ),
  started_at: timestamp,
  ends_at: timestamp.describe('At the latest'),
  count: count.describe('Requests wanted'),
  captured: count.describe('Requests so far'),
  bodies: z.boolean(),
});
export type CaptureFacts = z.output<typeof captureSchema>;

/** Few are kept at a time. */
export const captureListSchema = z.object({ captures: z.array(captureSchema).describe('Newest first') });

export const capturePageSchema = captureSchema.extend({
  requests: z.array(capturedRequestSchema).describe('Oldest first'),
  next_cursor: nextCursorField,
});
export type CapturePage = z.output<typeof capturePageSchema>;
