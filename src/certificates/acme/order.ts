/**
 * Orders: what is asked of a CA, and how far it is. An order is known by its URL, from which it is resumed.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.4 | RFC 8555 §7.4} and §7.1.3
 */
import { z } from 'zod';
import { AcmeFault } from './fault.ts';
import {
  canonicalIdentifier,
  type Identifier,
  identifierSchema,
  MAX_IDENTIFIERS,
  namesOf,
} from './identifier.ts';
import { linksOf } from './links.ts';
import { type PollOptions, poll } from './poll.ts';
import { type Problem, parseProblem } from './problem.ts';
import { readJson, requireLocation } from './reply.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';
import type { Reply } from './transport.ts';

const MAX_URL = 2_048;
const MAX_TEXT = 255;
/** Of the list of orders. */
const MAX_PAGES = 20;
const MAX_ORDERS_OF_PAGE = 5_000;
const GONE: readonly number[] = [404, 410];

const url = z.string().max(MAX_URL);
const orderSchema = z.object({
  status: z.enum(['pending', 'ready', 'processing', 'valid', 'invalid']),
  expires: z.string().max(MAX_TEXT).nullish(),
  identifiers: z.array(identifierSchema).min(1).max(MAX_IDENTIFIERS),
  authorizations: z.array(url).max(MAX_IDENTIFIERS).default([]),
  finalize: url,
  certificate: url.nullish(),
  error: z.unknown().optional(),
  profile: z.string().max(MAX_TEXT).nullish(),
  replaces: z.string().max(MAX_TEXT).nullish(),
  notBefore: z.string().max(MAX_TEXT).nullish(),
  notAfter: z.string().max(MAX_TEXT).nullish(),
});

export type OrderStatus = z.output<typeof orderSchema>['status'];

export interface Order {
  url: string;
  /** `pending`: challenges are open; `ready`: finalize it; `processing`: poll; `valid`: download; `invalid`: `error`. */
  status: OrderStatus;
  /** RFC 3339, as all times of an order. */
  expires: string | undefined;
  identifiers: readonly Identifier[];
  authorizationUrls: readonly string[];
  finalizeUrl: string;
  certificateUrl: string | undefined;
  /** Why it is invalid. */
  error: Problem | undefined;
  profile: string | undefined;
  /** Certificate id of what it replaces. @see RFC 9773 §5 */
  replaces: string | undefined;
  notBefore: string | undefined;
  notAfter: string | undefined;
  /** When the CA wants to be asked again. */
  retryAfterMs: number | undefined;
}

export interface NewOrder {
  identifiers: readonly Identifier[];
  /** A key of `meta.profiles`. @see draft-ietf-acme-profiles §4 */
  profile?: string | undefined;
  /** `certificateId` of the certificate that this one takes the place of. @see RFC 9773 §5 */
  replaces?: string | undefined;
  /** Milliseconds since 1970; few CAs allow them. */
  notBefore?: number | undefined;
  notAfter?: number | undefined;
}

/**
 * After a lost reply the CA may have an order that nobody knows the URL of. Most CAs give the same order again for the
 * same names while it is open; `listOrders` tells where it is offered. @throws AppError INVALID_INPUT, AcmeProblem, AcmeFault
 */
export async function createOrder(
  session: Session,
  account: AccountRef,
  wanted: NewOrder,
  call: Call,
): Promise<Order> {
  namesOf(wanted.identifiers);
  const { newOrder } = await session.directory(call);
  const { profile, replaces, notBefore, notAfter } = wanted;
  const payload = {
    identifiers: wanted.identifiers.map(canonicalIdentifier),
    ...(profile !== undefined && { profile }),
    ...(replaces !== undefined && { replaces }),
    ...(notBefore !== undefined && { notBefore: new Date(notBefore).toISOString() }),
    ...(notAfter !== undefined && { notAfter: new Date(notAfter).toISOString() }),
  };
  const reply = await session.post(
    { url: newOrder, signer: signerOf(account), payload, scope: 'account' },
    call,
  );
  return orderOf(reply);
}

/** @throws AcmeProblem, AcmeFault; with the consequence `order` where the CA has no such order any more, and no document that says so */
export async function getOrder(
  session: Session,
  account: AccountRef,
  url: string,
  call: Call,
): Promise<Order> {
  try {
    return orderOf(await session.post({ url, signer: signerOf(account) }, call), url);
  } catch (cause) {
    if (!(cause instanceof AcmeFault) || !GONE.includes(cause.status ?? 0)) throw cause;
    throw new AcmeFault(cause.code, cause.message, { consequence: 'order', status: cause.status, cause });
  }
}

export interface OrderWait extends PollOptions {
  /** Waits for as long as the order is in one of these: `['pending']` for validation, `['processing']` for signing. */
  while: readonly OrderStatus[];
}

/** The order as it is when it has left those states. @throws AcmeFault deadline; it goes on at the CA, ask again later. */
export async function pollOrder(
  session: Session,
  account: AccountRef,
  url: string,
  wait: OrderWait,
): Promise<Order> {
  const ask = () => getOrder(session, account, url, wait);
  return poll(session.clock, ask, ({ status }) => !wait.while.includes(status), wait);
}

const pageSchema = z.object({ orders: z.array(url).max(MAX_ORDERS_OF_PAGE) });

/** URLs of its open orders, of at most 20 pages. `ordersUrl`: as the account has it. @see RFC 8555 §7.1.2.1 */
export async function listOrders(
  session: Session,
  account: AccountRef,
  ordersUrl: string,
  call: Call,
): Promise<string[]> {
  const found: string[] = [];
  let next: string | undefined = ordersUrl;
  for (let page = 0; next !== undefined && page < MAX_PAGES; page++) {
    const reply: Reply = await session.post({ url: next, signer: signerOf(account) }, call);
    found.push(...readJson(reply, pageSchema).orders);
    [next] = linksOf(reply.links, 'next');
  }
  return found;
}

/** `url`: where it was got; absent: the reply tells, for it is new. */
export function orderOf(reply: Reply, url?: string): Order {
  const order = readJson(reply, orderSchema);
  return {
    url: url ?? requireLocation(reply),
    status: order.status,
    expires: order.expires ?? undefined,
    identifiers: order.identifiers,
    authorizationUrls: order.authorizations,
    finalizeUrl: order.finalize,
    certificateUrl: order.certificate ?? undefined,
    error: parseProblem(order.error),
    profile: order.profile ?? undefined,
    replaces: order.replaces ?? undefined,
    notBefore: order.notBefore ?? undefined,
    notAfter: order.notAfter ?? undefined,
    retryAfterMs: reply.retryAfterMs,
  };
}
