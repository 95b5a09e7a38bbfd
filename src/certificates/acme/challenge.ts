/**
 * Answers to challenges: what all three kinds have in common, and the word to the CA that it may look.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.1 | RFC 8555 §8.1} and §7.5.1
 */
import type { KeyObject } from 'node:crypto';
import { type Challenge, challengeOf, challengeSchema } from './authorization.ts';
import { thumbprintOf } from './jws.ts';
import { readJson } from './reply.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';

/** `token.thumbprint`: says that this account's key asked for this validation. `key`: of the account. */
export const keyAuthorization = async (token: string, key: KeyObject): Promise<string> =>
  `${token}.${await thumbprintOf(key)}`;

/** The answer has to be in place everywhere by now: many CAs look once. */
export async function respond(
  session: Session,
  account: AccountRef,
  challengeUrl: string,
  call: Call,
): Promise<Challenge> {
  const request = { url: challengeUrl, signer: signerOf(account), payload: {} };
  return challengeOf(readJson(await session.post(request, call), challengeSchema));
}
