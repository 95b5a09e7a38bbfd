/** What is sent of an alert: one JSON text, the same by every channel. Written by `service.ts`, read by `mail.ts`. */
import { z } from 'zod';
import type { Alert } from './schema.ts';

export type Status = 'raised' | 'resolved' | 'reminder';

export const TEST_TYPE = 'alert.test';

export const messageSchema = z.object({
  type: z.string(),
  timestamp: z.string(),
  data: z.looseObject({
    status: z.string(),
    level: z.string(),
    summary: z.string(),
    hostname: z.string().optional(),
  }),
});
export type Message = z.output<typeof messageSchema>;

export function bodyOf({ code, level, summary, hostname, facts }: Alert, status: Status, at: number): string {
  const data = { status, level, summary, ...(hostname !== undefined && { hostname }), ...facts };
  return JSON.stringify({ type: code, timestamp: new Date(at).toISOString(), data });
}

export function testBody(by: string, at: number): string {
  const data = { status: 'test', level: 'warn', summary: `a test, asked for by ${by}; nothing is wrong` };
  return JSON.stringify({ type: TEST_TYPE, timestamp: new Date(at).toISOString(), data });
}
