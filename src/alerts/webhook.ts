/**
 * One message to the operator's own URL, signed. The URL is a setting, and settings are trusted: private networks are
 * allowed, for receivers are there. A redirect is not followed, so that no receiver can have it sent elsewhere, and
 * nothing of an answer is kept but its status.
 * @see {@link https://www.standardwebhooks.com | Standard Webhooks}, whose headers and signature these are
 */
import { createHmac } from 'node:crypto';
import { SECOND } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Channel, ChannelMessage, Fault } from './channel.ts';

const TIMEOUT_MS = 10 * SECOND;
const SECRET_PREFIX = 'whsec_';

export interface Webhook {
  readonly url: string;
  /** `whsec_` and base64, or any text. */
  readonly secret: string;
}

export const webhookChannel = (webhook: Webhook, fetch: typeof globalThis.fetch): Channel => ({
  name: 'webhook',
  send: (message) => sendWebhook(webhook, message, fetch),
});

async function sendWebhook(
  { url, secret }: Webhook,
  { id, body, now, signal }: ChannelMessage,
  fetch: typeof globalThis.fetch,
): Promise<Fault | undefined> {
  const timestamp = String(Math.floor(now / SECOND));
  try {
    const response = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      headers: {
        'content-type': 'application/json',
        'user-agent': 'oauth-https-proxy',
        'webhook-id': id,
        'webhook-timestamp': timestamp,
        'webhook-signature': `v1,${signatureOf(secret, `${id}.${timestamp}.${body}`)}`,
      },
      body,
    });
    await response.body?.cancel();
    return response.ok ? undefined : { why: `the receiver answered ${response.status}` };
  } catch (cause) {
    return { why: faultOf(cause) };
  }
}

function signatureOf(secret: string, signed: string): string {
  const key = secret.startsWith(SECRET_PREFIX)
    ? Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64')
    : Buffer.from(secret);
  return createHmac('sha256', key).update(signed).digest('base64');
}

/** `fetch` says what failed in the cause. Without the URL, which may hold a secret. */
function faultOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const code = inner instanceof Error && 'code' in inner ? String(inner.code) : undefined;
  return (
    code ?? (inner instanceof Error && inner.name === 'TimeoutError' ? 'no answer in time' : messageOf(inner))
  );
}
