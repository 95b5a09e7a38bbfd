/**
 * Tables. Columns are what is searched, sorted or unique; `document` is the rest as JSON, parsed by the noun's zod
 * schema on every read. Times are milliseconds since 1970. Portable: the same types on SQLite and PostgreSQL.
 */
export interface Tables {
  meta: { key: string; value: string };
  proxies: { id: string; hostname: string; document: string; version: number };
  routes: { id: string; hostname: string | null; document: string; version: number };
  publications: { id: string; hostname: string; service: string; state: string; document: string };
  applied_labels: { id: string; hostname: string; proxy_id: string; document: string };
  /** What was asked of the engine; `pending`: not done yet. */
  services: { id: string; name: string; pending: string | null; document: string; version: number };
  external_services: { id: string; name: string; document: string; version: number };
  /** Ports of this machine that services have. `address` in its canonical form. */
  service_ports: { port: number; protocol: string; address: string; kind: string; service_id: string };
  /** Values for environments, sealed. */
  service_secrets: { name: string; sealed: string; updated_at: number };
  certificates: {
    id: string;
    source: string;
    not_after: number;
    document: string;
    chain_pem: string;
    key_sealed: string;
  };
  /** One of each CA. `url` is null until the CA has told it. */
  acme_accounts: {
    directory: string;
    url: string | null;
    orders_url: string | null;
    key_sealed: string;
    /** What its key may be by now: a change of keys has begun, and what came of it is not known. */
    next_key_sealed: string | null;
    /** JSON: the `mailto:` URLs that the CA was told last; null: not known. */
    contact: string | null;
    created_at: number;
  };
  certificate_orders: {
    id: string;
    /** Its names, while it is open: of the same names there is one at a time. Null once it is over. */
    open_for: string | null;
    state: string;
    /** Smaller is sooner. */
    urgency: number;
    next_attempt_at: number;
    lease_holder: string | null;
    lease_until: number;
    certificate_id: string | null;
    document: string;
    key_sealed: string;
    created_at: number;
  };
  /** Each name of each order. */
  certificate_order_names: { name: string; created_at: number; order_id: string };
  /**
   * What CAs and budgets count: orders, refused validations and certificates, for as long as they count them. With an
   * `order_id` it is taken by an order that is under way, and given back when nothing comes of it.
   */
  issuance_counts: { issuer: string; kind: string; subject: string; at: number; order_id: string | null };
  /** TXT records of DNS-01 that are, or may be, in the DNS. `asked` and `value` as the challenge has them. */
  challenge_records: {
    order_id: string;
    asked: string;
    value: string;
    document: string;
    /** To withdraw it, in a row. */
    failures: number;
    next_attempt_at: number;
    created_at: number;
  };
  alerts: {
    key: string;
    /** Of this time that it was raised: raised again after its end it has another. */
    id: string;
    source: string;
    document: string;
    raised_at: number;
    resolved_at: number | null;
    /** JSON: who has seen it, of the stage that it is at; null: nobody. */
    acknowledged: string | null;
    /** When anybody was told last. */
    told_at: number;
  };
  /** Still to be sent. `alert_key`: what it is about; null where an earlier version wrote it. */
  alert_deliveries: {
    id: string;
    channel: string;
    alert_key: string | null;
    body: string;
    attempts: number;
    next_attempt_at: number;
    created_at: number;
  };
  /** Names below a wildcard whose certificates were ordered when somebody came for them. */
  on_demand_names: { hostname: string; wildcard: string; last_seen_at: number };
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
  mcp_tasks: {
    id: string;
    principal_id: string;
    /** JSON: the operation, and the hostnames to which its caller was confined. */
    needs: string | null;
    status: string;
    result_sealed: string | null;
    created_at: number;
    updated_at: number;
    expires_at: number;
  };
  untrusted_reads: { principal_id: string; operation: string; since: number; read_at: number };
  /** Of the authorization server: codes, tokens, grants, clients, its sessions. Ids are hashed, payloads sealed. */
  oauth_records: {
    id: string;
    model: string;
    grant_id: string | null;
    uid: string | null;
    user_code: string | null;
    account_id: string | null;
    client_id: string | null;
    payload: string;
    created_at: number;
    expires_at: number | null;
    consumed_at: number | null;
  };
  signing_keys: { id: string; state: string; public_jwk: string; key_sealed: string; created_at: number };
  /** What a user has agreed to: this client, with answers to this redirect URI. */
  consents: {
    user_id: string;
    client_id: string;
    redirect_uri: string;
    grant_id: string;
    created_at: number;
  };
  users: {
    id: string;
    /** In lower case. */
    username: string;
    document: string;
    /** argon2id, in its own encoding; null: no password. */
    password_hash: string | null;
    created_at: number;
    last_seen_at: number | null;
    version: number;
  };
  /** Who a user is at an upstream provider. */
  identities: {
    issuer: string;
    subject: string;
    user_id: string;
    created_at: number;
    /** What they are called there. */
    label: string;
    last_used_at: number | null;
  };
  passkeys: {
    id: string;
    user_id: string;
    document: string;
    counter: number;
    created_at: number;
    last_used_at: number | null;
  };
  /** The id is the hash of the link's code. */
  invites: { id: string; user_id: string; created_at: number; expires_at: number };
  /** Signed-in browsers: at the issuer, and at each protected hostname. The id is the hash of the cookie. */
  browser_sessions: {
    id: string;
    user_id: string;
    hostname: string;
    document: string;
    created_at: number;
    expires_at: number;
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
