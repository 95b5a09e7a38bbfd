/** Whom alerts are told. */
import { z } from 'zod';

const MAX_TEXT = 500;
const MAX_URL = 2000;

/** Where a message of ours may go: to anywhere of the operator's choice but where clouds keep credentials. */
function isWebhook(text: string): boolean {
  const url = URL.parse(text);
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) return false;
  if (url.username !== '' || url.password !== '' || url.hash !== '') return false;
  return !/^(?:169\.254\.|\[fe[89ab])/.test(url.hostname);
}

export const alertsSchema = z
  .strictObject({
    webhook_url: z
      .string()
      .max(MAX_URL)
      .refine(isWebhook, 'has to be an https or http URL without credentials, and no link-local address')
      .optional()
      .describe(
        'Alerts are sent there by POST as JSON (Standard Webhooks); absent: they are in the log only',
      ),
    webhook_secret: z
      .string()
      .regex(/^[\x21-\x7e]{16,500}$/, 'has to be 16 to 500 characters of printable ASCII without spaces')
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
