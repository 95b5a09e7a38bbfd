/** One call of an HTTP API of a provider: bounded in time and size, redirects refused, and no secret in what is told. */
import { type Clock, DAY, SECOND } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { redactText } from '../../../core/redact.ts';
import { cleanText } from '../../../core/untrusted.ts';
import { cancelled } from '../transport.ts';

const CALL_MS = 30 * SECOND;
const MAX_ANSWER_BYTES = 1024 * 1024;
/** Of what a service says about a failure. */
const MAX_QUOTE = 300;
/** When a service asks for patience without a time. */
const USUAL_WAIT_MS = 30 * SECOND;
const TOO_MANY = 429;
const OVERLOADED = 503;

export interface Api {
  /** As it is called in messages. */
  readonly service: string;
  readonly clock: Clock;
  readonly fetch: typeof globalThis.fetch;
}

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface ApiAnswer {
  readonly status: number;
  readonly text: string;
  /** What a Retry-After field asks for (RFC 9110 §10.2.3). */
  readonly retryAfterMs: number | undefined;
}

/** @throws AppError CANCELLED, TIMEOUT, UNAVAILABLE, UPSTREAM_FAILED (redirect, too long), RATE_LIMITED. */
export async function call(api: Api, request: ApiRequest, signal: AbortSignal): Promise<ApiAnswer> {
  if (signal.aborted) throw cancelled(signal);
  const late = new AbortController();
  const timer = api.clock.after(CALL_MS, () => late.abort());
  try {
    const response = await api.fetch(request.url, {
      method: request.method,
      headers: request.headers,
      body: request.body ?? null,
      redirect: 'manual', // A secret goes where the settings say and nowhere else.
      signal: AbortSignal.any([signal, late.signal]),
    });
    const text = await readText(api, response);
    const retryAfterMs = retryAfter(response.headers.get('retry-after'), api.clock.now());
    requireNoRedirect(api, response);
    if (response.status === TOO_MANY || (response.status === OVERLOADED && retryAfterMs !== undefined))
      throw rateLimited(api.service, retryAfterMs);
    return { status: response.status, text, retryAfterMs };
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    if (signal.aborted) throw cancelled(signal);
    if (late.signal.aborted)
      throw new AppError(
        'TIMEOUT',
        `${api.service} did not answer in ${CALL_MS / SECOND} seconds; what was asked may have been done`,
      );
    throw new AppError('UNAVAILABLE', `${api.service} can't be reached (${reasonOf(cause)})`, { cause });
  } finally {
    timer.cancel();
  }
}

export function rateLimited(service: string, waitMs: number | undefined): AppError {
  const retryAfterMs = waitMs ?? USUAL_WAIT_MS;
  return new AppError(
    'RATE_LIMITED',
    `${service} takes no more requests for now; try again in ${Math.ceil(retryAfterMs / SECOND)} seconds`,
    { details: { retry_after_ms: retryAfterMs } },
  );
}

/** What a service said, on its way to whoever has to mend it. */
export const quoted = (text: string): string => {
  const words = cleanText(redactText(text.trim()), MAX_QUOTE);
  return words === '' ? 'without a reason' : JSON.stringify(words);
};

async function readText(api: Api, response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body ?? []) {
    size += part.length;
    if (size > MAX_ANSWER_BYTES)
      throw new AppError(
        'UPSTREAM_FAILED',
        `${api.service} answered with more than ${MAX_ANSWER_BYTES} bytes`,
      );
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

const FIRST_REDIRECT = 300;
const FIRST_ERROR = 400;

function requireNoRedirect({ service }: Api, { status }: Response): void {
  if (status >= FIRST_REDIRECT && status < FIRST_ERROR)
    throw new AppError(
      'UPSTREAM_FAILED',
      `${service} answered with a redirect (${status}), which is not followed; set the final URL`,
    );
}

/** Seconds or a date; at most a day. */
function retryAfter(field: string | null, now: number): number | undefined {
  if (field === null) return undefined;
  const ms = /^\d{1,9}$/.test(field) ? Number(field) * SECOND : Date.parse(field) - now;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), DAY);
}

/** The code of the system or of the library; never its words, which may quote what was sent. */
function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error && 'code' in inner ? cleanText(String(inner.code)) : 'connection failed';
}
