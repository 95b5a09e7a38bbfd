/** What alerts there are, and whom they are told. */
import { z } from 'zod';
import { rulesSchema } from '../alerts/rules/schema.ts';
import { isServiceUrl } from '../core/dial.ts';
import { smtpSchema } from './smtp.ts';

const MAX_TEXT = 500;
const MAX_URL = 2000;
const MAX_REMIND_HOURS = 720;

const SECRET_PREFIX = 'whsec_';
const MIN_KEY_BYTES = 24;
const MAX_KEY_BYTES = 64;

/**
 * Why a text can't be the secret; undefined when it can.
 * @see {@link https://www.standardwebhooks.com | Standard Webhooks}: behind `whsec_` are 24 to 64 bytes in base64
 */
export function webhookSecretFault(secret: string): string | undefined {
  if (!/^[\x21-\x7e]{16,500}$/.test(secret))
    return 'has to be 16 to 500 characters of printable ASCII without spaces';
  if (!secret.startsWith(SECRET_PREFIX)) return undefined;
  const text = secret.slice(SECRET_PREFIX.length);
  const key = Buffer.from(text, 'base64');
  const isStrict = key.toString('base64') === text;
  return isStrict && key.length >= MIN_KEY_BYTES && key.length <= MAX_KEY_BYTES
    ? undefined
    : `has to be ${SECRET_PREFIX} and ${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} bytes in base64, or any text that does not begin so`;
}

export const alertsSchema = z
  .strictObject({
    webhook_url: z
      .string()
      .max(MAX_URL)
      .refine(isServiceUrl, 'has to be an https or http URL without credentials, and no link-local address')
      .optional()
      // Receivers put tokens into it.
      .meta({ secret: true })
      .describe(
        'Alerts are sent there by POST as JSON (Standard Webhooks); absent: they are in the log only',
      ),
    webhook_secret: z
      .string()
      .superRefine((secret, context) => {
        const fault = webhookSecretFault(secret);
        if (fault !== undefined) context.addIssue(fault);
      })
      .optional()
      .meta({ secret: true })
      .describe(
        'Signs what is sent there (HMAC-SHA256): whsec_ and base64, or any text; better: webhook_secret_file',
      ),
    webhook_secret_file: z
      .string()
      .min(1)
      .max(MAX_TEXT)
      .optional()
      .describe('File that holds the secret and nothing else'),
    smtp: smtpSchema.optional().describe('Alerts are sent by e-mail as well; absent: they are not'),
    remind_after_hours: z
      .int()
      .min(1)
      .max(MAX_REMIND_HOURS)
      .optional()
      .describe('Tells what lasts again after so long, unless it was acknowledged; absent: never'),
    rules: rulesSchema.describe('What is told besides what is watched without a word (defaults)'),
    defaults: z
      .strictObject({
        certificates: z
          .boolean()
          .default(true)
          .describe('Certificates in use that near their end, and orders that fail for good'),
        disk: z.boolean().default(true).describe('Less than 1 GiB (disk-low) or 64 MiB (disk-full) free'),
        dropped_records: z.boolean().default(true).describe('Log records that were lost (records-lost)'),
      })
      .prefault({})
      .describe('What is watched without a rule; a rule of the same name takes the place of one of these'),
  })
  .check(({ value, issues }) => {
    const secrets = [value.webhook_secret, value.webhook_secret_file].filter(
      (one) => one !== undefined,
    ).length;
    if (secrets !== (value.webhook_url === undefined ? 0 : 1))
      issues.push({
        code: 'custom',
        input: value,
        path: ['webhook_url'],
        message: 'needs exactly one of webhook_secret_file and webhook_secret beside it, and they need it',
      });
  })
  .prefault({});
