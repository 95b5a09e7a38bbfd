/**
 * Transaction signatures: who sends a change has the key, and so has who answers it.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8945 | RFC 8945}
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { SECOND } from '../../core/clock.ts';
import { DnsFault } from './fault.ts';
import { CLASS, type Message, TYPE, writeRecord } from './message.ts';
import { readName, writeName } from './name.ts';

export const tsigAlgorithms = ['hmac-sha256', 'hmac-sha512'] as const;

export interface TsigKey {
  readonly name: string;
  readonly algorithm: (typeof tsigAlgorithms)[number];
  readonly secret: Buffer;
}

/** RFC 8945 §10: the seconds that two clocks may differ. */
const FUDGE_SECONDS = 300;
/** Position of the number of additional records (RFC 1035 §4.1.1). */
const ADDITIONAL_COUNT = 10;
const TIME_BYTES = 6;
const HASHES = { 'hmac-sha256': 'sha256', 'hmac-sha512': 'sha512' } as const;

export interface Signed {
  readonly bytes: Buffer;
  /** Goes into what the answer is signed over (RFC 8945 §5.3.1). */
  readonly mac: Buffer;
}

interface Variables {
  readonly time: number;
  readonly fudge: number;
  readonly error: number;
  readonly other: Buffer;
}

export function sign(message: Buffer, key: TsigKey, now: number): Signed {
  const time = Math.floor(now / SECOND);
  const variables = { time, fudge: FUDGE_SECONDS, error: 0, other: Buffer.alloc(0) };
  const mac = macOf(key, [message, digestVariables(key, variables)]);
  const original = message.readUInt16BE(0);
  const rdata = Buffer.concat([
    writeName(key.algorithm),
    timeBytes(time),
    numbers(FUDGE_SECONDS, mac.length),
    mac,
    numbers(original, 0, 0),
  ]);
  const record = writeRecord({ name: key.name, type: TYPE.TSIG, class: CLASS.ANY, ttl: 0, rdata });
  const signed = Buffer.concat([message, record]);
  signed.writeUInt16BE(signed.readUInt16BE(ADDITIONAL_COUNT) + 1, ADDITIONAL_COUNT);
  return { bytes: signed, mac };
}

/** What a server says of a signature that it did not take (RFC 8945 §5.2). It can't sign that. */
export const TSIG_ERROR = { BADSIG: 16, BADKEY: 17, BADTIME: 18 } as const;

export type Verdict =
  | { readonly kind: 'genuine' }
  | { readonly kind: 'refused'; readonly error: number; readonly serverTime: number | undefined };

export interface Answer {
  readonly bytes: Buffer;
  readonly message: Message;
  /** Of the request. */
  readonly mac: Buffer;
  readonly now: number;
}

/** @throws DnsFault when the answer is not the key holder's to this request, now. */
export function verify({ bytes, message, mac, now }: Answer, key: TsigKey): Verdict {
  const { signature } = message;
  if (!signature) throw new DnsFault('malformed', 'its answer is not signed');
  const said = readSignature(signature.rdata);
  if (signature.keyName !== key.name || said.algorithm !== key.algorithm)
    throw new DnsFault('malformed', 'its answer is signed with another key');
  if (said.error === TSIG_ERROR.BADSIG || said.error === TSIG_ERROR.BADKEY)
    return { kind: 'refused', error: said.error, serverTime: undefined };
  const unsigned = Buffer.from(bytes.subarray(0, signature.start));
  unsigned.writeUInt16BE(said.originalId, 0);
  unsigned.writeUInt16BE(unsigned.readUInt16BE(ADDITIONAL_COUNT) - 1, ADDITIONAL_COUNT);
  const expected = macOf(key, [numbers(mac.length), mac, unsigned, digestVariables(key, said)]);
  // A shortened signature (§5.2.2.1) is not asked for and not taken.
  if (said.mac.length !== expected.length || !timingSafeEqual(said.mac, expected))
    throw new DnsFault('malformed', 'the signature of its answer is wrong');
  if (said.error !== 0) return { kind: 'refused', error: said.error, serverTime: readTime(said.other) };
  if (Math.abs(now / SECOND - said.time) > said.fudge)
    throw new DnsFault('malformed', 'its answer was signed at another time');
  return { kind: 'genuine' };
}

const macOf = (key: TsigKey, parts: readonly Buffer[]): Buffer =>
  createHmac(HASHES[key.algorithm], key.secret).update(Buffer.concat(parts)).digest();

/** @see {@link https://www.rfc-editor.org/rfc/rfc8945#section-4.3.3 | RFC 8945 §4.3.3} */
function digestVariables(key: TsigKey, { time, fudge, error, other }: Variables): Buffer {
  const ttl = Buffer.alloc(4);
  return Buffer.concat([
    writeName(key.name),
    numbers(CLASS.ANY),
    ttl,
    writeName(key.algorithm),
    timeBytes(time),
    numbers(fudge, error, other.length),
    other,
  ]);
}

function numbers(...values: number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  values.forEach((value, index) => bytes.writeUInt16BE(value, 2 * index));
  return bytes;
}

function timeBytes(seconds: number): Buffer {
  const bytes = Buffer.alloc(TIME_BYTES);
  bytes.writeUIntBE(seconds, 0, TIME_BYTES);
  return bytes;
}

const readTime = (other: Buffer): number | undefined =>
  other.length === TIME_BYTES ? other.readUIntBE(0, TIME_BYTES) * SECOND : undefined;

function readSignature(rdata: Buffer): Variables & { algorithm: string; mac: Buffer; originalId: number } {
  const { name: algorithm, end } = readName(rdata, 0);
  let at = end;
  const take = (length: number): Buffer => {
    if (at + length > rdata.length) throw new DnsFault('malformed', 'its signature is cut off');
    at += length;
    return rdata.subarray(at - length, at);
  };
  const time = take(TIME_BYTES).readUIntBE(0, TIME_BYTES);
  const fudge = take(2).readUInt16BE(0);
  const mac = take(take(2).readUInt16BE(0));
  const originalId = take(2).readUInt16BE(0);
  const error = take(2).readUInt16BE(0);
  const other = take(take(2).readUInt16BE(0));
  if (at !== rdata.length) throw new DnsFault('malformed', 'its signature has a wrong length');
  return { algorithm, time, fudge, mac, originalId, error, other };
}
