/** Proving the audit trail, and carrying it away. What it says is asked by get_logs with kind audit. */
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';
import { parseTime } from '../logs/time-range.ts';
import { exportSchema, headField, verdictSchema } from './schema.ts';
import type { AuditService } from './service.ts';

const MAX_TIME = 40;
const MAX_RECORDS = 1000;

interface Services {
  audit: AuditService;
}

/** What is in it, get_logs shows to the same principals. */
const common = {
  permission: 'logs:read',
  confinement: 'refused',
  effect: 'read',
  toolset: 'logs',
} as const;

const time = z.string().min(1).max(MAX_TIME).optional();

/** @throws AppError INVALID_INPUT. */
function spanOf({ since, until }: { since?: string | undefined; until?: string | undefined }, now: number) {
  return {
    since: since === undefined ? undefined : parseTime('since', since, now),
    until: until === undefined ? undefined : parseTime('until', until, now),
  };
}

export const verifyAudit = defineOperation({
  ...common,
  name: 'verify_audit',
  title: 'Verify the audit trail',
  description:
    'Checks that no record of the audit trail was changed, removed, added or moved, and tells the first fault and where. Its head, kept elsewhere and given back as known_head, proves that all of it was not written anew.',
  mcp: 'searchable',
  task: true,
  http: { method: 'GET', path: '/v1/audit-verification' },
  input: z.object({
    since: time.describe('Days from this one on: RFC 3339, or how long ago: 7d'),
    until: time.describe('Days up to this one'),
    known_head: headField.optional().describe('A head of before: that record has to be there, unchanged'),
  }),
  output: verdictSchema,
  handler: ({ known_head: known, ...span }, context, { audit }: Services) =>
    audit.verify({ ...spanOf(span, audit.now()), known }, context),
});

export const exportAudit = defineOperation({
  ...common,
  name: 'export_audit',
  title: 'Export the audit trail',
  description:
    'Gives out records of the audit trail as they are kept, oldest first: NDJSON whose hashes anybody can compute. Not over MCP: get_logs with kind audit shows them to models.',
  mcp: 'never',
  // Names and paths that strangers sent are in it.
  untrusted: true,
  http: { method: 'GET', path: '/v1/audit-records' },
  input: z.object({
    after: z.int().min(0).optional().describe('Records behind this number: last_seq of the page before'),
    since: time.describe('From then on: RFC 3339, or how long ago: 7d'),
    until: time.describe('As since; not included'),
    limit: z.int().min(1).max(MAX_RECORDS).default(MAX_RECORDS).describe('Records of a page'),
  }),
  output: exportSchema,
  document: ({ ndjson }) => ndjson,
  handler: ({ after, limit, ...span }, _context, { audit }: Services) =>
    audit.export({ ...spanOf(span, audit.now()), after, limit }),
});

export const auditOperations = [verifyAudit, exportAudit] as const;
