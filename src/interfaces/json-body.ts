/**
 * The body of a request of the control plane, from bytes to one JSON value, once: size, encoding, depth and the number
 * of values are checked before anything is decided on it. REST and MCP use it, and word the refusals in their own ways.
 */
import { isUtf8 } from 'node:buffer';
import { AppError } from '../core/errors.ts';
import type { Exchange } from '../core/exchange.ts';
import { limits } from '../core/limits.ts';

export type Body =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'too-large' }
  /** The gate ended it and says why; its answer may be on the way already. */
  | { readonly kind: 'refused'; readonly error: AppError }
  | { readonly kind: 'gone' };

/** Reads at most `limits.controlBodyBytes`; what a client declared as its length is not believed. */
export function readBody({ body }: Pick<Exchange, 'body'>): Promise<Body> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (outcome: Body) => {
      // What comes after the limit is not read here; the connection's owner drops it.
      body.off('data', onData).off('end', onEnd).off('error', onError).off('close', onGone).pause();
      resolve(outcome);
    };
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limits.controlBodyBytes) chunks.push(chunk);
      else finish({ kind: 'too-large' });
    };
    const onEnd = () => {
      const [first] = chunks;
      finish({ kind: 'bytes', bytes: chunks.length === 1 && first ? first : Buffer.concat(chunks, size) });
    };
    const onError = (error: unknown) =>
      finish(error instanceof AppError ? { kind: 'refused', error } : { kind: 'gone' });
    const onGone = () => finish({ kind: 'gone' });
    if (body.readableEnded) return onEnd();
    if (body.destroyed) return body.errored ? onError(body.errored) : onGone();
    body.on('data', onData).on('end', onEnd).on('error', onError).on('close', onGone);
  });
}

export type Parsed =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly message: string };

/**
 * A byte order mark is no JSON (RFC 8259 §8.1). Of duplicate names the last one counts (§4), for every decision
 * alike, because there is only this one parsed value.
 */
export function parseJson(bytes: Buffer): Parsed {
  if (!isUtf8(bytes)) return { ok: false, message: 'the body is not UTF-8' };
  const text = bytes.toString('utf8');
  const excess = excessOf(text);
  if (excess !== undefined) return { ok: false, message: `the body ${excess}` };
  try {
    return { ok: true, value: JSON.parse(text) as unknown };
  } catch {
    return { ok: false, message: 'the body has to be JSON' };
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** By depth. One for all, since nothing is awaited while it is counted. */
const commas = new Uint32Array(limits.jsonDepth + 1);

/**
 * Before parsing, so that what nests or goes on without end costs one pass over its text and no more: whoever parses
 * or checks it afterwards keeps all others waiting meanwhile. A list or object has one value more than commas.
 */
function excessOf(text: string): string | undefined {
  if (isSurelyWithin(text)) return undefined;
  let depth = 0;
  let values = 0;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = endOfString(text, i + 1);
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth += 1;
      values += 1;
      if (depth > limits.jsonDepth) return `nests deeper than ${limits.jsonDepth} levels`;
      commas[depth] = 0;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth = Math.max(0, depth - 1);
    else if (code === COMMA) {
      values += 1;
      const items = (commas[depth] ?? 0) + 1;
      commas[depth] = items;
      if (items >= limits.jsonItems) return `has more than ${limits.jsonItems} values in one list or object`;
    }
    if (values > limits.jsonValues) return `has more than ${limits.jsonValues} values`;
  }
  return undefined;
}

/** Most bodies are: a value takes a character, a level takes an opening one, wherever in the text they stand. */
const isSurelyWithin = (text: string): boolean =>
  text.length <= Math.min(limits.jsonItems, limits.jsonValues) &&
  occurrences(text, '{') + occurrences(text, '[') <= limits.jsonDepth;

function occurrences(text: string, character: string): number {
  let count = 0;
  for (let at = text.indexOf(character); at !== -1; at = text.indexOf(character, at + 1)) count += 1;
  return count;
}

/** Index of the closing quote, or the end of the text. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
  return text.length;
}
