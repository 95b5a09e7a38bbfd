/**
 * Ids, keys and digests in an order that a seed decides, so that what a seed found is found again: ids decide when is
 * renewed and tried again, and what threads compute ends in any order. Import it before what makes them; it is for a
 * process of its own.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { promisify } from 'node:util';

const BYTE = 256;
const real = { randomBytes: crypto.randomBytes, generateKeyPairSync: crypto.generateKeyPairSync };
let chance: (() => number) | undefined;

/** From here on; undefined: as ever. */
export function seedChance(by: (() => number) | undefined): void {
  chance = by;
}

const randomBytes = (size: number): Buffer =>
  chance
    ? Buffer.from(Array.from({ length: size }, () => Math.floor((chance?.() ?? 0) * BYTE)))
    : real.randomBytes(size);

/** Keys are real, and there at once. */
const generateKeyPair = Object.assign(crypto.generateKeyPair, {
  [promisify.custom]: async (type: 'ec', options: crypto.ECKeyPairKeyObjectOptions) =>
    real.generateKeyPairSync(type, options),
});

Object.assign(crypto, { randomBytes, generateKeyPair });
Object.defineProperty(globalThis.crypto.subtle, 'digest', {
  value: async (name: string, data: Uint8Array) =>
    Uint8Array.from(crypto.createHash(name.replace('-', '')).update(data).digest()).buffer,
});
syncBuiltinESMExports();
