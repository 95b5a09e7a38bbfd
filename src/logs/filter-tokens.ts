/** The text of a filter in tokens, each with where it stands. What the fields are, filter.ts knows. */
import { AppError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

const MAX_VALUES = 20;

export type Operator = (typeof OPERATORS)[number];
/** Longer ones first. */
const OPERATORS = ['>=', '<=', '!=', ':', '=', '>', '<'] as const;

export interface Token {
  /** Of its first character, from 1. */
  at: number;
  negated: boolean;
  field: string | undefined;
  operator: Operator | undefined;
  values: { at: number; text: string; quoted: boolean }[];
}

export function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  const reader = new Reader(text);
  for (reader.skipSpace(); !reader.done; reader.skipSpace()) tokens.push(reader.token());
  return tokens;
}

const WORD = /[^\s",:=<>!]+/y;
const BARE = /[^\s",]+/y;
const CONNECTIVE = /^(?:and|or|not|&&|\|\|)$/i;

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get done(): boolean {
    return this.#at >= this.#text.length;
  }

  skipSpace(): void {
    this.#take(/\s*/y);
  }

  token(): Token {
    const at = this.#at + 1;
    const negated = this.#take(/-(?=\S)/y) !== undefined;
    const start = this.#at;
    const field = this.#take(WORD);
    const operator = field === undefined ? undefined : this.#operator();
    if (field !== undefined && operator !== undefined)
      return { at, negated, field: field.toLowerCase(), operator, values: this.#values() };
    this.#at = start;
    return { at, negated, field: undefined, operator: undefined, values: [this.#words()] };
  }

  #operator(): Operator | undefined {
    const found = OPERATORS.find((operator) => this.#text.startsWith(operator, this.#at));
    if (found) this.#at += found.length;
    return found;
  }

  #values(): Token['values'] {
    const values = [this.#value()];
    while (this.#take(/,/y) !== undefined) values.push(this.#value());
    if (values.length > MAX_VALUES)
      throw refuse(values[MAX_VALUES]?.at ?? 1, `more than ${MAX_VALUES} values of one field`);
    return values;
  }

  #value(): Token['values'][number] {
    const at = this.#at + 1;
    const quoted = this.#quoted();
    if (quoted !== undefined) return { at, text: quoted, quoted: true };
    const text = this.#take(BARE);
    if (text === undefined)
      throw refuse(at, 'a value has to follow; write it without a space in between, or in "quotes"');
    return { at, text, quoted: false };
  }

  /** Text to look for; without quotes it ends at a space. */
  #words(): Token['values'][number] {
    const at = this.#at + 1;
    const quoted = this.#quoted();
    if (quoted !== undefined) return { at, text: quoted, quoted: true };
    const text = this.#take(/[^\s"]+/y) ?? '';
    if (CONNECTIVE.test(text))
      throw refuse(
        at,
        `${text} is no word here: terms all have to hold, commas are alternatives (status:500,502), - says not`,
      );
    if (/^[()]|[()]$/.test(text))
      throw refuse(at, 'there are no brackets here; text with them goes in "quotes"');
    return { at, text, quoted: false };
  }

  /** Inside, `\"` and `\\` stand for `"` and `\`. */
  #quoted(): string | undefined {
    if (this.#text[this.#at] !== '"') return undefined;
    const at = this.#at + 1;
    const found = this.#take(/"(?:[^"\\]|\\.)*"/sy);
    if (found === undefined) throw refuse(at, 'this quote has no end');
    const text = found.slice(1, -1).replace(/\\(["\\])/g, '$1');
    if (text === '') throw refuse(at, 'there is nothing between the quotes');
    if (text.length > limits.shortText) throw refuse(at, `more than ${limits.shortText} characters`);
    return text;
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return undefined;
    this.#at += found.length;
    return found;
  }
}

export const refuse = (at: number, why: string): AppError =>
  new AppError('INVALID_INPUT', `filter, character ${at}: ${why}`, { details: { character: at } });
