/**
 * A head of the trail in the store, sealed: whoever puts an older trail with its older head in the place of this one, or
 * removes the whole folder, has to do the same to the store. Written at each start and each hour.
 */
import { z } from 'zod';
import { messageOf } from '../core/errors.ts';
import type { Sealer } from '../core/sealer.ts';
import type { Database } from '../store/database.ts';
import { findLine } from './files.ts';
import type { Trail } from './trail.ts';

const KEY = 'audit_anchor';
const CONTEXT = 'audit anchor';

const anchorSchema = z.object({ seq: z.int().min(0), hash: z.string() });

export interface AnchorParts {
  trail: Trail;
  database: Database;
  sealer: Sealer;
}

export class Anchor {
  readonly #parts: AnchorParts;
  #isChecked = false;

  constructor(parts: AnchorParts) {
    this.#parts = parts;
  }

  /**
   * Once: a trail that does not hold the anchor is distrusted, and says so from then on. While the trail can't be read,
   * nothing is known and the next call looks again. @throws what the store or the system says.
   */
  async check(): Promise<void> {
    if (this.#isChecked) return;
    const { trail, database, sealer } = this.#parts;
    const row = await database.read
      .selectFrom('meta')
      .select('value')
      .where('key', '=', KEY)
      .executeTakeFirst();
    const extent = trail.extent();
    if (!extent) return;
    const fault = row && faultOf(row.value, { trail, sealer, keptFrom: extent.before.seq + 1 });
    if (fault) trail.distrust(fault.why, fault.expected);
    this.#isChecked = true;
  }

  /** Never over one that was not checked. @throws what the store or the system says. */
  async write(): Promise<void> {
    await this.check();
    const { trail, database, sealer } = this.#parts;
    const extent = trail.extent();
    if (!extent || !this.#isChecked) return;
    const value = sealer.seal(JSON.stringify(extent.last), CONTEXT);
    await database.change({}, async (tx) => {
      await tx
        .insertInto('meta')
        .values({ key: KEY, value })
        .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
        .execute();
    });
  }
}

/** @throws what the system says of a file of the trail: that is no fault of the trail. */
function faultOf(
  sealed: string,
  { trail, sealer, keptFrom }: { trail: Trail; sealer: Sealer; keptFrom: number },
): { why: string; expected?: number } | undefined {
  const anchor = anchorIn(sealed, sealer);
  if ('why' in anchor) return anchor;
  const { seq, hash } = anchor;
  // Its file was too old, and is deleted; what is kept hangs on it by hashes.
  if (seq < keptFrom) return undefined;
  if (findLine(trail.folder, seq, trail.key)?.hash === hash) return undefined;
  return {
    why: `record ${seq}, which the store knows of, is not in the trail: it was replaced or removed`,
    expected: seq,
  };
}

function anchorIn(sealed: string, sealer: Sealer): z.output<typeof anchorSchema> | { why: string } {
  try {
    return anchorSchema.parse(JSON.parse(sealer.open(sealed, CONTEXT)));
  } catch (cause) {
    return { why: `what the store knows of the trail can't be read: ${messageOf(cause)}` };
  }
}
