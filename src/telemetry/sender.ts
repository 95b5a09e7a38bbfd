/**
 * Requests to the collector: one POST at a time for each signal, repeated where the collector says that it may be, with
 * the time that it asks for. Says what became of what was sent, and never throws. Nothing that the collector writes is
 * kept but numbers and its status.
 * @see {@link https://opentelemetry.io/docs/specs/otlp/#otlphttp | OTLP 1.x, OTLP/HTTP}
 */
import { type Clock, MINUTE, pause, SECOND } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import type { OtlpSettings, Signal } from './settings.ts';

/** A request is repeated for so long, besides what the collector asks for; after that what is in it is lost, and the next one has its turn. */
const RETRY_MS = 30 * SECOND;
/** A collector that asks for more is asked again all the same. */
const MAX_ASKED_MS = 5 * MINUTE;
const FIRST_PAUSE_MS = SECOND;
const MAX_PAUSE_MS = 8 * SECOND;
const PAUSE_FACTOR = 2;
const HALF = 0.5;
const MAX_REPLY_BYTES = 65_536;
const MAX_PROBLEM = 200;
/** @see OTLP, Retryable Response Codes */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

export interface SenderParts {
  readonly settings: Pick<OtlpSettings, 'endpoint' | 'headers' | 'timeoutMs'>;
  readonly clock: Clock;
  readonly fetch: typeof globalThis.fetch;
  /** Between 0 and 1. */
  readonly random: () => number;
  /** Something did not arrive, and is sent again or given up. */
  readonly troubled: (signal: Signal, problem: string) => void;
}

/** `problem`: undefined when all of it arrived. `reply`: body of a good answer, which may say that a part was not taken. */
export type Sent =
  | { readonly ok: true; readonly reply: Uint8Array }
  | { readonly ok: false; readonly problem: string };

interface Failed {
  readonly problem: string;
  /** Undefined: it is of no use to send it again. */
  readonly again: { readonly afterMs: number | undefined } | undefined;
}

export class Sender {
  readonly #parts: SenderParts;
  /** Aborts when nothing is waited for any more: what is under way is finished, and nothing is repeated. */
  readonly #hurry = new AbortController();
  readonly #end = new AbortController();

  constructor(parts: SenderParts) {
    this.#parts = parts;
  }

  async send(signal: Signal, body: Uint8Array): Promise<Sent> {
    const { clock, random, troubled } = this.#parts;
    let until = clock.now() + RETRY_MS;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(PAUSE_FACTOR * pauseMs, MAX_PAUSE_MS)) {
      const sent = await this.#once(signal, body);
      if ('ok' in sent) return sent;
      const { problem, again } = sent;
      troubled(signal, problem);
      const asked = again?.afterMs === undefined ? undefined : Math.min(again.afterMs, MAX_ASKED_MS);
      const waitMs = asked ?? pauseMs * (HALF + random() * HALF);
      until += asked ?? 0;
      const isLast = !again || this.#hurry.signal.aborted || clock.now() + waitMs > until;
      if (isLast) return { ok: false, problem };
      await pause(clock, waitMs, this.#hurry.signal);
      if (this.#hurry.signal.aborted) return { ok: false, problem };
    }
  }

  /** From now on nothing is repeated. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** What is under way ends now. */
  stop(): void {
    this.#hurry.abort();
    this.#end.abort();
  }

  async #once(signal: Signal, body: Uint8Array): Promise<Sent | Failed> {
    const { settings, fetch } = this.#parts;
    const { endpoint, headers, timeoutMs } = settings;
    try {
      const response = await fetch(`${endpoint.replace(/\/$/, '')}/v1/${signal}`, {
        method: 'POST',
        redirect: 'manual',
        signal: AbortSignal.any([this.#end.signal, AbortSignal.timeout(timeoutMs)]),
        headers: { 'user-agent': 'oauth-https-proxy', ...headers, 'content-type': 'application/x-protobuf' },
        // Typed for buffers that are not shared, which these are.
        body: body as Uint8Array<ArrayBuffer>,
      });
      return await outcomeOf(response, this.#parts.clock.now());
    } catch (cause) {
      return { problem: problemOf(cause), again: { afterMs: undefined } };
    }
  }
}

async function outcomeOf(response: Response, now: number): Promise<Sent | Failed> {
  const { status, headers } = response;
  if (status === 200) return { ok: true, reply: await bytesOf(response) };
  await response.body?.cancel();
  const problem = `the collector answered ${status}`;
  return { problem, again: RETRYABLE.has(status) ? { afterMs: retryAfter(headers, now) } : undefined };
}

/** More than an answer has to say is not read, and counts as none. */
async function bytesOf({ body }: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    length += chunk.length;
    if (length > MAX_REPLY_BYTES) return new Uint8Array();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3 | RFC 9110 §10.2.3} */
function retryAfter(headers: Headers, now: number): number | undefined {
  const text = headers.get('retry-after');
  if (text === null) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * SECOND : Date.parse(text) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** `fetch` says what failed in the cause. */
function problemOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  if (inner instanceof Error && inner.name === 'TimeoutError') return 'no answer in time';
  const code = inner instanceof Error && 'code' in inner ? inner.code : undefined;
  return typeof code === 'string' ? code : cleanText(messageOf(inner), MAX_PROBLEM);
}
