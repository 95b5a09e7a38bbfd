/**
 * The `Link` header, as far as ACME uses it: targets and relation types. `up` and `index` are read like any other and
 * looked for by nobody.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8288#section-3 | RFC 8288 §3 and appendix B.2}
 */
export interface Link {
  /** Absolute. */
  url: string;
  /** In lower case; at least one. */
  relations: readonly string[];
}

const MAX_HEADER = 16_384;
const MAX_LINKS = 50;

/** Of a header that can't be read to its end, what came before is taken. `base`: the URL of the reply. */
export function parseLinks(header: string | undefined, base: string): Link[] {
  const links: Link[] = [];
  const reader = new Reader((header ?? '').slice(0, MAX_HEADER));
  while (links.length < MAX_LINKS) {
    const target = reader.take(TARGET);
    const relations = target === undefined ? undefined : relationsOf(reader);
    if (target === undefined || relations === undefined) break;
    if (URL.canParse(target, base) && relations.length > 0)
      links.push({ url: new URL(target, base).href, relations });
    if (reader.take(COMMA) === undefined) break;
  }
  return links;
}

/** Each is read in one go and leaves nothing to try again: the header is a stranger's. */
const TARGET = /[\s,]*<([^<>]*)>\s*/y;
const SEMICOLON = /;\s*()/y;
const NAME = /([^\s=;,"<>]+)\s*/y;
const EQUALS = /=\s*()/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"\s*/sy;
const TOKEN = /([^\s;,"]*)\s*/y;
const COMMA = /,()/y;

class Reader {
  readonly #text: string;
  #position = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** What the pattern's group has found here; undefined when it is something else that stands here. */
  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#position;
    const found = pattern.exec(this.#text);
    if (found) this.#position = pattern.lastIndex;
    return found?.[1];
  }

  get isAtEnd(): boolean {
    return this.#position === this.#text.length || this.#text[this.#position] === ',';
  }
}

/** The first `rel` counts (RFC 8288 §3.3); undefined when the parameters can't be read to their end. */
function relationsOf(reader: Reader): string[] | undefined {
  let relations: string[] | undefined;
  while (reader.take(SEMICOLON) !== undefined) {
    const name = reader.take(NAME);
    const value = name !== undefined && reader.take(EQUALS) !== undefined ? valueOf(reader) : '';
    if (name?.toLowerCase() === 'rel') relations ??= value.toLowerCase().split(/\s+/).filter(Boolean);
  }
  return reader.isAtEnd ? (relations ?? []) : undefined;
}

const valueOf = (reader: Reader): string =>
  reader.take(QUOTED)?.replace(/\\(.)/gs, '$1') ?? reader.take(TOKEN) ?? '';

/** In the order in which they came. */
export const linksOf = (links: readonly Link[], relation: string): string[] =>
  links.flatMap((link) => (link.relations.includes(relation) ? [link.url] : []));
