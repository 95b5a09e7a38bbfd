/**
 * Asks for the signature, once every authorization is valid.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.4 | RFC 8555 §7.4}
 */
import { type Order, orderOf } from './order.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';

/**
 * Store the certificate's key before. After a lost reply get the order first: `ready` may be finalized again (with the
 * same key), `processing` and `valid` have been. @throws AcmeProblem badCSR, orderNotReady, …
 */
export async function finalize(
  session: Session,
  account: AccountRef,
  order: Pick<Order, 'url' | 'finalizeUrl'> & { csr: Buffer },
  call: Call,
): Promise<Order> {
  const payload = { csr: order.csr.toString('base64url') };
  const reply = await session.post({ url: order.finalizeUrl, signer: signerOf(account), payload }, call);
  return orderOf(reply, order.url);
}
