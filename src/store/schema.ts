/**
 * Tables. Columns are what is searched, sorted or unique; `document` is the rest as JSON, parsed by the noun's zod
 * schema on every read. Times are milliseconds since 1970. Portable: the same types on SQLite and PostgreSQL.
 */
export interface Tables {
  meta: { key: string; value: string };
  proxies: { id: string; hostname: string; document: string; version: number };
  routes: { id: string; hostname: string | null; document: string; version: number };
  certificates: {
    id: string;
    source: string;
    not_after: number;
    document: string;
    chain_pem: string;
    key_sealed: string;
  };
  authorities: { id: string; chain_pem: string; key_sealed: string; created_at: number };
  tokens: {
    id: string;
    /** SHA-256 of the whole credential, hex. */
    hash: string;
    document: string;
    last_used_at: number | null;
    revoked_at: number | null;
    version: number;
  };
  sessions: { id: string; principal_id: string; document: string; created_at: number; last_seen_at: number };
  session_events: {
    session_id: string;
    stream_id: string;
    sequence: number;
    message: string;
    created_at: number;
  };
  idempotency: {
    principal_id: string;
    operation: string;
    key: string;
    input_digest: string;
    result: string;
    created_at: number;
  };
}
