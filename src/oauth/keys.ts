/**
 * The keys that tokens are signed with. Three are published: the next one, so that who keeps our key set knows it
 * before it signs; the current one; and previous ones for as long as a token signed by them may live.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto';
import { z } from 'zod';
import { type Clock, HOUR } from '../core/clock.ts';
import { newId } from '../core/ids.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database, Writer } from '../store/database.ts';

/** Longer than the longest life of anything that is signed, and than caches keep a key set. */
export const PREVIOUS_KEPT_MS = 24 * HOUR;
/** @see {@link https://www.rfc-editor.org/rfc/rfc7518#section-3.4 | RFC 7518 §3.4} */
export const SIGNING_ALGORITHM = 'ES256';

const stateSchema = z.enum(['next', 'current', 'previous']);
const publicJwkSchema = z.object({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  x: z.string(),
  y: z.string(),
});

export interface SigningKey {
  readonly kid: string;
  readonly state: z.output<typeof stateSchema>;
  readonly createdAt: number;
  readonly publicKey: KeyObject;
  /** With the private part: for the library that signs, and for nobody else. */
  readonly privateJwk: JsonWebKey & { kid: string; alg: string; use: 'sig' };
}

export interface KeyRingOptions {
  readonly database: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
}

export class KeyRing {
  readonly #options: KeyRingOptions;
  #keys: readonly SigningKey[] = [];
  readonly #byKid = new Map<string, KeyObject>();

  constructor(options: KeyRingOptions) {
    this.#options = options;
  }

  /** Reads the keys; makes the first two when there are none. */
  async load(): Promise<void> {
    const { database } = this.#options;
    await database.change({}, async (tx) => {
      const any = await tx.selectFrom('signing_keys').select('id').limit(1).executeTakeFirst();
      if (any) return;
      await this.#insert(tx, 'current');
      await this.#insert(tx, 'next');
    });
    await this.#read();
  }

  /** Those that are published, the current one first. */
  get keys(): readonly SigningKey[] {
    return this.#keys;
  }

  publicKey(kid: string): KeyObject | undefined {
    return this.#byKid.get(kid);
  }

  /** The next key signs from now on; what the current one signed stays good. */
  async rotate(): Promise<readonly SigningKey[]> {
    const { database, clock } = this.#options;
    await database.change({}, async (tx) => {
      await tx
        .updateTable('signing_keys')
        .set({ state: 'previous' })
        .where('state', '=', 'current')
        .execute();
      await tx.updateTable('signing_keys').set({ state: 'current' }).where('state', '=', 'next').execute();
      await this.#insert(tx, 'next');
      // A key is as old as its successor's first day; `created_at` is from when it was next.
      await tx
        .deleteFrom('signing_keys')
        .where('state', '=', 'previous')
        .where('created_at', '<', clock.now() - 2 * PREVIOUS_KEPT_MS)
        .execute();
    });
    await this.#read();
    return this.#keys;
  }

  async #insert(tx: Writer, state: SigningKey['state']): Promise<void> {
    const { sealer, clock } = this.#options;
    const id = newId('key');
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
    await tx
      .insertInto('signing_keys')
      .values({
        id,
        state,
        public_jwk: JSON.stringify(publicKey.export({ format: 'jwk' })),
        key_sealed: sealer.seal(pem, `signing-key:${id}`),
        created_at: clock.now(),
      })
      .execute();
  }

  async #read(): Promise<void> {
    const rows = await this.#options.database.read.selectFrom('signing_keys').selectAll().execute();
    const order = stateSchema.options;
    const keys = rows.map((row) => this.#parse(row));
    this.#keys = keys.sort((a, b) => rank(a) - rank(b) || b.createdAt - a.createdAt);
    this.#byKid.clear();
    for (const { kid, publicKey } of keys) this.#byKid.set(kid, publicKey);

    function rank({ state }: SigningKey): number {
      return state === 'current' ? -1 : order.indexOf(state);
    }
  }

  #parse(row: {
    id: string;
    state: string;
    public_jwk: string;
    key_sealed: string;
    created_at: number;
  }): SigningKey {
    const pem = this.#options.sealer.open(row.key_sealed, `signing-key:${row.id}`);
    const publicJwk = publicJwkSchema.parse(JSON.parse(row.public_jwk));
    return {
      kid: row.id,
      state: stateSchema.parse(row.state),
      createdAt: row.created_at,
      publicKey: createPublicKey({ key: publicJwk, format: 'jwk' }),
      privateJwk: {
        ...createPrivateKey(pem).export({ format: 'jwk' }),
        kid: row.id,
        alg: SIGNING_ALGORITHM,
        use: 'sig',
      },
    };
  }
}
