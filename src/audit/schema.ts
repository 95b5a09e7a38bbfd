/** What `verify_audit` and `export_audit` answer. */
import { z } from 'zod';

const HASH_LENGTH = 64;
const MAX_HEAD = 90;

/** `1234.` and the hash of record 1234: stands for all records up to it. */
export const headField = z
  .string()
  .max(MAX_HEAD)
  .regex(new RegExp(`^\\d{1,15}\\.[0-9a-f]{${HASH_LENGTH}}$`), 'has to be a head as verify_audit tells it')
  .describe('Number and hash of the last record: keep it elsewhere');

export const verdictSchema = z.object({
  intact: z.boolean(),
  records: z.int().describe('Looked at'),
  from_seq: z.int().optional(),
  to_seq: z.int().optional(),
  fault: z
    .object({
      file: z.string(),
      offset: z.int().describe('Byte in the file'),
      seq: z.int().optional(),
      message: z.string(),
    })
    .optional()
    .describe('The first one'),
  gaps: z
    .array(z.object({ seq: z.int(), time: z.string(), message: z.string() }))
    .describe('Where records were missing at a start'),
  lost_records: z.int().describe('That could not be written, such as on a full disk'),
  head: headField.optional(),
});
export type VerdictTold = z.output<typeof verdictSchema>;

export const exportSchema = z.object({
  ndjson: z.string().describe('Whole lines, byte for byte as they are kept'),
  records: z.int(),
  last_seq: z.int().optional().describe('Pass as after for the next ones; absent: there were none'),
  complete: z.boolean().describe('Whether these are the last ones'),
});
export type Exported = z.output<typeof exportSchema>;
