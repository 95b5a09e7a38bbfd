/**
 * JSON that every reader reads the same: what is decided here on the value is what a target makes of the same bytes.
 * Names that stand twice in an object are refused (RFC 8259 §4 leaves open which one counts), and so are a byte order
 * mark, what is not UTF-8, and what nests or goes on without end. Pure.
 */
import { isUtf8 } from 'node:buffer';
import { toolLimits } from './limits.ts';

export type StrictJson =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly message: string };

export function strictJson(bytes: Buffer): StrictJson {
  if (!isUtf8(bytes)) return { ok: false, message: 'the body is not UTF-8' };
  const text = bytes.toString('utf8');
  try {
    const fault = new Scanner(text).fault();
    return fault === undefined
      ? { ok: true, value: JSON.parse(text) as unknown }
      : { ok: false, message: `the body ${fault}` };
  } catch {
    return { ok: false, message: 'the body has to be JSON' };
  }
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** One pass before the parser, which then decides whether it is JSON at all: of what is not, anything may come out here. */
class Scanner {
  readonly #text: string;
  /** Names of each object that is open; undefined for a list. */
  readonly #open: (Set<string> | undefined)[] = [];
  #isNameNext = false;
  #values = 0;

  constructor(text: string) {
    this.#text = text;
  }

  fault(): string | undefined {
    for (let i = 0; i < this.#text.length; i += 1) {
      const code = this.#text.charCodeAt(i);
      if (code === QUOTE) {
        const end = endOfString(this.#text, i + 1);
        if (this.#isNameNext && !this.#isNewName(i, end)) return 'has a name twice in one object';
        i = end;
      } else if (code === OPEN_BRACE || code === OPEN_BRACKET) this.#enter(code === OPEN_BRACE);
      else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) this.#leave();
      else if (code === COMMA) this.#next();
      if (this.#open.length > toolLimits.jsonDepth) return `nests deeper than ${toolLimits.jsonDepth} levels`;
      if (this.#values > toolLimits.jsonValues) return `has more than ${toolLimits.jsonValues} values`;
    }
    return undefined;
  }

  #enter(isObject: boolean): void {
    this.#open.push(isObject ? new Set() : undefined);
    this.#isNameNext = isObject;
    this.#values += 1;
  }

  #leave(): void {
    this.#open.pop();
    this.#isNameNext = false;
  }

  #next(): void {
    this.#isNameNext = this.#open.at(-1) !== undefined;
    this.#values += 1;
  }

  /** By what it says, not by how it is escaped. */
  #isNewName(start: number, end: number): boolean {
    this.#isNameNext = false;
    const names = this.#open.at(-1);
    const quoted = this.#text.slice(start, end + 1);
    const name = quoted.includes('\\') ? String(JSON.parse(quoted)) : quoted.slice(1, -1);
    if (names?.has(name)) return false;
    names?.add(name);
    return true;
  }
}

/** Index of the closing quote, or the end of the text. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charAt(end - 1 - backslashes) === '\\') backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
  return text.length;
}
