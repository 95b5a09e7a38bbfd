/** From bytes to one JSON value, once: size, encoding and depth are checked before anything is decided on it. */
import { isUtf8 } from 'node:buffer';
import type { Exchange } from '../../core/exchange.ts';
import { limits } from '../../core/limits.ts';

export type Body =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'too-large' }
  | { readonly kind: 'gone' };

/** Reads at most `limits.controlBodyBytes`; what a client declared as its length is not believed. */
export function readBody({ body }: Exchange): Promise<Body> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (outcome: Body) => {
      body.off('data', onData).off('end', onEnd).off('error', onGone).off('close', onGone);
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
    const onGone = () => finish({ kind: 'gone' });
    body.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone);
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
  if (!isUtf8(bytes)) return { ok: false, message: 'Parse error: the body is not UTF-8' };
  const text = bytes.toString('utf8');
  if (isTooDeep(text))
    return { ok: false, message: `Parse error: JSON nested deeper than ${limits.jsonDepth}` };
  try {
    return { ok: true, value: JSON.parse(text) as unknown };
  } catch {
    return { ok: false, message: 'Parse error: the body is not JSON' };
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

function isTooDeep(text: string): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = endOfString(text, i + 1);
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth += 1;
      if (depth > limits.jsonDepth) return true;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1;
  }
  return false;
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
