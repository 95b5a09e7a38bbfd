/** What issuance needs of the certificates that are there: `service.ts` gives it. */
import type { Writer } from '../store/database.ts';
import type { Entry } from './catalog.ts';
import type { Certificate } from './schema.ts';
import type { Material } from './vault.ts';

/** Keeps a certificate in the transaction of the step. */
export type KeepCertificate = (
  tx: Writer,
  afterCommit: (run: () => void) => void,
  material: Material,
) => Promise<Certificate>;

export interface Shelf {
  /** From elsewhere and valid now: what the hostname is served with. */
  serving(hostname: string): Entry | undefined;
  entries(): Iterable<Entry>;
  keep: KeepCertificate;
  chainOf(id: string): Promise<string | undefined>;
  /** With a reason it is not served any more from this change on; without one it is again. @throws AppError NOT_FOUND */
  setRevoking(id: string, reason: Certificate['revoking']): Promise<Certificate>;
  /** Removes certificates that are over or revoked. */
  drop(entries: readonly Entry[]): Promise<void>;
}
