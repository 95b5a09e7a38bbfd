/**
 * Asks the operator's own service whether a hostname may have a certificate: `GET <url>?domain=<hostname>`, as Caddy
 * asks. Any answer of 2xx is a yes; everything else, silence too, is a no.
 */
import { request } from 'undici';
import { SECOND } from '../core/clock.ts';

/** A handshake waits for it. */
const ASK_MS = 5 * SECOND;
/** @throws when there was no answer. */
export async function mayHave(askUrl: string, hostname: string, signal: AbortSignal): Promise<boolean> {
  const url = new URL(askUrl);
  url.searchParams.set('domain', hostname);
  // undici follows no redirect by itself: the answer is that of the service that the operator named.
  const { statusCode, body } = await request(url, {
    method: 'GET',
    headersTimeout: ASK_MS,
    reset: true,
    signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]),
  });
  // Only the status counts, so that a body that stalls, or never ends, is not waited for: what it fails with is nothing.
  body.on('error', () => undefined).destroy();
  return statusCode >= 200 && statusCode < 300;
}
