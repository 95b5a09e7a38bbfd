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
/** Read as one number: this is asked of every line. */
const DATA = Buffer.from('data').readUInt32BE();
const DATA_LENGTH = 4;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

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
      if (this.#isHolding) {
        if (this.#scanned > begin) continue;
        out.push(...this.#released(bytes.subarray(passed, this.#lineStart)));
        passed = this.#lineStart;
        this.#isHolding = false;
      } else if (dataAt(bytes, this.#isFirstLine ? afterMark(bytes) : begin, this.#scanned) !== undefined) {
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
    const changed = this.#change(dataOf(event));
    // JSON has no line end in it, so that it is one line.
    return changed === undefined ? [event] : [Buffer.from(`data: ${changed}\n`), othersOf(event)];
  }

  #drop(passed: number): void {
    this.#kept.drop(passed);
    if (this.#kept.length > this.#maxBytes) throw new EventTooLarge(this.#maxBytes);
    this.#scanned -= passed;
    this.#lineStart -= passed;
  }
}

/** Of all `data` lines of an event. */
function dataOf(event: Buffer): string {
  const data = Buffer.alloc(event.length);
  let length = 0;
  eachLine(event, (start, end) => {
    const at = dataAt(event, start, end);
    if (at === undefined) return;
    length += event.copy(data, length, at, end);
    data[length] = LF;
    length += 1;
  });
  return data.toString('utf8', 0, Math.max(0, length - 1));
}

/** All lines of an event but `data`. Each ends alike: a CR before what began with LF would be one end for two lines. */
function othersOf(event: Buffer): Buffer {
  const others = Buffer.alloc(event.length);
  let length = 0;
  eachLine(event, (start, end) => {
    if (dataAt(event, start, end) !== undefined) return;
    length += event.copy(others, length, start, end);
    others[length] = LF;
    length += 1;
  });
  return others.subarray(0, length);
}

/** By positions: an event can have millions of lines, and an object for each would be hundreds of times its size. */
function eachLine(event: Buffer, visit: (start: number, end: number) => void): void {
  // Only at the beginning of the stream can an event be held that begins with a mark.
  let start = afterMark(event);
  for (let i = start; i < event.length; i += 1) {
    const code = event[i];
    if (code !== LF && code !== CR) continue;
    const end = i;
    if (code === CR && event[i + 1] === LF) i += 1;
    visit(start, end);
    start = i + 1;
  }
}

/** A stream may begin with a mark, which is no part of its first line. */
const afterMark = (bytes: Buffer): number =>
  bytes.subarray(0, BYTE_ORDER_MARK.length).equals(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK.length : 0;

/** Where the value of a `data` field begins; undefined for every other line. */
function dataAt(bytes: Buffer, start: number, end: number): number | undefined {
  const colon = start + DATA_LENGTH;
  if (colon > end || bytes.readUInt32BE(start) !== DATA) return undefined;
  if (colon === end) return end;
  if (bytes[colon] !== COLON) return undefined;
  return colon + 1 < end && bytes[colon + 1] === SPACE ? colon + 2 : colon + 1;
}
