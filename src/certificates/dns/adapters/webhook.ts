/** A service of the operator's own: one POST for each change, JSON, idempotent by contract (see the guide). */
import type { Clock } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import type { DnsProvider, TxtRecord } from '../provider.ts';
import type { SettingsOf } from '../schema.ts';
import type { ReadSecret } from '../secret.ts';
import { call, quoted } from './api.ts';

const FIRST_SUCCESS = 200;
const FIRST_REDIRECT = 300;
const UNAUTHORISED = new Set([401, 403]);

export interface WebhookParts {
  readonly clock: Clock;
  readonly fetch: typeof globalThis.fetch;
  readonly readSecret: ReadSecret;
}

export function createWebhook(settings: SettingsOf<'webhook'>, parts: WebhookParts): DnsProvider {
  const service = `the webhook at ${new URL(settings.url).host}`;

  async function send(action: 'publish' | 'withdraw', record: TxtRecord, signal: AbortSignal): Promise<void> {
    const { name, value, zone } = record;
    const secret = settings.secret && (await parts.readSecret(settings.secret, 'secret (webhook)'));
    const { status, text } = await call(
      { service, clock: parts.clock, fetch: parts.fetch },
      {
        method: 'POST',
        url: settings.url,
        headers: {
          'content-type': 'application/json',
          ...(secret !== undefined && { authorization: `Bearer ${secret}` }),
        },
        body: JSON.stringify({ action, name, value, zone }),
      },
      signal,
    );
    if (status >= FIRST_SUCCESS && status < FIRST_REDIRECT) return;
    const said = secret === undefined ? text : text.replaceAll(secret, '[redacted]');
    const hint = UNAUTHORISED.has(status) ? '; check the secret of the webhook' : '';
    throw new AppError('UPSTREAM_FAILED', `${service} answered ${status} (${quoted(said)})${hint}`);
  }

  return {
    publish: (record, signal) => send('publish', record, signal),
    withdraw: (record, signal) => send('withdraw', record, signal),
  };
}
