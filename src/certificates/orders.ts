/**
 * Orders in the store. Every step is here before it is acted on. Of the same names one order is open at a time, and who
 * works on it holds its lease, so that several processes on one store order once. Called by `issuance.ts` and `issuing.ts`.
 */
import { type KeyObject, randomUUID } from 'node:crypto';
import { HOUR, MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import type { Sealer } from '../core/sealer.ts';
import type { ChangeContext, Reader, Tables, Writer } from '../store/database.ts';
import type { CertificateKeyType } from '../core/key-type.ts';
import { newCertificateKey } from './acme/csr.ts';
import type { Limit } from './budget.ts';
import { giveBack, settleIssued, sweepCounts, take } from './counts.ts';
import type { Issuer } from './issuers.ts';
import {
  isElsewhere,
  isOver,
  MAX_LEASE_MS,
  MAX_WAIT_MS,
  OrderQueries,
  type OrderQueriesOptions,
} from './order-queries.ts';
import { reportOf } from './order-report.ts';
import { type StoredOrder, subjectOf, withEvent } from './order-rows.ts';
import { type OrderDocument, type OrderEvent, type OrderState, orderDocumentSchema } from './order-schema.ts';
import { fromPkcs8, toPkcs8 } from './x509.ts';

/** Longer than one drive takes; after a crash whoever else is on the store waits this long. */
export const LEASE_MS = 6 * MINUTE;
/** What can't be read now may be after an upgrade, which is a start. */
const UNREADABLE_AGAIN_MS = HOUR;
/** Besides the open ones, which are all kept. */
const MAX_KEPT = 5000;

export interface NewOrderRow {
  names: readonly string[];
  issuer: string;
  directory?: string | undefined;
  /** Of the CA, when somebody asked for it by name. */
  askedDirectory?: string | undefined;
  keyType: CertificateKeyType;
  reason: OrderDocument['reason'];
  profile: string | undefined;
  owner: string | undefined;
  wildcard?: string | undefined;
  replaces: string | undefined;
  urgency: number;
}

/** Of an order that is over. */
const NO_KEY = '';

/** What a step writes. */
export interface Step {
  state?: OrderState;
  nextAttemptAt?: number;
  certificateId?: string;
  document?: Partial<OrderDocument>;
  event?: Omit<OrderEvent, 'at'>;
  /** With `sending`: what it takes of each, or it is not sent. */
  limits?: readonly Limit[];
  /** With `waiting`: the name that could not be shown to be ours. */
  failedName?: string;
  /** Nobody works on it after this. */
  isLast?: boolean;
  /** With `waiting`: a key is for one certificate, so what a CA refused or lost is ordered with another one. */
  isNewKey?: boolean;
}

/** By whoever asks by hand; undefined: any. */
export interface AskedFor {
  readonly issuer: Pick<Issuer, 'name' | 'directoryUrl'> | undefined;
  readonly keyType: CertificateKeyType | undefined;
}

/** Another process works on it, or it is over: whoever gets this stops at once. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

export interface OrdersOptions extends OrderQueriesOptions {
  sealer: Sealer;
}

/** A row that can't be read (a newer version wrote it, say) is reported and passed over: the others go on. */
export class Orders extends OrderQueries {
  readonly #sealer: Sealer;
  readonly #holder = randomUUID();

  constructor({ sealer, ...options }: OrdersOptions) {
    super(options);
    this.#sealer = sealer;
  }

  /**
   * The open order for these names, made when there is none. How it stands then is kept as the result of the call's
   * idempotency key: who repeats the call gets this order, and not another one after it is over.
   * @throws AppError CONFLICT when the one that is open can't be read
   */
  async open(wanted: NewOrderRow, context: ChangeContext = {}): Promise<StoredOrder> {
    const subject = subjectOf(wanted.names);
    const known = context.idempotency ? undefined : await this.ofSubject(subject);
    if (known) return known;
    const id = newId('ord');
    const now = this.clock.now();
    const key = await newCertificateKey(wanted.keyType);
    const {
      names,
      issuer,
      directory,
      askedDirectory: asked_directory,
      keyType: key_type,
      reason,
      profile,
      owner,
      wildcard,
      replaces,
      urgency,
    } = wanted;
    const document: OrderDocument = orderDocumentSchema.parse({
      names,
      issuer,
      directory,
      asked_directory,
      key_type,
      reason,
      profile,
      owner,
      wildcard,
      replaces,
      events: [{ at: now, kind: 'asked', text: ASKED[reason] }],
    });
    let order: StoredOrder | undefined;
    await this.database.change(context, async (tx) => {
      await tx
        .insertInto('certificate_orders')
        .values({
          id,
          open_for: subject,
          state: 'waiting',
          urgency,
          next_attempt_at: now,
          lease_holder: null,
          lease_until: 0,
          certificate_id: null,
          document: JSON.stringify(document),
          key_sealed: this.#sealer.seal(toPkcs8(key), sealContext(id)),
          created_at: now,
        })
        .onConflict((conflict) => conflict.column('open_for').doNothing())
        .execute();
      await insertNames(tx, { id, names, createdAt: now });
      order = await this.one('open_for', subject, tx);
      return order && reportOf(order);
    });
    if (!order) throw new AppError('CONFLICT', `there is an open order for ${subject} that can't be read`);
    return order;
  }

  /** What can be worked on now, the most urgent first. `closed`: directories of CAs whose orders have to wait. */
  async due(limit: number, closed: readonly string[] = []): Promise<StoredOrder[]> {
    const rows = await this.#due(limit, closed);
    const orders = this.rows.read(rows);
    if (orders.length === rows.length) return orders;
    // They would take the places of others for ever.
    const readable = new Set(orders.map(({ id }) => id));
    const unreadable = rows.filter(({ id }) => !readable.has(id)).map(({ id }) => id);
    await this.database.change({}, async (tx) => {
      await tx
        .updateTable('certificate_orders')
        .set({ next_attempt_at: this.clock.now() + UNREADABLE_AGAIN_MS })
        .where('id', 'in', unreadable)
        .execute();
    });
    return this.due(limit, closed);
  }

  #due(limit: number, closed: readonly string[]): Promise<Tables['certificate_orders'][]> {
    const now = this.clock.now();
    return this.database.read
      .selectFrom('certificate_orders')
      .selectAll()
      .where('open_for', 'is not', null)
      .where(isOver('next_attempt_at', now, MAX_WAIT_MS))
      .where(isOver('lease_until', now, MAX_LEASE_MS))
      .where(isElsewhere(closed))
      .orderBy('urgency')
      .orderBy('created_at')
      .orderBy('id')
      .limit(limit)
      .execute();
  }

  /** False: somebody else works on it. */
  async claim(id: string): Promise<boolean> {
    const now = this.clock.now();
    const claimed = await this.database.change({}, (tx) =>
      tx
        .updateTable('certificate_orders')
        .set({ lease_holder: this.#holder, lease_until: now + LEASE_MS })
        .where('id', '=', id)
        .where('open_for', 'is not', null)
        .where(isOver('lease_until', now, MAX_LEASE_MS))
        .executeTakeFirst()
        .then(({ numUpdatedRows }) => numUpdatedRows === 1n),
    );
    return claimed;
  }

  /** The lease for longer, for work that takes its time. @throws LeaseLost */
  async holdIn(tx: Writer, id: string): Promise<void> {
    const { numUpdatedRows } = await tx
      .updateTable('certificate_orders')
      .set({ lease_until: this.clock.now() + LEASE_MS })
      .where('id', '=', id)
      .where('lease_holder', '=', this.#holder)
      .where('open_for', 'is not', null)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) throw new LeaseLost(`order ${id} is worked on by somebody else`);
  }

  async release(id: string): Promise<void> {
    await this.database.change({}, async (tx) => {
      await tx
        .updateTable('certificate_orders')
        .set({ lease_holder: null, lease_until: 0 })
        .where('id', '=', id)
        .where('lease_holder', '=', this.#holder)
        .execute();
    });
  }

  /** For who is alone on the store: whoever held a lease before is gone. */
  async takeOver(): Promise<void> {
    await this.database.change({}, async (tx) => {
      await tx
        .updateTable('certificate_orders')
        .set({ lease_holder: null, lease_until: 0 })
        .where('open_for', 'is not', null)
        .execute();
    });
  }

  /** Writes a step of an order whose lease we hold. @throws LeaseLost; Held when a limit has no room for it */
  async step(order: StoredOrder, step: Step): Promise<StoredOrder> {
    const keyType = step.document?.key_type ?? order.document.key_type;
    const isKept = step.isNewKey === true && step.state !== 'abandoned';
    const key = isKept ? await newCertificateKey(keyType) : undefined;
    return this.database.change({}, async (tx) => {
      const done = await this.stepIn(tx, order, step);
      if (key) await this.#putKey(tx, order.id, key);
      return done;
    });
  }

  /**
   * What somebody asks for holds for the order that is open for the names as well.
   * @throws AppError CONFLICT while it is worked on
   */
  async turnTo(
    { id, state, document }: StoredOrder,
    { issuer, keyType = document.key_type }: AskedFor,
  ): Promise<void> {
    const isSame =
      (issuer === undefined || issuer.directoryUrl === document.directory) && keyType === document.key_type;
    if (isSame || state === 'issued' || state === 'abandoned') return;
    const order = (await this.claim(id)) ? await this.get(id) : undefined;
    if (!order)
      throw new AppError(
        'CONFLICT',
        `${id} is under way for these names, at ${document.issuer} with a key of the type ${document.key_type}; ask again when it is over`,
      );
    const name = issuer?.name ?? order.document.issuer;
    await this.step(order, {
      state: 'waiting',
      isNewKey: true,
      isLast: true,
      document: {
        ...(issuer && {
          issuer: name,
          directory: issuer.directoryUrl,
          asked_directory: issuer.directoryUrl,
          not_before: undefined,
        }),
        key_type: keyType,
        order_url: undefined,
        sent_at: undefined,
        denials: 0,
        failures_at_issuer: 0,
        failed_proofs: {},
      },
      event: { kind: 'asked', text: `somebody asked for it at ${name}, with a key of the type ${keyType}` },
    });
  }

  /** In the transaction of what belongs to the step. */
  async stepIn(tx: Writer, order: StoredOrder, step: Step): Promise<StoredOrder> {
    const now = this.clock.now();
    const event = step.event && { at: now, ...step.event };
    const document = {
      ...order.document,
      ...step.document,
      events: event ? withEvent(order.document.events, event) : order.document.events,
    };
    const isOver = step.state === 'issued' || step.state === 'abandoned';
    const { numUpdatedRows } = await tx
      .updateTable('certificate_orders')
      .set({
        document: JSON.stringify(document),
        lease_until: step.isLast ? 0 : now + LEASE_MS,
        ...(step.isLast && { lease_holder: null }),
        ...(step.state !== undefined && { state: step.state }),
        ...(step.nextAttemptAt !== undefined && { next_attempt_at: step.nextAttemptAt }),
        ...(step.certificateId !== undefined && { certificate_id: step.certificateId }),
        // The certificate has the key by now; deleted there, it is to be gone.
        ...(isOver && { open_for: null, key_sealed: NO_KEY }),
      })
      .where('id', '=', order.id)
      .where('lease_holder', '=', this.#holder)
      .where('open_for', 'is not', null)
      .executeTakeFirst();
    if (numUpdatedRows !== 1n) throw new LeaseLost(`order ${order.id} is worked on by somebody else`);
    await this.#count(tx, order.id, step);
    return {
      ...order,
      document,
      state: step.state ?? order.state,
      nextAttemptAt: step.nextAttemptAt ?? order.nextAttemptAt,
      certificateId: step.certificateId ?? order.certificateId,
      leaseUntil: now + LEASE_MS,
    };
  }

  async #count(
    tx: Writer,
    id: string,
    { state, event, limits = [], failedName: failed }: Step,
  ): Promise<void> {
    const now = this.clock.now();
    if (state === 'sending') await take(tx, id, { limits, now });
    // A CA counts what it signed, also when it never arrives here.
    else if (event?.kind === 'signed') await settleIssued(tx, id, now);
    else if (state === 'waiting' || state === 'abandoned') await giveBack(tx, id, { failed, now });
  }

  /** Its turn is now, for somebody asks, or as soon as may be. Does nothing to one that is worked on. */
  async hurry(id: string, urgency: number): Promise<void> {
    const now = this.clock.now();
    await this.database.change({}, async (tx) => {
      const row = await tx
        .selectFrom('certificate_orders')
        .selectAll()
        .where('id', '=', id)
        .where('open_for', 'is not', null)
        .where(isOver('lease_until', now, MAX_LEASE_MS))
        .executeTakeFirst();
      if (!row) return;
      const { not_before: notBefore = 0 } = this.rows.read([row])[0]?.document ?? {};
      const earliest = notBefore > now + MAX_WAIT_MS ? now : Math.max(now, notBefore);
      await tx
        .updateTable('certificate_orders')
        .set({ urgency, next_attempt_at: Math.min(row.next_attempt_at, earliest) })
        .where('id', '=', id)
        .execute();
    });
  }

  /** The key of the certificate, private. @throws Error when the order is over: it is with the certificate */
  async keyOf(id: string) {
    const row = await this.database.read
      .selectFrom('certificate_orders')
      .select('key_sealed')
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    return fromPkcs8(this.#sealer.open(row.key_sealed, sealContext(id)));
  }

  async #putKey(tx: Writer, id: string, key: KeyObject): Promise<void> {
    await tx
      .updateTable('certificate_orders')
      .set({ key_sealed: this.#sealer.seal(toPkcs8(key), sealContext(id)) })
      .where('id', '=', id)
      .execute();
  }

  /** Counts that count no more, and the oldest orders that are over. */
  async sweep(): Promise<void> {
    const now = this.clock.now();
    await this.database.change({}, async (tx) => {
      await sweepCounts(tx, now);
      const last = await lastKept(tx);
      if (last !== undefined)
        await tx
          .deleteFrom('certificate_orders')
          .where('open_for', 'is', null)
          .where('created_at', '<', last)
          // What is there is renewed as it was ordered.
          .where((is) =>
            is.not(
              is.exists(
                is
                  .selectFrom('certificates')
                  .select('certificates.id')
                  .whereRef('certificates.id', '=', 'certificate_orders.certificate_id'),
              ),
            ),
          )
          .execute();
    });
  }
}

async function lastKept(tx: Reader): Promise<number | undefined> {
  const row = await tx
    .selectFrom('certificate_orders')
    .select('created_at')
    .orderBy('created_at', 'desc')
    .offset(MAX_KEPT)
    .limit(1)
    .executeTakeFirst();
  return row?.created_at;
}

async function insertNames(
  tx: Writer,
  { id, names, createdAt }: { id: string; names: readonly string[]; createdAt: number },
): Promise<void> {
  // Another process may have opened one for the same names meanwhile; then there is none of this id.
  const order = await tx
    .selectFrom('certificate_orders')
    .select('id')
    .where('id', '=', id)
    .executeTakeFirst();
  for (const name of order ? new Set(names) : [])
    await tx
      .insertInto('certificate_order_names')
      .values({ name, created_at: createdAt, order_id: id })
      .execute();
}

const ASKED = {
  served: 'the hostname is served and has no certificate that the world trusts',
  renewal: 'the certificate in use nears its end, the CA wants it renewed, or its CA is not set up any more',
  requested: 'somebody asked for it',
  changed: 'its proxy wants another CA, key or profile',
  'on-demand': 'somebody came for the hostname, below a wildcard without a certificate of its own',
};

const sealContext = (id: string): string => `order:${id}`;
