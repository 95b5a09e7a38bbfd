/**
 * Fetches from one provider. Its own host may be on a private network: the operator wrote it. What its documents name
 * besides has to be public, is asked by HTTPS, and every answer has to come soon and be small.
 */
import type { CustomFetchOptions } from 'openid-client';
import { type Clock, SECOND } from '../../core/clock.ts';
import { AddressRefused, createSafeFetch, type SafeFetchOptions } from '../safe-fetch.ts';

/** From the request to the last byte of the answer. */
export const ANSWER_MS = 10 * SECOND;
const KIB = 1024;
/** A hundred organizations of GitHub are a quarter of it. */
export const MAX_ANSWER_BYTES = 1024 * KIB;

export type UpstreamFetch = (url: string, options: Partial<CustomFetchOptions>) => Promise<Response>;

/** Nothing came, or not all of it, or too late. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer';
}

class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

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
    } catch (cause) {
      throw isRefusal(cause) ? cause : new NoAnswer('no answer', { cause });
    } finally {
      timer.cancel();
    }
  };
  return Object.assign(inBounds, { [Symbol.asyncDispose]: () => safeFetch[Symbol.asyncDispose]() });
}

/** Of ours: of an address, or of a size. */
function isRefusal(cause: unknown): boolean {
  const inner = cause instanceof Error ? cause.cause : undefined;
  return [cause, inner].some((one) => one instanceof AddressRefused || one instanceof TooLarge);
}

async function readWhole({ body }: Response): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new TooLarge(`the answer has more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Uint8Array.from(Buffer.concat(chunks));
}
