/** What somebody has to know, as whoever notices it says it. */
import { z } from 'zod';

export const alertLevels = ['warn', 'error'] as const;

/** Stable: programs of operators depend on them. */
export const alertCodes = [
  'certificate.expiring',
  'certificate.failing',
  'audit.failing',
  'audit.broken',
  'audit.large',
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
