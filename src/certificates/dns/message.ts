/**
 * Messages of the DNS (RFC 1035 §4.1): bytes ↔ plain data, as much of them as certificates need. Reads what strangers
 * send: every length is checked, names point backwards only, and what can't be read is refused as a whole.
 */
import { DnsFault } from './fault.ts';
import { readName, writeName } from './name.ts';

export const TYPE = { A: 1, NS: 2, CNAME: 5, SOA: 6, TXT: 16, AAAA: 28, TSIG: 250, CAA: 257 } as const;
export type QueryType = Exclude<keyof typeof TYPE, 'TSIG'>;
/** NONE takes one record away (RFC 2136 §2.5.4), ANY goes with TSIG (RFC 8945 §4.2). */
export const CLASS = { IN: 1, NONE: 254, ANY: 255 } as const;
export const OPCODE = { QUERY: 0, UPDATE: 5 } as const;

export const HEADER_BYTES = 12;
const MAX_MESSAGE = 65_535;
/** Of one message. A zone that answers with more than this is not one that we ask about. */
const MAX_RECORDS = 1000;
const MAX_TEXT = 255;

const RESPONSE = 0x8000;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;
const OPCODE_SHIFT = 11;
const NIBBLE = 0xf;
/** Of the fixed part of a record: type, class, TTL, length (RFC 1035 §4.1.3). */
const RECORD_FIXED = 10;
const QUESTION_FIXED = 4;

export type RecordData =
  | { readonly type: 'A'; readonly address: string }
  | { readonly type: 'AAAA'; readonly address: string }
  | { readonly type: 'NS'; readonly target: string }
  | { readonly type: 'CNAME'; readonly target: string }
  | { readonly type: 'SOA'; readonly primary: string }
  /** One character a byte. */
  | { readonly type: 'TXT'; readonly text: string }
  | { readonly type: 'CAA'; readonly flags: number; readonly tag: string; readonly value: string }
  | { readonly type: 'other'; readonly code: number };

export interface ResourceRecord {
  readonly name: string;
  readonly data: RecordData;
}

export interface Question {
  readonly name: string;
  readonly type: number;
}

/** Where the TSIG record begins and what it says, as it stands. */
export interface SignatureRecord {
  readonly start: number;
  readonly keyName: string;
  readonly rdata: Buffer;
}

export interface Message {
  readonly id: number;
  readonly isResponse: boolean;
  readonly isAuthoritative: boolean;
  readonly isTruncated: boolean;
  readonly opcode: number;
  readonly rcode: number;
  readonly question: Question | undefined;
  readonly answers: readonly ResourceRecord[];
  readonly authorities: readonly ResourceRecord[];
  readonly signature: SignatureRecord | undefined;
}

export interface WrittenRecord {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  readonly rdata: Buffer;
}

/** A query, or with `updates` an update of the zone that the question names (RFC 2136 §2). */
export function writeMessage(message: {
  id: number;
  opcode: number;
  recursionDesired: boolean;
  question: Question;
  updates?: readonly WrittenRecord[];
}): Buffer {
  const { id, opcode, recursionDesired, question, updates = [] } = message;
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE((opcode << OPCODE_SHIFT) | (recursionDesired ? RECURSION_DESIRED : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(updates.length, 8);
  const fixed = Buffer.alloc(QUESTION_FIXED);
  fixed.writeUInt16BE(question.type, 0);
  fixed.writeUInt16BE(CLASS.IN, 2);
  return Buffer.concat([header, writeName(question.name), fixed, ...updates.map(writeRecord)]);
}

export function writeRecord(record: WrittenRecord): Buffer {
  const fixed = Buffer.alloc(RECORD_FIXED);
  fixed.writeUInt16BE(record.type, 0);
  fixed.writeUInt16BE(record.class, 2);
  fixed.writeUInt32BE(record.ttl, 4);
  fixed.writeUInt16BE(record.rdata.length, 8);
  return Buffer.concat([writeName(record.name), fixed, record.rdata]);
}

/** Character strings of at most 255 bytes (RFC 1035 §3.3.14). */
export function writeText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length || at === 0; at += MAX_TEXT) {
    const part = bytes.subarray(at, at + MAX_TEXT);
    parts.push(Buffer.of(part.length), part);
  }
  return Buffer.concat(parts);
}

/** @throws DnsFault `malformed` for whatever is not exactly one message. */
export function readMessage(bytes: Buffer): Message {
  if (bytes.length < HEADER_BYTES || bytes.length > MAX_MESSAGE)
    throw new DnsFault('malformed', `${bytes.length} bytes are no message`);
  const flags = bytes.readUInt16BE(2);
  const counts = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  const [questions = 0, answers = 0, authorities = 0, additionals = 0] = counts;
  if (questions > 1 || answers + authorities + additionals > MAX_RECORDS)
    throw new DnsFault('malformed', 'it holds too many questions or records');
  const reader = createReader(bytes);
  const question = questions === 1 ? reader.question() : undefined;
  const sections = { answers: reader.section(answers), authorities: reader.section(authorities) };
  reader.section(additionals);
  return {
    id: bytes.readUInt16BE(0),
    isResponse: (flags & RESPONSE) !== 0,
    isAuthoritative: (flags & AUTHORITATIVE) !== 0,
    isTruncated: (flags & TRUNCATED) !== 0,
    opcode: (flags >> OPCODE_SHIFT) & NIBBLE,
    rcode: flags & NIBBLE,
    question,
    ...sections,
    signature: reader.finish(),
  };
}

function createReader(bytes: Buffer) {
  let at = HEADER_BYTES;
  let signature: SignatureRecord | undefined;

  function fixed(length: number): Buffer {
    if (at + length > bytes.length) throw new DnsFault('malformed', 'the message ends within a record');
    at += length;
    return bytes.subarray(at - length, at);
  }

  function record(): ResourceRecord {
    // RFC 8945 §5.1: a signature that is not the last record makes the message unreadable.
    if (signature) throw new DnsFault('malformed', 'something stands behind the signature');
    const start = at;
    const { name, end } = readName(bytes, at);
    at = end;
    const head = fixed(RECORD_FIXED);
    const [type, kind, length] = [head.readUInt16BE(0), head.readUInt16BE(2), head.readUInt16BE(8)];
    const from = at;
    const rdata = fixed(length);
    if (type === TYPE.TSIG) signature = { start, keyName: name, rdata };
    // Of another class it means something else (an OPT record counts bytes there, RFC 6891 §6.1.2).
    const data = kind === CLASS.IN ? readData(type, bytes, from, from + length) : undefined;
    return { name, data: data ?? { type: 'other', code: type } };
  }

  return {
    question(): Question {
      const { name, end } = readName(bytes, at);
      at = end;
      return { name, type: fixed(QUESTION_FIXED).readUInt16BE(0) };
    },
    section: (count: number): ResourceRecord[] => Array.from({ length: count }, record),
    finish(): SignatureRecord | undefined {
      if (at !== bytes.length) throw new DnsFault('malformed', 'something stands behind the message');
      return signature;
    },
  };
}

function readData(type: number, message: Buffer, start: number, end: number): RecordData | undefined {
  const rdata = message.subarray(start, end);
  switch (type) {
    case TYPE.A:
      return { type: 'A', address: readIpv4(rdata) };
    case TYPE.AAAA:
      return { type: 'AAAA', address: readIpv6(rdata) };
    case TYPE.NS:
    case TYPE.CNAME:
      return { type: type === TYPE.NS ? 'NS' : 'CNAME', target: nameThatFills(message, start, end) };
    case TYPE.SOA:
      return { type: 'SOA', primary: readPrimary(message, start, end) };
    case TYPE.TXT:
      return { type: 'TXT', text: readTexts(rdata) };
    case TYPE.CAA:
      return readCaa(rdata);
    default:
      return undefined;
  }
}

const wrongLength = (type: string) =>
  new DnsFault('malformed', `a record of type ${type} has a wrong length`);

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;

function readIpv4(rdata: Buffer): string {
  if (rdata.length !== IPV4_BYTES) throw wrongLength('A');
  return rdata.join('.');
}

/** Not shortened; whoever shows an address brings it into its usual form. */
function readIpv6(rdata: Buffer): string {
  if (rdata.length !== IPV6_BYTES) throw wrongLength('AAAA');
  const groups = Array.from({ length: IPV6_BYTES / 2 }, (_, i) => rdata.readUInt16BE(2 * i).toString(16));
  return groups.join(':');
}

function nameThatFills(message: Buffer, start: number, end: number): string {
  const read = readName(message, start);
  if (read.end !== end) throw wrongLength('NS or CNAME');
  return read.name;
}

/** Serial, refresh, retry, expire, minimum (RFC 1035 §3.3.13). */
const SOA_NUMBERS = 20;

function readPrimary(message: Buffer, start: number, end: number): string {
  const primary = readName(message, start);
  const mailbox = readName(message, primary.end);
  if (mailbox.end + SOA_NUMBERS !== end) throw wrongLength('SOA');
  return primary.name;
}

function readTexts(rdata: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at < rdata.length; ) {
    const end = at + 1 + rdata.readUInt8(at);
    if (end > rdata.length) throw wrongLength('TXT');
    parts.push(rdata.subarray(at + 1, end));
    at = end;
  }
  return Buffer.concat(parts).toString('latin1');
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc8659#section-4.1 | RFC 8659 §4.1} */
function readCaa(rdata: Buffer): RecordData {
  const [flags, length] = rdata;
  if (flags === undefined || length === undefined || length === 0 || 2 + length > rdata.length)
    throw wrongLength('CAA');
  return {
    type: 'CAA',
    flags,
    tag: rdata.toString('latin1', 2, 2 + length).toLowerCase(),
    value: rdata.toString('latin1', 2 + length),
  };
}

const RCODES: Readonly<Record<number, string>> = {
  1: 'FORMERR',
  2: 'SERVFAIL',
  3: 'NXDOMAIN',
  4: 'NOTIMP',
  5: 'REFUSED',
  6: 'YXDOMAIN',
  7: 'YXRRSET',
  8: 'NXRRSET',
  9: 'NOTAUTH',
  10: 'NOTZONE',
};

/** @see {@link https://www.rfc-editor.org/rfc/rfc6895#section-2.3 | RFC 6895 §2.3} */
export const RCODE = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5, NOTAUTH: 9, NOTZONE: 10 } as const;

export const rcodeName = (rcode: number): string => RCODES[rcode] ?? `RCODE ${rcode}`;
