/**
 * The directory: where a CA does what, and what it asks for.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.1.1 | RFC 8555 §7.1.1}
 */
import { z } from 'zod';
import { readJson, requireSuccess } from './reply.ts';
import type { Reply } from './transport.ts';

const MAX_URL = 2_048;
const MAX_TEXT = 4_096;
const MAX_CAA_IDENTITIES = 100;

const url = z.url({ protocol: /^https$/ }).max(MAX_URL);
/** For a person (Pebble has its terms in the URL itself); one that makes no sense is as if it were not there. */
const page = z
  .url({ protocol: /^(?:https?|data)$/ })
  .max(MAX_URL)
  .optional()
  .catch(undefined);

const metaSchema = z.object({
  termsOfService: page,
  website: page,
  caaIdentities: z.array(z.string().max(MAX_TEXT)).max(MAX_CAA_IDENTITIES).default([]),
  externalAccountRequired: z.boolean().default(false),
  /** Name → what it is, as text or URL. @see draft-ietf-acme-profiles §3 */
  profiles: z.record(z.string().max(MAX_TEXT), z.string().max(MAX_TEXT)).default({}),
});

const directorySchema = z.object({
  newNonce: url,
  newAccount: url,
  newOrder: url,
  revokeCert: url,
  keyChange: url,
  /** @see RFC 9773 §3; absent: the CA has none. */
  renewalInfo: url.optional(),
  meta: metaSchema.default(metaSchema.parse({})),
});
export type Directory = z.output<typeof directorySchema>;

export const readDirectory = (reply: Reply): Directory => readJson(requireSuccess(reply), directorySchema);
