/** What a client accepts, as far as it matters here. @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1 | RFC 9110 §12.5.1} */
export interface Accepted {
  readonly json: boolean;
  readonly events: boolean;
  /** `application/json` and no event stream: a client that knows the rule and doesn't follow it. */
  readonly onlyJson: boolean;
  /** Both types by name, as the letter of the specification wants it. */
  readonly strict: boolean;
}

const BOTH: Accepted = { json: true, events: true, onlyJson: false, strict: true };
const ANYTHING: Accepted = { json: true, events: true, onlyJson: false, strict: false };

const JSON_TYPE = 'application/json';
const EVENTS_TYPE = 'text/event-stream';
const jsonRanges = [JSON_TYPE, 'application/*', '*/*'];
const eventRanges = [EVENTS_TYPE, 'text/*', '*/*'];

export function readAccept(header: string | undefined): Accepted {
  if (header === 'application/json, text/event-stream') return BOTH;
  if (header === undefined || header.trim() === '' || header.trim() === '*/*') return ANYTHING;
  const ranges = new Set(header.toLowerCase().split(',').filter(isWanted).map(typeOf));
  const events = eventRanges.some((range) => ranges.has(range));
  return {
    json: jsonRanges.some((range) => ranges.has(range)),
    events,
    onlyJson: ranges.has(JSON_TYPE) && !events,
    strict: ranges.has(JSON_TYPE) && ranges.has(EVENTS_TYPE),
  };
}

const typeOf = (range: string): string => (range.split(';', 1)[0] ?? '').trim();

/** `q=0` says "not this one". */
const isWanted = (range: string): boolean => !/;\s*q=0(?:\.0{0,3})?\s*(?:;|$)/.test(range);
