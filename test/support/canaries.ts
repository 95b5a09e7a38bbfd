/** Secrets by which it is found out where a secret gets to: each is planted once, and then everything is searched for all of them. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { send } from './callers.ts';
import type { Product } from './product.ts';

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
    return [...this.planted].filter(([, secret]) => foundIn(searched, secret)).map(([where]) => where);
  }
}

/** In whatever spelling. */
export const foundIn = (bytes: Buffer, secret: string): boolean =>
  spellings(secret).some((one) => bytes.includes(one));

/** As it is, and as text often travels. */
const spellings = (secret: string): Buffer[] =>
  [
    ...new Set([
      secret,
      secret.toLowerCase(),
      secret.toUpperCase(),
      encodeURIComponent(secret),
      Buffer.from(secret).toString('hex'),
      ...[0, 1, 2].map((shift) =>
        // Whole groups only, so that it is found at any place of a longer text.
        Buffer.from('\0'.repeat(shift) + secret)
          .toString('base64')
          .slice(shift === 0 ? 0 : 4, -4),
      ),
    ]),
  ].map((one) => Buffer.from(one));

/** All that `get_logs` tells of what is kept. */
export async function everyLogPage(product: Pick<Product, 'httpPort'>, token: string): Promise<Buffer> {
  const pages: string[] = [];
  let cursor: string | undefined;
  do {
    const more = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const path = `/v1/logs?kind=all&lines=1000&level=debug&verbose=true${more}`;
    const reply = await send(product, { path, token });
    assert.equal(reply.status, 200, reply.text);
    pages.push(reply.text);
    cursor = reply.json.next_cursor;
  } while (cursor !== undefined);
  return Buffer.from(pages.join('\n'));
}

/** Every file below a folder, as it is now. */
export const filesIn = (folder: string): [name: string, bytes: Buffer][] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => [relative(folder, path), readFileSync(path)]);

/** None is in a file of the product or was printed, while it runs and after its end, which is this. `allIn`: those that are in it. */
export async function assertNotKept(
  product: Pick<Product, 'output' | 'dataDir' | 'stop'>,
  allIn: (bytes: Buffer) => string[],
): Promise<void> {
  for (const when of ['while it runs', 'after the end']) {
    assert.deepEqual(allIn(Buffer.from(product.output())), [], `printed, ${when}`);
    for (const [name, bytes] of filesIn(product.dataDir))
      assert.deepEqual(allIn(bytes), [], `in ${name}, ${when}`);
    if (when === 'while it runs') assert.equal(await product.stop(), 0);
  }
}
