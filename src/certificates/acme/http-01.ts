/** @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.3 | RFC 8555 §8.3}: on port 80, over plain HTTP. */
import type { KeyObject } from 'node:crypto';
import { keyAuthorization } from './challenge.ts';

export const HTTP_01_PREFIX = '/.well-known/acme-challenge/';

export interface Http01Answer {
  path: string;
  /** For `application/octet-stream`; the CA forgives whitespace at its end. */
  body: string;
}

/** `key`: of the account. */
export const http01Answer = async (token: string, key: KeyObject): Promise<Http01Answer> => ({
  path: `${HTTP_01_PREFIX}${token}`,
  body: await keyAuthorization(token, key),
});
