/**
 * Which ports of this machine services have. Written with the record, in one transaction, so that no two services have the
 * same whoever asks first; they go with the record. Every address overlaps with the two that mean all of them.
 */
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import type { Reader, Writer } from '../store/database.ts';

export const claimSchema = z.strictObject({
  address: z.string(),
  port: z.int(),
  protocol: z.enum(['tcp', 'udp']),
  /** `guarded`: this process listens there itself; `inner`: where the engine publishes what stands behind it. */
  kind: z.enum(['published', 'guarded', 'inner']),
});
export type Claim = z.output<typeof claimSchema>;
export type Place = Omit<Claim, 'kind'>;

export const EVERY_ADDRESS: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

/** The one form of an address: IPv4 also where it is written as IPv6 (RFC 4291 §2.5.5.2). */
export const canonicalAddress = (text: string): string =>
  ipaddr.isValid(text) ? ipaddr.process(text).toString() : text;

export const overlaps = (a: Place, b: Place): boolean =>
  a.port === b.port &&
  a.protocol === b.protocol &&
  (a.address === b.address || EVERY_ADDRESS.has(a.address) || EVERY_ADDRESS.has(b.address));

const keyOf = ({ address, port, protocol }: Place): string => `${address} ${port}/${protocol}`;

/** As people write it. */
export const toldPort = ({ address, port, protocol }: Place): string =>
  `${address.includes(':') ? `[${address}]` : address}:${port}/${protocol}`;

/** For the loop that gives out ports: with another number the same may go well. `port`: which, where that is known. */
export const portTaken = (message: string, port?: number, more: { isQuoting?: boolean } = {}): AppError =>
  new AppError('CONFLICT', message, {
    ...more,
    details: { reason: 'port_taken', ...(port !== undefined && { port }) },
  });

const takenSchema = z.looseObject({ reason: z.literal('port_taken'), port: z.int().optional() });

export const takenIn = (details: unknown): { port?: number | undefined } | undefined =>
  takenSchema.safeParse(details).data;

/** @throws AppError CONFLICT when another service has one of them. */
export async function writeClaims(tx: Writer, id: string, claims: readonly Claim[]): Promise<void> {
  const wanted = [...new Map(claims.map((claim) => [keyOf(claim), claim])).values()];
  await tx.deleteFrom('service_ports').where('service_id', '=', id).execute();
  if (wanted.length === 0) return;
  const numbers = wanted.map(({ port }) => port);
  const found = await tx
    .selectFrom('service_ports')
    .innerJoin('services', 'services.id', 'service_ports.service_id')
    .select(['services.name as name', 'address', 'port', 'protocol', 'kind'])
    .where('port', 'in', numbers)
    .execute();
  for (const { name, ...row } of found) {
    const theirs = claimSchema.parse(row);
    const mine = wanted.find((claim) => overlaps(claim, theirs));
    if (mine)
      throw portTaken(
        `the service ${name} has port ${toldPort(theirs)}, so that ${toldPort(mine)} is not free`,
      );
  }
  await tx
    .insertInto('service_ports')
    .values(wanted.map((claim) => ({ ...claim, service_id: id })))
    .execute();
}

/** Numbers that no service is to be given, whatever the address. */
export async function claimedIn(db: Reader, { first, last }: PortRange): Promise<ReadonlySet<number>> {
  const rows = await db
    .selectFrom('service_ports')
    .select('port')
    .where('port', '>=', first)
    .where('port', '<=', last)
    .execute();
  return new Set(rows.map(({ port }) => port));
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}
