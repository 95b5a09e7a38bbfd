/** @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.4 | RFC 8555 §8.4}: the one challenge for wildcards. */
import { hash, type KeyObject } from 'node:crypto';
import { keyAuthorization } from './challenge.ts';

export interface Dns01Answer {
  /** Where the TXT record goes; a name and its wildcard share one, and have a value each. */
  recordName: string;
  value: string;
}

/** `hostname`: the authorization's, which has no `*.`. `key`: of the account. */
export async function dns01Answer(hostname: string, token: string, key: KeyObject): Promise<Dns01Answer> {
  const value = hash('sha256', await keyAuthorization(token, key), 'base64url');
  return { recordName: `_acme-challenge.${hostname}`, value };
}
