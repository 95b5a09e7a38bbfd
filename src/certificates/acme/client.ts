/**
 * The client of one CA by RFC 8555: pure protocol. It has no store, no schedule and no servers; whoever renews has
 * those. Each method is one step, takes and gives plain data (URLs, states) that can be stored before the next, and
 * resumes from a stored URL. Nothing is remembered but nonces and the directory, and no step is repeated on its own
 * except for a nonce that was refused. Keys of accounts are the caller's, one for each CA.
 *
 * @example
 * createAccount → createOrder → for each authorizationUrl: getAuthorization, place the answer of one challenge,
 * respond, pollAuthorization → finalize → pollOrder → download
 */
import type { KeyObject } from 'node:crypto';
import {
  createAccount,
  deactivateAccount,
  findAccount,
  getAccount,
  type NewAccount,
  updateContact,
} from './account.ts';
import {
  type AuthorizationWait,
  deactivateAuthorization,
  getAuthorization,
  pollAuthorization,
} from './authorization.ts';
import { respond } from './challenge.ts';
import { type Download, download } from './download.ts';
import { finalize } from './finalize.ts';
import { changeKey } from './key-change.ts';
import {
  createOrder,
  getOrder,
  listOrders,
  type NewOrder,
  type Order,
  type OrderWait,
  pollOrder,
} from './order.ts';
import { renewalInfo } from './renewal-info.ts';
import { type Revocation, revoke } from './revoke.ts';
import { type AccountRef, type Call, openSession, type SessionOptions } from './session.ts';

export type AcmeClient = ReturnType<typeof openAcmeClient>;

/** Every method rejects with AcmeProblem (the CA refused), AcmeFault (it was not reached or not understood) or what the signal says. */
export function openAcmeClient(options: SessionOptions) {
  const session = openSession(options);
  return {
    directory: (call: Call) => session.directory(call),

    createAccount: (wanted: NewAccount, call: Call) => createAccount(session, wanted, call),
    findAccount: (key: KeyObject, call: Call) => findAccount(session, key, call),
    getAccount: (account: AccountRef, call: Call) => getAccount(session, account, call),
    updateContact: (account: AccountRef, contact: readonly string[], call: Call) =>
      updateContact(session, account, contact, call),
    deactivateAccount: (account: AccountRef, call: Call) => deactivateAccount(session, account, call),
    changeKey: (account: AccountRef, newKey: KeyObject, call: Call) =>
      changeKey(session, account, newKey, call),

    createOrder: (account: AccountRef, wanted: NewOrder, call: Call) =>
      createOrder(session, account, wanted, call),
    getOrder: (account: AccountRef, url: string, call: Call) => getOrder(session, account, url, call),
    pollOrder: (account: AccountRef, url: string, wait: OrderWait) => pollOrder(session, account, url, wait),
    listOrders: (account: AccountRef, ordersUrl: string, call: Call) =>
      listOrders(session, account, ordersUrl, call),
    finalize: (
      account: AccountRef,
      order: Pick<Order, 'url' | 'finalizeUrl'> & { csr: Buffer },
      call: Call,
    ) => finalize(session, account, order, call),

    getAuthorization: (account: AccountRef, url: string, call: Call) =>
      getAuthorization(session, account, url, call),
    pollAuthorization: (account: AccountRef, url: string, wait: AuthorizationWait) =>
      pollAuthorization(session, account, url, wait),
    deactivateAuthorization: (account: AccountRef, url: string, call: Call) =>
      deactivateAuthorization(session, account, url, call),
    respond: (account: AccountRef, challengeUrl: string, call: Call) =>
      respond(session, account, challengeUrl, call),

    download: (account: AccountRef, wanted: Download, call: Call) => download(session, account, wanted, call),
    revoke: (revocation: Revocation, call: Call) => revoke(session, revocation, call),
    renewalInfo: (certificatePem: string, call: Call) => renewalInfo(session, certificatePem, call),

    [Symbol.asyncDispose]: () => session.close(),
  };
}
