/** One request while it is captured. Everything is made fit to be shown as it is told; nothing raw is kept but the beginnings of bodies, until the request ends. */
import type { Arrived, Ended, Recording } from '../core/capture.ts';
import { cleanText } from '../core/untrusted.ts';
import type { CapturedRequest } from './schema.ts';
import {
  type Head,
  isText,
  queryNames,
  shownBody,
  shownHead,
  shownPath,
  shownReason,
  shownUrl,
} from './shown.ts';

/** Kept of one body. */
const BODY_BYTES = 2048;
const MAX_TRIES = 4;
const MAX_WORD = 32;
/** The kind of request whose bodies are of others: what is for this system holds credentials and is never kept. */
const OF_OTHERS = 'proxied';

/** Beginning of a body. */
class Beginning {
  readonly #parts: Uint8Array[] = [];
  #bytes = 0;
  isCut = false;

  add(chunk: Uint8Array): void {
    const room = BODY_BYTES - this.#bytes;
    if (chunk.length > room) this.isCut = true;
    if (room === 0) return;
    // A copy: the chunk is a part of a buffer that the engine uses again.
    const kept = Uint8Array.from(chunk.subarray(0, room));
    this.#bytes += kept.length;
    this.#parts.push(kept);
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

interface Body {
  readonly text?: string;
  readonly truncated?: boolean;
}

interface Reply {
  readonly status: number;
  readonly head: Head;
  readonly afterMs: number;
  readonly isText: boolean;
}

export class CapturedExchange implements Recording {
  readonly hearsBodies: boolean;
  readonly #now: () => number;
  readonly #startedAt: number;
  readonly #arrived: CapturedRequest;
  readonly #isText: boolean;
  readonly #tries: { target: string; after_ms: number; failed?: string }[] = [];
  readonly #sent = new Beginning();
  readonly #got = new Beginning();
  #takenBy: string | undefined;
  #reply: Reply | undefined;
  #end: Partial<CapturedRequest> | undefined;
  #bodies: { request_body?: Body; response_body?: Body } = {};

  constructor(
    request: Arrived,
    { number, bodies, now }: { number: number; bodies: boolean; now: () => number },
  ) {
    const { lines, leftOut } = shownHead(request.rawHeaders);
    const names = queryNames(request.query);
    const kind = request.kind ?? 'refused';
    this.hearsBodies = bodies && kind === OF_OTHERS;
    this.#now = now;
    this.#startedAt = request.startedAt;
    this.#isText = this.hearsBodies && isText(request.rawHeaders);
    this.#arrived = {
      number,
      at: new Date(request.startedAt).toISOString(),
      state: 'open',
      method: cleanText(request.method, MAX_WORD),
      path: shownPath(request.path),
      ...(names.length > 0 && { query: names }),
      kind,
      client_address: request.clientAddress,
      request_headers: lines,
      ...(leftOut > 0 && { request_headers_left_out: leftOut }),
    };
  }

  takenBy(name: string): void {
    this.#takenBy = name;
  }

  tried(url: string): void {
    if (this.#tries.length < MAX_TRIES)
      this.#tries.push({ target: shownUrl(url), after_ms: this.#sinceStart() });
  }

  failed(reason: string): void {
    const last = this.#tries.at(-1);
    if (last) last.failed ??= shownReason(reason);
  }

  answered(status: number, fields: readonly string[]): void {
    const { hearsBodies } = this;
    this.#reply = {
      status,
      head: shownHead(fields),
      afterMs: this.#sinceStart(),
      isText: hearsBodies && isText(fields),
    };
  }

  requestPart(chunk: Uint8Array): void {
    if (this.#isText && !this.#end) this.#sent.add(chunk);
  }

  responsePart(chunk: Uint8Array): void {
    if (this.#reply?.isText && !this.#end) this.#got.add(chunk);
  }

  ended({ status, upstreamStatus, outcome, reason, protocol, traceId, bytesIn, bytesOut }: Ended): void {
    if (this.#end) return;
    this.#end = {
      state: 'ended',
      protocol,
      trace_id: traceId,
      ...(status > 0 && { status }),
      ...(upstreamStatus > 0 && { upstream_status: upstreamStatus }),
      outcome,
      ...(reason !== undefined && { reason: shownReason(reason) }),
      ended_after_ms: this.#sinceStart(),
      bytes_in: bytesIn,
      bytes_out: bytesOut,
    };
    if (this.hearsBodies) this.#keepBodies(bytesIn, bytesOut);
  }

  #keepBodies(bytesIn: number, bytesOut: number): void {
    const body = (isKept: boolean, beginning: Beginning): Body =>
      isKept
        ? { text: shownBody(beginning.bytes, beginning.isCut), ...(beginning.isCut && { truncated: true }) }
        : {};
    this.#bodies = {
      ...(bytesIn > 0 && { request_body: body(this.#isText, this.#sent) }),
      ...(bytesOut > 0 && { response_body: body(this.#reply?.isText === true, this.#got) }),
    };
  }

  shown(withBodies: boolean): CapturedRequest {
    return {
      ...this.#arrived,
      ...(this.#takenBy !== undefined && { taken_by: this.#takenBy }),
      ...(this.#tries.length > 0 && { tries: this.#tries.map((one) => ({ ...one })) }),
      ...replyFacts(this.#reply),
      ...this.#end,
      ...(withBodies && this.#bodies),
    };
  }

  #sinceStart(): number {
    return Math.max(0, this.#now() - this.#startedAt);
  }
}

function replyFacts(reply: Reply | undefined): Partial<CapturedRequest> {
  if (!reply) return {};
  const { status, head, afterMs } = reply;
  return {
    status,
    response_headers: head.lines,
    ...(head.leftOut > 0 && { response_headers_left_out: head.leftOut }),
    answered_after_ms: afterMs,
  };
}
