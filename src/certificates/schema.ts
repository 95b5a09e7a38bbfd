/** What is told about a certificate. The private key is in one of these shapes: that of its export. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { revocationReasons } from './acme/revocation-reason.ts';
import { orderSchema } from './order-schema.ts';

export const certificateSchema = z.object({
  id: z.string(),
  names: z.array(z.string()).describe('Hostnames it is valid for'),
  issuer: z.string(),
  not_before: timestamp,
  not_after: timestamp,
  created_at: timestamp.optional().describe('When it came here'),
  source: z.enum(['internal', 'imported', 'acme']),
  revoking: z
    .enum(revocationReasons)
    .optional()
    .describe('Not served any more: its CA is asked to revoke it, for this reason, and then it is deleted'),
  serial: z.string(),
  fingerprint_sha256: z.string(),
  version: z.int(),
});
export type Certificate = z.output<typeof certificateSchema>;

export const listedCertificateSchema = certificateSchema.extend({
  used_by: z.array(z.string()).describe('Hostnames that are served with it (the first 100)'),
  alert: z
    .object({ code: z.string(), level: z.enum(['warn', 'error']), threshold_days: z.int() })
    .optional()
    .describe('In use and near its end: 14, 7, 3 or 1 days, less for one of a shorter life'),
});
export type ListedCertificate = z.output<typeof listedCertificateSchema>;

export const toldCertificateSchema = listedCertificateSchema.extend({
  renews_at: timestamp.optional().describe('Of one that was ordered from a CA'),
  order: orderSchema.optional().describe('By which it came'),
});
export type ToldCertificate = z.output<typeof toldCertificateSchema>;

/** The one answer that has a private key. */
export const exportedCertificateSchema = z.object({
  id: z.string(),
  names: z.array(z.string()),
  not_after: timestamp,
  fingerprint_sha256: z.string(),
  chain_pem: z.string().describe('The certificate and its intermediates, leaf first'),
  private_key_pem: z.string().describe('PKCS#8, not encrypted'),
});

export const certificateListSchema = z.object({
  certificates: z.array(listedCertificateSchema),
  next_cursor: nextCursorField,
});
