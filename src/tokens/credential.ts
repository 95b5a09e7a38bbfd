/**
 * The secret text of an API token: `ohp_`, 43 digits of base62 (32 random bytes), 6 digits of base62 (CRC-32 of the
 * 43 digits). 53 characters, matched by `ohp_[0-9A-Za-z]{49}`; the checksum lets a secret scanner tell a real one from
 * chance without asking anybody.
 */
import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { isCredential } from '../core/bearer.ts';

const PREFIX = 'ohp_';
const SECRET_BYTES = 32;
const SECRET_DIGITS = 43;
const CHECKSUM_DIGITS = 6;
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const BASE = BigInt(ALPHABET.length);
const SHAPE = /^ohp_([0-9A-Za-z]{43})([0-9A-Za-z]{6})$/;

/** Characters of a secret that a person chose; ours are shorter than the most. */
export const MIN_CHOSEN = 32;
export const MAX_CHOSEN = 512;

export function newCredential(): string {
  const digits = base62(BigInt(`0x${randomBytes(SECRET_BYTES).toString('hex')}`), SECRET_DIGITS);
  return `${PREFIX}${digits}${checksumOf(digits)}`;
}

/** The text itself when `newCredential` can have made it, else undefined. Says nothing about whether it opens anything. */
export function parseCredential(text: string): string | undefined {
  const [, digits, checksum] = SHAPE.exec(text) ?? [];
  return digits !== undefined && checksum === checksumOf(digits) ? text : undefined;
}

/** Why a text that a person chose can't be a token's secret; undefined when it can. The text is not in the answer. */
export function chosenFault(text: string): string | undefined {
  if (text.length < MIN_CHOSEN || text.length > MAX_CHOSEN)
    return `has to have ${MIN_CHOSEN} to ${MAX_CHOSEN} characters`;
  if (!isCredential(text))
    return 'has to be printable ASCII without spaces at its ends, because nothing else reaches a server over HTTP as it was written';
  if (text.startsWith(PREFIX) && parseCredential(text) === undefined)
    return `begins with ${PREFIX} but is not a whole token (its checksum is wrong): it was mistyped or cut`;
  return undefined;
}

/** What is kept of a credential: its SHA-256, hex. Random text of 256 bits needs neither salt nor stretching. */
export const hashOf = (credential: string): string => hash('sha256', credential, 'hex');
export const HASH_LENGTH = 64;
export const HASH = /^[0-9a-f]{64}$/;

const checksumOf = (digits: string): string => base62(BigInt(crc32(digits)), CHECKSUM_DIGITS);

function base62(value: bigint, width: number): string {
  let text = '';
  for (let rest = value; rest > 0n; rest /= BASE) text = `${ALPHABET[Number(rest % BASE)]}${text}`;
  return text.padStart(width, '0');
}
