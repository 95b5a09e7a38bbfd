/** A proxy as a row of the store, and back. */
import type { Tables } from '../store/database.ts';
import { type Proxy, proxySchema, proxySettings } from './schema.ts';

export type ProxyRow = Tables['proxies'];

export function toRow({ id, hostname, version, ...document }: Proxy): ProxyRow {
  return { id, hostname, version, document: JSON.stringify(document) };
}

/** @throws when the row is not one that `toRow` wrote. */
export function parseRow({ id, hostname, version, document }: ProxyRow): Proxy {
  return proxySchema.parse({ ...JSON.parse(document), id, hostname, version });
}

/** Never resolves (RFC 6761 §6.4). */
const NOWHERE = 'http://closed.invalid/';
const UNKNOWN_TIME = new Date(0).toISOString();

/** In place of a row that can't be read: holds the hostname, so that no wildcard serves it, and serves nothing. */
export function closedProxy({ id, hostname, version }: ProxyRow): Proxy {
  return {
    ...proxySettings.parse({ target_url: NOWHERE, enabled: false }),
    id,
    hostname,
    version,
    owner: 'unknown',
    created_at: UNKNOWN_TIME,
    updated_at: UNKNOWN_TIME,
  };
}
