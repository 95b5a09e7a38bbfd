/** Certificates at rest: the chain in the clear, the private key sealed; and opened again for the TLS library. */
import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { toTimestamp } from '../core/collection.ts';
import { newId } from '../core/ids.ts';
import type { Sealer } from '../core/sealer.ts';
import { tlsPolicy, withoutResumption } from '../core/tls-policy.ts';
import type { Database, Reader, Tables, Writer } from '../store/database.ts';
import type { Trust } from './client-trust.ts';
import { factsOf } from './facts.ts';
import { OpenContexts } from './open-contexts.ts';
import { type Certificate, certificateSchema } from './schema.ts';

/** What an open context holds, about; and for each character of CAs and revocation lists, as OpenSSL keeps those. */
const CONTEXT_BYTES = 30 * 1024;
const BYTES_PER_CHARACTER = 6;
const MAX_OPEN_BYTES = 5000 * CONTEXT_BYTES;
/** Of those that check clients: an owner's lists may not take what others need. */
const MAX_CHECKING_BYTES = 64 * 1024 * 1024;
const FIRST_VERSION = 1;

/** Chain and key together, before they are stored. */
export interface Material {
  chainPem: string;
  keyPem: string;
}

export class Vault {
  readonly #database: Database;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #contexts = new OpenContexts(MAX_OPEN_BYTES);
  /** By certificate and what clients are checked by, as one certificate can be of hosts with other CAs. */
  readonly #checking = new OpenContexts(MAX_CHECKING_BYTES);

  constructor({ database, sealer, clock }: { database: Database; sealer: Sealer; clock: Clock }) {
    this.#database = database;
    this.#sealer = sealer;
    this.#clock = clock;
  }

  /** Every certificate that can be read; `report` hears of the others. */
  async load(report: (id: string, cause: unknown) => void): Promise<Certificate[]> {
    const rows = await this.#database.read.selectFrom('certificates').select(['id', 'document']).execute();
    return rows.flatMap((row) => {
      try {
        return parseDocument(row);
      } catch (cause) {
        report(row.id, cause);
        return [];
      }
    });
  }

  /** `from`: inside a change the change's own transaction, outside of one the database. */
  async find(from: Reader, ids: readonly string[]): Promise<Map<string, Certificate>> {
    if (ids.length === 0) return new Map();
    const rows = await from
      .selectFrom('certificates')
      .select(['id', 'document'])
      .where('id', 'in', ids)
      .execute();
    return new Map(rows.map((row) => [row.id, parseDocument(row)]));
  }

  async insert(
    tx: Writer,
    source: Certificate['source'],
    { chainPem, keyPem }: Material,
  ): Promise<Certificate> {
    const id = newId('crt');
    const facts = factsOf(new X509Certificate(chainPem));
    const created_at = toTimestamp(this.#clock.now());
    const certificate: Certificate = { id, source, version: FIRST_VERSION, created_at, ...facts };
    await tx
      .insertInto('certificates')
      .values({
        id,
        source,
        not_after: Date.parse(facts.not_after),
        document: JSON.stringify(certificate),
        chain_pem: chainPem,
        key_sealed: this.#sealer.seal(keyPem, sealContext(id)),
      })
      .execute();
    return certificate;
  }

  async put(tx: Writer, certificate: Certificate): Promise<void> {
    await tx
      .updateTable('certificates')
      .set({ document: JSON.stringify(certificate) })
      .where('id', '=', certificate.id)
      .execute();
  }

  async remove(tx: Writer, id: string): Promise<void> {
    await tx.deleteFrom('certificates').where('id', '=', id).execute();
  }

  /** With `trust`: one that checks clients. @throws Error when it is gone, or its key does not open with this master key. */
  open(id: string, trust?: Trust): Promise<SecureContext> {
    const read = () => this.#read(id, trust);
    if (!trust) return this.#contexts.open(`${id} `, CONTEXT_BYTES, read);
    return this.#checking.open(`${id} ${trust.key}`, CONTEXT_BYTES + BYTES_PER_CHARACTER * trust.size, read);
  }

  /** PEM, leaf first; undefined when it is gone. */
  async chainOf(id: string): Promise<string | undefined> {
    const row = await this.#database.read
      .selectFrom('certificates')
      .select('chain_pem')
      .where('id', '=', id)
      .executeTakeFirst();
    return row?.chain_pem;
  }

  /** Call it when the certificate is gone. */
  forget(id: string): void {
    for (const contexts of [this.#contexts, this.#checking]) contexts.forget(`${id} `);
  }

  /**
   * Chain and private key (PEM), for who exports them: the only way by which a key leaves this folder. Undefined when
   * it is gone. @throws Error when its key does not open with this master key
   */
  async export(id: string): Promise<Material | undefined> {
    const row = await this.#database.read
      .selectFrom('certificates')
      .select(['chain_pem', 'key_sealed'])
      .where('id', '=', id)
      .executeTakeFirst();
    return row && { chainPem: row.chain_pem, keyPem: this.#sealer.open(row.key_sealed, sealContext(id)) };
  }

  async #read(id: string, trust: Trust | undefined): Promise<SecureContext> {
    const material = await this.export(id);
    if (!material) throw new Error(`certificate ${id} is not in the store`);
    return createSecureContext({
      ...(trust ? { ...withoutResumption, ...checking(trust) } : tlsPolicy),
      cert: material.chainPem,
      key: material.keyPem,
    });
  }
}

const checking = ({ authorities, lists }: Trust) => ({
  ca: authorities.map(String),
  ...(lists.length > 0 && { crl: lists.map(({ pem }) => pem) }),
});

const sealContext = (id: string): string => `certificate:${id}`;

function parseDocument({ id, document }: Pick<Tables['certificates'], 'id' | 'document'>): Certificate {
  const certificate = certificateSchema.parse(JSON.parse(document));
  if (certificate.id !== id) throw new Error('its row contradicts itself');
  return certificate;
}
