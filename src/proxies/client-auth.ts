/** Whether clients of a hostname have to show a certificate, and of whom. Checked on write and again on read. */
import { z } from 'zod';

const MAX_AUTHORITIES_PEM = 131_072;
/** Within what a request to the control plane may hold. */
const MAX_LISTS_PEM = 786_432;

const trust = z.strictObject({
  mode: z
    .enum(['optional', 'require'])
    .describe('optional: who shows none gets through, without identity; a bad one is refused'),
  ca_pem: z
    .string()
    .min(1)
    .max(MAX_AUTHORITIES_PEM)
    .describe('PEM of the CAs to trust, 20 at most, each with those above it'),
  crl_pem: z
    .string()
    .min(1)
    .max(MAX_LISTS_PEM)
    .optional()
    .describe(
      'PEM of revocation lists, one of each CA; when one is over, nobody gets in. To keep them, send them again',
    ),
  pass_identity: z
    .boolean()
    .default(false)
    .describe('Tell the target: Client-Cert (RFC 9440), X-Client-Cert-Subject, -San, -Fingerprint'),
});

/** TLS client certificates. Texts, never paths: a caller may not read files of this machine. */
export const clientAuth = z.discriminatedUnion('mode', [z.strictObject({ mode: z.literal('off') }), trust]);
export type ClientAuth = z.output<typeof clientAuth>;

/** Whose certificates count. */
export type ClientTrust = z.output<typeof trust>;

/** What is trusted, or why it can't be: told by `get_proxy`. */
export const clientAuthFacts = z.object({
  problem: z.string().nullable().describe('Why nobody gets in; null: nothing'),
  authorities: z.array(
    z.object({ subject: z.string(), not_after: z.string(), fingerprint_sha256: z.string() }),
  ),
  revocation_lists: z.array(z.object({ issuer: z.string(), next_update: z.string(), revoked: z.int() })),
});
export type ClientAuthFacts = z.output<typeof clientAuthFacts>;
