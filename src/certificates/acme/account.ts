/**
 * Accounts: a key that a CA knows. The caller makes and keeps the key, so that a lost reply loses nothing: asking again
 * with the same key gives the same account.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3 | RFC 8555 §7.3}
 */
import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { type ExternalAccount, signExternalAccount } from './external-account.ts';
import { AcmeProblem } from './problem.ts';
import { readJson, requireLocation } from './reply.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';
import type { Reply } from './transport.ts';

const MAX_CONTACTS = 20;
const MAX_TEXT = 2_048;

const accountSchema = z.object({
  status: z.enum(['valid', 'deactivated', 'revoked']),
  contact: z.array(z.string().max(MAX_TEXT)).max(MAX_CONTACTS).nullish(),
  termsOfServiceAgreed: z.boolean().optional(),
  /** Of the list of its orders, where the CA has one. */
  orders: z.string().max(MAX_TEXT).optional(),
});

export interface Account {
  url: string;
  status: 'valid' | 'deactivated' | 'revoked';
  /** `mailto:` URLs. */
  contact: readonly string[];
  termsOfServiceAgreed: boolean | undefined;
  ordersUrl: string | undefined;
}

export interface NewAccount {
  key: KeyObject;
  /** `mailto:` URLs; may be empty. */
  contact: readonly string[];
  /** That `meta.termsOfService` of the directory is agreed to: a person's decision. */
  termsOfServiceAgreed: boolean;
  /** Where `meta.externalAccountRequired`. */
  externalAccount?: ExternalAccount | undefined;
}

export interface MadeAccount extends Account {
  /** False: it was there, and is as it was, whatever was wanted. @see RFC 8555 §7.3 */
  isNew: boolean;
}

const CREATED = 201;

/** The account of this key, made when there is none yet. @throws AcmeProblem userActionRequired, externalAccountRequired, … */
export async function createAccount(session: Session, wanted: NewAccount, call: Call): Promise<MadeAccount> {
  const { newAccount: url } = await session.directory(call);
  const { key, contact, termsOfServiceAgreed, externalAccount } = wanted;
  const payload = {
    ...(contact.length > 0 && { contact }),
    termsOfServiceAgreed,
    ...(externalAccount && {
      externalAccountBinding: await signExternalAccount(externalAccount, { key, url }),
    }),
  };
  const reply = await session.post({ url, signer: { key }, payload, scope: 'account' }, call);
  return { ...accountOf(reply), isNew: reply.status === CREATED };
}

/** Undefined when the CA has none with this key. @see RFC 8555 §7.3.1 */
export async function findAccount(
  session: Session,
  key: KeyObject,
  call: Call,
): Promise<Account | undefined> {
  const { newAccount: url } = await session.directory(call);
  try {
    const reply = await session.post(
      { url, signer: { key }, payload: { onlyReturnExisting: true }, scope: 'account' },
      call,
    );
    return accountOf(reply);
  } catch (cause) {
    if (cause instanceof AcmeProblem && cause.type === 'accountDoesNotExist') return undefined;
    throw cause;
  }
}

export async function getAccount(session: Session, account: AccountRef, call: Call): Promise<Account> {
  return accountOf(
    await session.post({ url: account.url, signer: signerOf(account), scope: 'account' }, call),
    account.url,
  );
}

/** @see RFC 8555 §7.3.2 */
export async function updateContact(
  session: Session,
  account: AccountRef,
  contact: readonly string[],
  call: Call,
): Promise<Account> {
  return update(session, account, { contact }, call);
}

/** For ever: its orders can't be finished any more, its certificates stay. @see RFC 8555 §7.3.6 */
export async function deactivateAccount(session: Session, account: AccountRef, call: Call): Promise<Account> {
  return update(session, account, { status: 'deactivated' }, call);
}

async function update(session: Session, account: AccountRef, payload: object, call: Call): Promise<Account> {
  const reply = await session.post(
    { url: account.url, signer: signerOf(account), payload, scope: 'account' },
    call,
  );
  return accountOf(reply, account.url);
}

function accountOf(reply: Reply, url?: string): Account {
  const { status, contact, termsOfServiceAgreed, orders } = readJson(reply, accountSchema);
  return {
    url: url ?? requireLocation(reply),
    status,
    contact: contact ?? [],
    termsOfServiceAgreed,
    ordersUrl: orders,
  };
}
