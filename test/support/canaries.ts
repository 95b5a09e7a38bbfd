/** Secrets by which it is found out where a secret gets to: each is planted once, and then everything is searched for all of them. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';

export class Canaries {
  /** Where it was planted → the secret. */
  readonly planted = new Map<string, string>();
  readonly #prefix: string;

  /** `prefix`: letters and digits, of this file of tests alone. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** A new one: letters and digits only, in the middle of which nothing is encoded by anybody. */
  plant(where: string): string {
    const secret = `${this.#prefix}${String(this.planted.size).padStart(3, '0')}${'w3Kx'.repeat(6)}`;
    this.planted.set(where, secret);
    return secret;
  }

  /** Where those were planted that are in it, in whatever spelling. */
  in(bytes: Buffer | string): string[] {
    const searched = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    return [...this.planted]
      .filter(([, secret]) => spellings(secret).some((one) => searched.includes(one)))
      .map(([where]) => where);
  }
}

/** As it is, and as text often travels. */
const spellings = (secret: string): Buffer[] =>
  [
    secret,
    encodeURIComponent(secret),
    Buffer.from(secret).toString('hex'),
    ...[0, 1, 2].map((shift) =>
      // Whole groups only, so that it is found at any place of a longer text.
      Buffer.from('\0'.repeat(shift) + secret)
        .toString('base64')
        .slice(shift === 0 ? 0 : 4, -4),
    ),
  ].map((one) => Buffer.from(one));

/** Every file below a folder, as it is now. */
export const filesIn = (folder: string): [name: string, bytes: Buffer][] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => [relative(folder, path), readFileSync(path)]);
