/**
 * Gives an account another key.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.3.5 | RFC 8555 §7.3.5}
 */
import type { KeyObject } from 'node:crypto';
import { publicJwk, signJws } from './jws.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';

/**
 * Store the new key before, and keep the old one until this returns: after a lost reply, `findAccount` with the new
 * key tells whether it took effect.
 */
export async function changeKey(
  session: Session,
  account: AccountRef,
  newKey: KeyObject,
  call: Call,
): Promise<AccountRef> {
  const { keyChange: url } = await session.directory(call);
  const change = { account: account.url, oldKey: publicJwk(account.key) };
  const payload = await signJws({ key: newKey }, { url, nonce: undefined, payload: change });
  await session.post({ url, signer: signerOf(account), payload, scope: 'account' }, call);
  return { url: account.url, key: newKey };
}
