/**
 * Fetches from one provider. Its own host may be on a private network: the operator wrote it. What its documents name
 * besides has to be public, is asked by HTTPS, and every answer has to come soon and be small.
 */
import type { CustomFetchOptions } from 'openid-client';
import { type Clock, SECOND } from '../../core/clock.ts';
import { createSafeFetch, type SafeFetchOptions } from '../safe-fetch.ts';

/** From the request to the last byte of the answer. */
export const ANSWER_MS = 10 * SECOND;
const KIB = 1024;
/** A hundred organizations of GitHub are a quarter of it. */
export const MAX_ANSWER_BYTES = 1024 * KIB;

export type UpstreamFetch = (url: string, options: Partial<CustomFetchOptions>) => Promise<Response>;

export function createUpstreamFetch(
  issuer: string,
  clock: Clock,
  overrides: Pick<SafeFetchOptions, 'authorities' | 'resolve'> = {},
): UpstreamFetch & AsyncDisposable {
  const { hostname, origin, protocol } = new URL(issuer);
  const safeFetch = createSafeFetch({
    ...overrides,
    privateHosts: [hostname.replace(/^\[|\]$/g, '')],
    // On this machine only, as the settings have made sure.
    plainOrigins: protocol === 'http:' ? [origin] : [],
  });
  const inBounds: UpstreamFetch = async (url, { signal, body, ...options }) => {
    const tooSlow = new AbortController();
    const timer = clock.after(ANSWER_MS, () => tooSlow.abort(new Error(`no answer in ${ANSWER_MS} ms`)));
    try {
      const response = await safeFetch(url, {
        ...options,
        ...(body != null && { body }),
        signal: AbortSignal.any([tooSlow.signal, ...(signal ? [signal] : [])]),
      });
      const whole = await readWhole(response);
      const { status, headers } = response;
      return new Response(whole.length === 0 ? null : whole, { status, headers: [...headers] });
    } finally {
      timer.cancel();
    }
  };
  return Object.assign(inBounds, { [Symbol.asyncDispose]: () => safeFetch[Symbol.asyncDispose]() });
}

async function readWhole({ body }: Response): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new Error(`the answer has more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Uint8Array.from(Buffer.concat(chunks));
}
