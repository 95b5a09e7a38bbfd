/**
 * Asks the operator's own service whether a hostname may have a certificate: `GET <url>?domain=<hostname>`, as Caddy
 * asks. Any answer of 2xx is a yes; everything else, silence too, is a no.
 */
import { SECOND } from '../core/clock.ts';

/** A handshake waits for it. */
const ASK_MS = 5 * SECOND;
/** `fetch`: follows no redirect, so that the answer is that of the service that the operator named. @throws when there was no answer. */
export async function mayHave(
  askUrl: string,
  hostname: string,
  { fetch, signal }: { fetch: typeof globalThis.fetch; signal: AbortSignal },
): Promise<boolean> {
  const url = new URL(askUrl);
  url.searchParams.set('domain', hostname);
  const { ok, body } = await fetch(url, {
    redirect: 'manual',
    signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]),
  });
  // Only the status counts, so that a body that stalls, or never ends, is not waited for.
  await body?.cancel();
  return ok;
}
