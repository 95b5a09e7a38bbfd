/** What somebody has to know, as whoever notices it says it, and as it is told. */
import { z } from 'zod';
import { cursorField, limitField, nextCursorField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { channelNames } from './channel.ts';

export const alertLevels = ['warn', 'error'] as const;

/** Stable: programs of operators depend on them. */
export const alertCodes = [
  'certificate.expiring',
  'certificate.failing',
  'audit.failing',
  'audit.broken',
  'audit.large',
  'requests.failing',
  'requests.slow',
  'access.refused',
  'targets.down',
  'disk.low',
  'log.dropping',
  'publication.left',
  'alerts.left_out',
] as const;

export const alertSchema = z.object({
  /** Of one cause, and never of another: raised once, whatever is restarted. */
  key: z.string(),
  /** Rises when it gets worse. Each stage is told once. */
  stage: z.int(),
  code: z.enum(alertCodes),
  level: z.enum(alertLevels),
  /** For people: what is wrong, and what to do. Without secrets, for it leaves the system. */
  summary: z.string(),
  hostname: z.string().optional(),
  /** What the log is told in place of the summary: of each hostname apart, for whoever is confined to one reads it there. */
  lines: z.array(z.object({ hostname: z.string(), summary: z.string() })).optional(),
  /** For programs. */
  facts: z.record(z.string(), z.unknown()),
});
export type Alert = z.output<typeof alertSchema>;

const MAX_ID = 64;

export const acknowledgementSchema = z.object({
  by: z.string(),
  at: timestamp,
  note: z.string().optional(),
  /** It is of this stage: when it gets worse, nobody has seen that yet. */
  stage: z.int(),
});
export type Acknowledgement = z.output<typeof acknowledgementSchema>;

export const alertStates = ['active', 'resolved', 'all'] as const;

export const shownAlertSchema = z.object({
  id: z.string(),
  state: z.enum(['active', 'resolved']),
  code: z.enum(alertCodes),
  level: z.enum(alertLevels),
  stage: z.int(),
  summary: z.string(),
  hostnames: z.array(z.string()).optional().describe('Absent: it is about none in particular'),
  since: timestamp,
  resolved_at: timestamp.optional(),
  acknowledged: acknowledgementSchema.optional(),
  facts: z.record(z.string(), z.unknown()),
});
export type ShownAlert = z.output<typeof shownAlertSchema>;

export const listAlertsInput = z.object({
  state: z.enum(alertStates).default('active').describe('resolved: those of the last day'),
  hostname: hostname.optional().describe('About this hostname, or below *.example.com'),
  limit: limitField,
  cursor: cursorField,
});

export const alertPageSchema = z.object({
  alerts: z.array(shownAlertSchema),
  next_cursor: nextCursorField,
});
export type AlertPage = z.output<typeof alertPageSchema>;

export const acknowledgeInput = z.object({
  id: z.string().min(1).max(MAX_ID).describe('As list_alerts tells it'),
  note: z.string().min(1).max(limits.shortText).optional().describe('For others, such as who works on it'),
});

export const testAlertInput = z.object({
  channel: z.enum(channelNames).optional().describe('Absent: every one that is set up'),
});

export const testResultSchema = z.object({
  channels: z.array(
    z.object({
      channel: z.enum(channelNames),
      delivered: z.boolean(),
      problem: z.string().optional(),
    }),
  ),
});
export type TestResult = z.output<typeof testResultSchema>;
