/**
 * An event stream on its way to a client, of which some events are changed. Lines pass as soon as they are whole, byte
 * for byte; only an event that has data is held until its end, and then passes as it came unless its data is to be
 * another. How the bytes were cut into chunks makes no difference.
 * @see {@link https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream | HTML, §9.2.5}
 */
import { Gathered } from './gathered.ts';
import { toolLimits } from './limits.ts';

const LF = 0x0a;
const CR = 0x0d;
const COLON = 0x3a;
const SPACE = 0x20;
const DATA = Buffer.from('data');
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const NOTHING = Buffer.alloc(0);

/** Gets the data of an event; undefined leaves it as it is. */
type ChangeData = (data: string) => string | undefined;

export class EventTooLarge extends Error {
  constructor(maxBytes: number) {
    super(`an event is larger than ${maxBytes} bytes`);
  }
}

export class EventFilter {
  readonly #change: ChangeData;
  readonly #maxBytes: number;
  /** What has not passed: a line whose end has not come, or a whole event from its first `data` on. */
  readonly #kept = new Gathered();
  #scanned = 0;
  #lineStart = 0;
  #isHolding = false;
  #isFirstLine = true;
  /** A LF that comes next belongs to the CR before it. */
  #isAfterCr = false;

  constructor(change: ChangeData, maxBytes: number = toolLimits.eventBytes) {
    this.#change = change;
    this.#maxBytes = maxBytes;
  }

  /** What passes now. @throws EventTooLarge: nothing more may pass. */
  push(chunk: Uint8Array): Buffer {
    this.#kept.append(chunk);
    const { bytes } = this.#kept;
    const out: Buffer[] = [];
    let passed = 0;
    for (; this.#scanned < bytes.length; this.#scanned += 1) {
      if (!this.#isLineEnd(bytes[this.#scanned])) continue;
      const begin = this.#lineStart;
      this.#lineStart = this.#scanned + 1;
      const line = bytes.subarray(begin, this.#scanned);
      if (this.#isHolding) {
        if (line.length > 0) continue;
        out.push(...this.#released(bytes.subarray(passed, this.#lineStart)));
        passed = this.#lineStart;
        this.#isHolding = false;
      } else if (dataOf(this.#isFirstLine ? withoutMark(line) : line) !== undefined) {
        out.push(bytes.subarray(passed, begin));
        passed = begin;
        this.#isHolding = true;
      }
      this.#isFirstLine = false;
    }
    if (!this.#isHolding) {
      out.push(bytes.subarray(passed, this.#lineStart));
      passed = this.#lineStart;
    }
    // Before the bytes are moved, of which `out` has views.
    const result = Buffer.concat(out);
    this.#drop(passed);
    return result;
  }

  #isLineEnd(code: number | undefined): boolean {
    const isSecondOfPair = code === LF && this.#isAfterCr;
    this.#isAfterCr = code === CR;
    if (isSecondOfPair) this.#lineStart = this.#scanned + 1;
    return !isSecondOfPair && (code === LF || code === CR);
  }

  #released(event: Buffer): Buffer[] {
    const lines = [...linesOf(event)].map((line, i) => ({
      ...line,
      // Only at the beginning of the stream can an event be held that begins with a mark.
      data: dataOf(i === 0 ? withoutMark(line.content) : line.content),
    }));
    const data = lines.flatMap((line) => (line.data === undefined ? [] : [line.data]));
    const changed = this.#change(data.map((part) => part.toString('utf8')).join('\n'));
    if (changed === undefined) return [event];
    const others = lines.filter((line) => line.data === undefined).map(({ whole }) => whole);
    // JSON has no line end in it, so that it is one line.
    return [Buffer.from(`data: ${changed}\n`), ...others];
  }

  #drop(passed: number): void {
    this.#kept.drop(passed);
    if (this.#kept.length > this.#maxBytes) throw new EventTooLarge(this.#maxBytes);
    this.#scanned -= passed;
    this.#lineStart -= passed;
  }
}

interface Line {
  readonly content: Buffer;
  /** With its end. */
  readonly whole: Buffer;
}

function* linesOf(bytes: Buffer): Generator<Line> {
  let start = 0;
  for (let i = 0; i < bytes.length; i += 1) {
    const code = bytes[i];
    if (code !== LF && code !== CR) continue;
    const content = bytes.subarray(start, i);
    if (code === CR && bytes[i + 1] === LF) i += 1;
    yield { content, whole: bytes.subarray(start, i + 1) };
    start = i + 1;
  }
}

/** A stream may begin with one, which is no part of its first line. */
function withoutMark(line: Buffer): Buffer {
  const hasMark = line.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK);
  return hasMark ? line.subarray(BYTE_ORDER_MARK.length) : line;
}

/** Value of a `data` field; undefined for every other line. */
function dataOf(line: Buffer): Buffer | undefined {
  if (!line.subarray(0, DATA.length).equals(DATA)) return undefined;
  if (line.length === DATA.length) return NOTHING;
  if (line[DATA.length] !== COLON) return undefined;
  const value = line.subarray(DATA.length + 1);
  return value[0] === SPACE ? value.subarray(1) : value;
}
