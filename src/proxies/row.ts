/** A proxy as a row of the store, and back. */
import { z } from 'zod';
import type { Sealer } from '../core/sealer.ts';
import type { Tables } from '../store/database.ts';
import { type Proxy, proxySchema, proxySettings } from './schema.ts';

export type ProxyRow = Tables['proxies'];

/** Header rules often carry a credential for the upstream, so they are sealed at rest. */
export function toRow(
  { id, hostname, version, request_headers, response_headers, ...rest }: Proxy,
  sealer: Sealer,
): ProxyRow {
  const headers = sealer.seal(JSON.stringify({ request_headers, response_headers }), contextOf(id));
  return { id, hostname, version, document: JSON.stringify({ ...rest, headers }) };
}

/** @throws when the row is not one that `toRow` wrote. */
export function parseRow({ id, hostname, version, document }: ProxyRow, sealer: Sealer): Proxy {
  const { headers, ...rest } = storedSchema.parse(JSON.parse(document));
  const opened: unknown = JSON.parse(sealer.open(headers, contextOf(id)));
  return proxySchema.parse({ ...z.looseObject({}).parse(opened), ...rest, id, hostname, version });
}

const storedSchema = z.looseObject({ headers: z.string() });
const contextOf = (id: string): string => `proxy:${id}:headers`;

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
