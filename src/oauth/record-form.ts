/** How a record of the authorization server lies in the store: its key, and its sealed payload. Loads none of the library. */
import { createHash } from 'node:crypto';
import type { AdapterPayload } from 'oidc-provider';
import type { Sealer } from '../core/sealer.ts';

const HASH = 'sha256';

/** Ids are unguessable, so a plain digest is enough; `model` keeps the spaces apart. */
export const recordKey = (model: string, id: string): string =>
  createHash(HASH).update(`${model}:${id}`).digest('base64url');

/** Where the record of a client is found. */
export const clientKey = (clientId: string): string => recordKey('Client', clientId);

/** Of a client that this system makes itself. */
export interface ClientMetadata extends Readonly<Record<string, unknown>> {
  readonly client_id: string;
}

export const sealPayload = (sealer: Sealer, key: string, payload: object): string =>
  sealer.seal(JSON.stringify(payload), `oauth:${key}`);

/** What this system sealed itself it may believe. */
export const openPayload = (sealer: Sealer, key: string, sealed: string): AdapterPayload =>
  JSON.parse(sealer.open(sealed, `oauth:${key}`)) as AdapterPayload;
