/**
 * Every operation of the product, asked over every surface of the running product: the same input has the same output
 * or the same error. Each surface goes through the same story in its turn and leaves nothing behind, so that the next
 * one finds what it found.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import test, { after } from 'node:test';
import { makeLeaf } from '../src/certificates/openssl.fixture.ts';
import type { ErrorCode } from '../src/core/errors.ts';
import type { AnyOperation } from '../src/core/operation.ts';
import { operations as declared } from '../src/operations.ts';
import { configFile, generous, grant } from './support/callers.ts';
import { eventually } from './support/eventually.ts';
import { startProduct } from './support/product.ts';
import { type Outcome, surfaces } from './support/surfaces.ts';
import { startUpstream } from './support/upstream.ts';

const operations: readonly AnyOperation[] = declared;
type Name = (typeof declared)[number]['name'];
type Output = Record<string, any>;
/** Outputs of this surface so far, by the operation. */
type Seen = Partial<Record<Name, Output>>;
type Who = 'admin' | 'viewer' | 'nobody';

interface Step {
  call: Name;
  as?: Who;
  input?: Record<string, unknown> | ((seen: Seen) => Record<string, unknown>);
  /** Absent: it works. */
  fails?: ErrorCode;
  /** What the output has to hold, as it is on every surface. */
  holds?: RegExp;
  /** Each call adds to what the next one answers: `holds` says what they have in common. */
  grows?: true;
}

const HOST = 'app.example.com';
const leaf = makeLeaf([HOST]);
const upstream = await startUpstream();
const product = await startProduct({
  env: {
    OHP_CONFIG: configFile({ ...generous, mcp: { ...generous.mcp, access: 'public' } }),
    OHP_DOCKER_SOCKET: '/nonexistent/docker.sock',
  },
});
after(() => Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]));
const credentials: Record<Who, string | undefined> = {
  admin: product.adminToken,
  viewer: (await grant(product, { bundle: 'viewer', name: 'viewer' })).secret,
  nobody: undefined,
};
await product.api('POST', '/v1/proxies', { hostname: 'logged.example.com', target_url: upstream.url });
await product.get('logged.example.com', '/hello');
const { trace_id } = await eventually(async () => {
  const { body } = await product.api('GET', '/v1/logs?kind=access&path_prefix=/hello');
  return body.records[0];
}, 'the record of /hello');

const NOWHERE = 'nowhere.example.com';
const proxy = { hostname: HOST, target_url: 'http://127.0.0.1:3000' };
const key = () => ({ idempotency_key: randomUUID() });

const story: Step[] = [
  { call: 'echo', as: 'nobody', input: { message: 'hello, world é €' }, holds: /hello, world é €/ },
  { call: 'echo', input: {}, fails: 'INVALID_INPUT' },
  { call: 'echo', input: { message: 'x'.repeat(5000) }, fails: 'INVALID_INPUT' },
  { call: 'health_check', as: 'nobody', holds: /"status":"(?:ok|degraded)"/ },
  { call: 'list_endpoints', as: 'viewer', holds: /"\/mcp"/ },
  { call: 'list_endpoints', as: 'nobody', fails: 'UNAUTHENTICATED' },

  { call: 'list_proxies', as: 'nobody', fails: 'UNAUTHENTICATED' },
  { call: 'list_proxies', input: { limit: 1 }, holds: /logged\.example\.com/ },
  { call: 'list_proxies', input: { limit: 0 }, fails: 'INVALID_INPUT' },
  { call: 'list_proxies', input: { cursor: 'no cursor' }, fails: 'INVALID_INPUT' },
  { call: 'create_proxy', as: 'viewer', input: proxy, fails: 'FORBIDDEN' },
  { call: 'create_proxy', input: { ...proxy, hostname: 'not a host' }, fails: 'INVALID_INPUT' },
  { call: 'create_proxy', input: { ...proxy, target_url: 'ftp://127.0.0.1' }, fails: 'INVALID_INPUT' },
  { call: 'create_proxy', input: { hostname: HOST }, fails: 'INVALID_INPUT' },
  {
    call: 'create_proxy',
    input: () => ({
      ...proxy,
      hostname: 'APP.example.com',
      enable_http: false,
      connect_timeout_ms: 1500,
      request_headers: { remove: ['x-old'], set: { 'X-Team': 'edge' } },
      auth: { kind: 'token', permission: 'proxies:read' },
      ...key(),
    }),
    holds: /"hostname":"app\.example\.com".*"X-Team":"edge"/,
  },
  { call: 'create_proxy', input: proxy, fails: 'CONFLICT' },
  { call: 'get_proxy', input: { hostname: HOST }, holds: /"connect_timeout_ms":1500/ },
  { call: 'get_proxy', input: { hostname: NOWHERE }, fails: 'NOT_FOUND' },
  { call: 'list_proxies', input: { filter: 'app.', limit: 10 }, holds: /app\.example\.com/ },
  {
    call: 'update_proxy',
    input: { hostname: HOST, version: 7, enabled: false },
    fails: 'PRECONDITION_FAILED',
  },
  { call: 'update_proxy', input: { hostname: HOST, colour: 'red' }, fails: 'INVALID_INPUT' },
  {
    call: 'update_proxy',
    input: { hostname: HOST, version: 1, enabled: false, preserve_host: false },
    holds: /"enabled":false.*"version":2/,
  },
  { call: 'update_proxy', input: { hostname: HOST, enabled: true }, holds: /"version":3/ },

  { call: 'list_routes', input: { cursor: 'no cursor' }, fails: 'INVALID_INPUT' },
  {
    call: 'create_route',
    input: () => ({
      hostname: HOST,
      path: '/api',
      methods: ['GET', 'POST'],
      priority: 10,
      target_url: 'http://127.0.0.1:3001/v2',
      strip_prefix: true,
      ...key(),
    }),
    holds: /"methods":\["GET","POST"\],"priority":10/,
  },
  {
    call: 'create_route',
    input: { hostname: HOST, path: 'api', target_url: proxy.target_url },
    fails: 'INVALID_INPUT',
  },
  { call: 'list_routes', as: 'viewer', input: { hostname: HOST }, holds: /"path":"\/api"/ },
  {
    call: 'test_route',
    input: { url: `https://${HOST}:8443/api/x?y=1`, method: 'POST' },
    holds: /3001\/v2\/x\?y=1/,
  },
  { call: 'test_route', input: { url: `https://${NOWHERE}/` }, holds: /"outcome":"not_served"/ },
  { call: 'test_route', input: { url: 'no url' }, fails: 'INVALID_INPUT' },
  {
    call: 'update_route',
    input: ({ create_route }) => ({ id: create_route?.id, enabled: false, version: 1 }),
    holds: /"version":2/,
  },
  { call: 'update_route', input: { id: 'rte_none', enabled: false }, fails: 'NOT_FOUND' },
  { call: 'delete_route', input: { id: 'rte_none' }, fails: 'NOT_FOUND' },
  { call: 'delete_route', input: ({ create_route }) => ({ id: create_route?.id, version: 2 }) },

  {
    call: 'import_certificate',
    input: { certificate_pem: 'no certificate', private_key_pem: leaf.keyPem },
    fails: 'INVALID_INPUT',
  },
  {
    call: 'import_certificate',
    input: () => ({ certificate_pem: leaf.certificatePem, private_key_pem: leaf.keyPem, ...key() }),
    holds: /"source":"imported"/,
  },
  {
    call: 'get_certificate',
    as: 'viewer',
    input: ({ import_certificate }) => ({ id: import_certificate?.id }),
    holds: /"source":"imported"/,
  },
  { call: 'list_certificates', input: { hostname: HOST, limit: 20 }, holds: /"source":"imported"/ },
  { call: 'list_certificates', input: { hostname: 'not a host' }, fails: 'INVALID_INPUT' },
  {
    call: 'export_certificate',
    input: ({ import_certificate }) => ({ id: import_certificate?.id }),
    holds: /PRIVATE KEY/,
  },
  { call: 'export_certificate', as: 'viewer', input: { id: 'crt_none' }, fails: 'FORBIDDEN' },
  { call: 'export_certificate', input: { id: 'crt_none' }, fails: 'NOT_FOUND' },
  {
    call: 'delete_certificate',
    input: ({ import_certificate }) => ({ id: import_certificate?.id }),
    fails: 'PRECONDITION_FAILED',
  },
  {
    call: 'delete_certificate',
    input: ({ import_certificate }) => ({ id: import_certificate?.id, force: true }),
  },

  { call: 'delete_proxy', as: 'viewer', input: { hostname: HOST }, fails: 'FORBIDDEN' },
  { call: 'delete_proxy', input: { hostname: HOST, version: 3 }, holds: /"deleted_routes":0/ },
  { call: 'delete_proxy', input: { hostname: HOST }, fails: 'NOT_FOUND' },

  {
    call: 'explain_certificate',
    as: 'viewer',
    input: { hostname: 'logged.example.com' },
    holds: /"source":"internal".*no CA reaches them/,
  },
  { call: 'explain_certificate', input: { hostname: 'no host' }, fails: 'INVALID_INPUT' },
  { call: 'get_certificate', input: { id: 'crt_none' }, fails: 'NOT_FOUND' },
  { call: 'request_certificate', input: { names: [NOWHERE] }, fails: 'PRECONDITION_FAILED' },
  { call: 'renew_certificate', input: { id: 'crt_none' }, fails: 'NOT_FOUND' },
  { call: 'revoke_certificate', input: { id: 'crt_none' }, fails: 'NOT_FOUND' },
  { call: 'cancel_certificate_order', input: { id: 'ord_none' }, fails: 'NOT_FOUND' },
  { call: 'rotate_acme_account_key', input: { issuer: 'default' }, fails: 'PRECONDITION_FAILED' },
  { call: 'rotate_acme_account_key', input: { issuer: 'nobody' }, fails: 'INVALID_INPUT' },

  { call: 'create_token', input: { name: 'job' }, fails: 'INVALID_INPUT' },
  { call: 'create_token', as: 'viewer', input: { name: 'job', bundle: 'viewer' }, fails: 'FORBIDDEN' },
  {
    call: 'create_token',
    input: () => ({
      name: 'deploy job',
      permissions: ['proxies:write', 'logs:read'],
      hostnames: ['*.dev.example.com'],
      expires_in: '30d',
      ...key(),
    }),
    holds: /"secret":/,
  },
  { call: 'list_tokens', input: { limit: 50 }, holds: /"deploy job"/ },
  { call: 'list_tokens', as: 'viewer', fails: 'FORBIDDEN' },
  {
    call: 'rotate_token',
    input: ({ create_token }) => ({ id: create_token?.id, version: 9 }),
    fails: 'PRECONDITION_FAILED',
  },
  {
    call: 'rotate_token',
    input: ({ create_token }) => ({ id: create_token?.id, version: 1 }),
    holds: /"secret":/,
  },
  { call: 'revoke_token', input: { id: 'tok_none' }, fails: 'NOT_FOUND' },
  { call: 'revoke_token', input: ({ create_token }) => ({ id: create_token?.id }), holds: /"revoked_at":"/ },

  { call: 'whoami', as: 'viewer', holds: /"name":"viewer","kind":"token"/ },
  { call: 'whoami', as: 'nobody', fails: 'UNAUTHENTICATED' },
  { call: 'list_clients', input: { limit: 5 }, holds: /"clients":\[\]/ },
  { call: 'list_clients', input: { cursor: 'no cursor' }, fails: 'INVALID_INPUT' },
  { call: 'delete_client', input: { id: 'nobody-knows' }, fails: 'NOT_FOUND' },
  { call: 'list_grants', as: 'viewer', holds: /"grants":\[\]/ },
  { call: 'list_grants', input: { limit: 1_000_000 }, fails: 'INVALID_INPUT' },
  { call: 'revoke_grant', input: { id: 'nobody-knows' }, fails: 'NOT_FOUND' },
  { call: 'create_client', as: 'viewer', input: { name: 'a job' }, fails: 'FORBIDDEN' },

  { call: 'list_users', holds: /"users":\[\]/ },
  { call: 'list_users', as: 'viewer', fails: 'FORBIDDEN' },
  { call: 'create_user', as: 'viewer', input: { username: 'ada' }, fails: 'FORBIDDEN' },
  { call: 'update_user', input: { id: 'usr_0', name: 'Ada' }, fails: 'NOT_FOUND' },
  { call: 'delete_user', input: { id: 'usr_0' }, fails: 'NOT_FOUND' },

  { call: 'get_protection', input: { hostname: 'logged.example.com' }, holds: /logged\.example\.com/ },
  { call: 'get_protection', input: { hostname: NOWHERE }, fails: 'NOT_FOUND' },
  { call: 'unprotect_proxy', input: { hostname: NOWHERE }, fails: 'NOT_FOUND' },
  {
    call: 'protect_proxy',
    input: { hostname: NOWHERE, allow: { everyone: true } },
    fails: 'NOT_FOUND',
  },
  {
    call: 'diagnose_connector',
    as: 'viewer',
    input: { url: `https://${NOWHERE}/mcp`, client: 'claude' },
    holds: /"stops_at":"served"/,
  },
  { call: 'diagnose_connector', input: { url: 'no url' }, fails: 'INVALID_INPUT' },
  { call: 'rotate_keys', as: 'viewer', fails: 'FORBIDDEN' },
  { call: 'rotate_keys', holds: /"state":"current".*"state":"next".*"state":"previous"/, grows: true },

  { call: 'list_services', fails: 'UNAVAILABLE' },
  {
    call: 'create_service',
    input: () => ({ name: 'blog', image: 'nginx:1', ...key() }),
    fails: 'UNAVAILABLE',
  },
  { call: 'get_service', input: { name: 'blog' }, fails: 'NOT_FOUND' },
  { call: 'update_service', input: { name: 'blog', cpus: 1 }, fails: 'NOT_FOUND' },
  { call: 'start_service', input: { name: 'blog' }, fails: 'NOT_FOUND' },
  { call: 'stop_service', input: { name: 'blog' }, fails: 'NOT_FOUND' },
  { call: 'restart_service', input: { name: 'blog' }, fails: 'NOT_FOUND' },
  { call: 'get_service_logs', input: { name: 'blog', tail: 5 }, fails: 'NOT_FOUND' },
  { call: 'get_service_stats', input: { name: 'blog' }, fails: 'NOT_FOUND' },
  { call: 'pull_image', input: { image: 'nginx:1' }, fails: 'UNAVAILABLE' },
  { call: 'list_images', fails: 'UNAVAILABLE' },
  {
    call: 'set_secret',
    input: { name: 'db-password', value: 'canary-of-a-secret' },
    holds: /"used_by":\[\]/,
  },
  { call: 'set_secret', as: 'viewer', input: { name: 'x', value: 'y' }, fails: 'FORBIDDEN' },
  { call: 'list_secrets', holds: /"name":"db-password"/ },
  { call: 'list_secrets', as: 'nobody', fails: 'UNAUTHENTICATED' },
  { call: 'delete_secret', input: { name: 'db-password' }, holds: /db-password/ },
  { call: 'delete_secret', input: { name: 'db-password' }, fails: 'NOT_FOUND' },
  { call: 'clean_up_services', fails: 'UNAVAILABLE' },
  { call: 'delete_service', input: { name: 'Blog' }, fails: 'INVALID_INPUT' },
  {
    call: 'create_external_service',
    input: () => ({ name: 'api', url: 'https://api.example.com/v1', ...key() }),
    holds: /"url":"https:\/\/api\.example\.com\/v1"/,
  },
  {
    call: 'create_external_service',
    input: { name: 'meta', url: 'http://169.254.169.254/' },
    fails: 'INVALID_INPUT',
  },
  { call: 'get_service', as: 'viewer', input: { name: 'api' }, holds: /"version":1/ },
  {
    call: 'update_external_service',
    input: { name: 'api', url: 'https://b.example.com' },
    holds: /"version":2/,
  },
  {
    call: 'update_external_service',
    input: { name: 'blog', url: 'https://b.example.com' },
    fails: 'NOT_FOUND',
  },
  { call: 'stop_service', input: { name: 'api' }, fails: 'INVALID_INPUT' },
  { call: 'delete_service', input: { name: 'api', version: 2 }, holds: /"name":"api"/ },
  {
    call: 'publish_service',
    input: () => ({ image: 'nginx:1', hostname: 'new.example.com', port: 80, ...key() }),
    fails: 'UNAVAILABLE',
  },
  { call: 'unpublish_service', input: { name: 'new.example.com' }, fails: 'NOT_FOUND' },
  { call: 'list_proposals', fails: 'FORBIDDEN' },
  {
    call: 'accept_proposal',
    input: () => ({ container: '0123456789ab', hostname: 'new.example.com', ...key() }),
    fails: 'FORBIDDEN',
  },
  {
    call: 'get_logs',
    input: { lines: 5, kind: 'access', path_prefix: '/hello', status_min: 200, verbose: true },
    holds: /"path":"\/hello"/,
  },
  { call: 'get_logs', input: { level: 'loud' }, fails: 'INVALID_INPUT' },
  { call: 'get_logs', input: { kind: 'weather' }, fails: 'INVALID_INPUT' },
  { call: 'get_logs', input: { filter: 'status>=x' }, fails: 'INVALID_INPUT' },
  { call: 'search_logs', input: { text: 'a text that nobody wrote', since: '1h' }, holds: /"hits":0/ },
  { call: 'search_logs', input: { text: 'x', filter: 'foo:1' }, fails: 'INVALID_INPUT' },
  {
    call: 'get_log_stats',
    input: { filter: 'path:/hello', group_by: 'host', since: '1h' },
    holds: /"name":"logged\.example\.com","count":1/,
  },
  { call: 'get_log_stats', input: { filter: 'foo:1' }, fails: 'INVALID_INPUT' },
  { call: 'tail_logs', input: { filter: 'path:/hello', follow_ms: 0 }, holds: /"records":\[\]/ },
  { call: 'tail_logs', input: { filter: 'since:1h' }, fails: 'INVALID_INPUT' },
  { call: 'explain_request', input: { trace_id: '0'.repeat(32) }, fails: 'NOT_FOUND' },
  { call: 'explain_request', input: { trace_id }, holds: /"verdict":"Answered 200 in/ },
  { call: 'why_denied', input: { time: '2020-01-01' }, holds: /"refusals":\[\]/ },
  { call: 'why_denied', input: { time: 'noon' }, fails: 'INVALID_INPUT' },
  { call: 'what_changed', input: { since: '2020-01-01', until: '2020-01-02' }, holds: /"changes":\[\]/ },
  { call: 'what_changed', input: { since: 'noon' }, fails: 'INVALID_INPUT' },
  { call: 'list_alerts', input: { state: 'resolved' }, holds: /"alerts":\[/ },
  { call: 'list_alerts', input: { state: 'loud' }, fails: 'INVALID_INPUT' },
  { call: 'acknowledge_alert', input: { id: 'alr_000' }, fails: 'NOT_FOUND' },
  { call: 'test_alert', fails: 'PRECONDITION_FAILED' },
  {
    call: 'capture_requests',
    input: { hostname: 'logged.example.com', count: 2, bodies: true },
    holds: /"id":"cap_[0-9a-f]+".*"state":"running".*"captured":0,"bodies":true/,
  },
  { call: 'capture_requests', input: { hostname: NOWHERE }, fails: 'NOT_FOUND' },
  { call: 'capture_requests', input: { hostname: '*.example.com' }, fails: 'INVALID_INPUT' },
  { call: 'capture_requests', as: 'viewer', input: { hostname: HOST }, fails: 'FORBIDDEN' },
  {
    call: 'get_capture',
    input: ({ capture_requests }) => ({ id: capture_requests?.id, limit: 5, bodies: true }),
    holds: /"hostname":"logged\.example\.com".*"requests":\[\]/,
  },
  { call: 'get_capture', input: { id: 'cap_none' }, fails: 'NOT_FOUND' },
  { call: 'list_captures', holds: /"hostname":"logged\.example\.com"/, grows: true },
  { call: 'list_captures', as: 'viewer', fails: 'FORBIDDEN' },
  {
    call: 'stop_capture',
    input: ({ capture_requests }) => ({ id: capture_requests?.id }),
    holds: /"state":"stopped"/,
  },
  { call: 'stop_capture', input: { id: 'cap_none' }, fails: 'NOT_FOUND' },
  { call: 'get_diagnostics', holds: /"event_loop":/ },
  { call: 'get_diagnostics', as: 'viewer', fails: 'FORBIDDEN' },
  { call: 'list_log_levels', holds: /"component":"mcp"/ },
  { call: 'list_log_levels', as: 'nobody', fails: 'UNAUTHENTICATED' },

  { call: 'verify_audit', holds: /"intact":true/, grows: true },
  { call: 'verify_audit', input: { known_head: 'none' }, fails: 'INVALID_INPUT' },
  { call: 'verify_audit', as: 'nobody', fails: 'UNAUTHENTICATED' },
  {
    call: 'export_audit',
    input: { limit: 2 },
    holds: /"ndjson":"\{\\"seq\\":1,.*\{\\"seq\\":2,.*"records":2,"last_seq":2,"complete":false/,
  },
  { call: 'export_audit', input: { limit: 0 }, fails: 'INVALID_INPUT' },
  { call: 'export_audit', input: { since: 'yesterday' }, fails: 'INVALID_INPUT' },
  { call: 'set_log_level', input: { component: 'mcp', level: 'INFO' }, holds: /"level":"info"/ },
  { call: 'set_log_level', input: { component: 'mcp', level: 'loud' }, fails: 'INVALID_INPUT' },
  { call: 'list_commands', holds: /df \[-hiT\]/ },
  { call: 'list_commands', as: 'viewer', fails: 'FORBIDDEN' },
  { call: 'run_command', input: { command: 'uptime' }, holds: /load average/ },
  { call: 'run_command', input: { command: 'uptime', parameters: { a: 1 } }, fails: 'FORBIDDEN' },
  { call: 'run_command', input: { command: 'docker rm web' }, fails: 'FORBIDDEN' },
  { call: 'run_command', input: { command: 'docker ps' }, fails: 'UNAVAILABLE' },
  { call: 'run_command', input: { command: 'rm -rf /' }, fails: 'FORBIDDEN' },
  { call: 'run_command', as: 'viewer', input: { command: 'uptime' }, fails: 'FORBIDDEN' },
];

const IDS = /\b(?:prx|rte|crt|tok|svc|cap)_[0-9a-f]{24}\b/g;
const TIMES = /\d{4}-\d\d-\d\dT[\d:.]+Z/g;
const SECRETS = /ohp_[0-9A-Za-z]{49}/g;
/** Operations that tell how things are at this moment: the form is compared, not the figures. */
const MOMENTARY: ReadonlySet<Name> = new Set(['health_check', 'run_command', 'get_diagnostics']);
/** Which kinds of them there are differs from moment to moment. */
const KINDS = /"(collections|active)":\[[^\]]*\]/g;

/** What is new in each call is taken out; the rest has to be the same. */
function comparable(name: Name, outcome: Outcome): unknown {
  const text = JSON.stringify(outcome)
    .replace(IDS, '<id>')
    .replace(TIMES, '<time>')
    .replace(SECRETS, '<secret>');
  if (!MOMENTARY.has(name)) return JSON.parse(text);
  return text
    .replace(KINDS, '"$1":[]')
    .replace(/-?\d+(?:\.\d+)?/g, '0')
    .replace(/ +/g, ' ')
    .replace(/"(?:ok|degraded)"/g, '"well"');
}

/** What the grammar of the command line refuses: said in its words. */
const USAGE = /^(?:missing required argument|unknown option)/;

/** A line of a terminal or of a model may go on behind the message that REST gives. */
function sameError(actual: Outcome, expected: Outcome): boolean {
  if (!('error' in actual && 'error' in expected) || actual.error !== expected.error) return false;
  const [said, told] = [actual, expected].map(({ message }) => message.replace(IDS, '<id>'));
  return USAGE.test(actual.message) || said!.startsWith(told!);
}

/**
 * What works with more than this: a container engine, a person at a browser, or an answer that is another one each
 * time (a link, a secret). Their own suites show that they work.
 */
const NOT_HERE: ReadonlySet<Name> = new Set([
  'list_services',
  'list_images',
  'create_service',
  'update_service',
  'start_service',
  'stop_service',
  'restart_service',
  'clean_up_services',
  'get_service_logs',
  'get_service_stats',
  'pull_image',
  'publish_service',
  'unpublish_service',
  'list_proposals',
  'accept_proposal',
  'acknowledge_alert',
  'test_alert',
  'request_certificate',
  'renew_certificate',
  'revoke_certificate',
  'cancel_certificate_order',
  'rotate_acme_account_key',
  'delete_client',
  'revoke_grant',
  'create_client',
  'create_user',
  'update_user',
  'delete_user',
  'protect_proxy',
  'unprotect_proxy',
]);

/** What REST answered, step by step. */
const first: Outcome[] = [];

for (const [name, surface] of Object.entries(surfaces))
  test(`${name}: every operation of the product answers as on every other surface`, async (t) => {
    const seen: Seen = {};
    for (const [i, { call, as = 'admin', input = {}, fails, holds, grows }] of story.entries())
      await t.test(`${i} ${call}: ${fails ?? 'OK'}`, async () => {
        const operation = operations.find((one) => one.name === call) ?? assert.fail(call);
        const given = typeof input === 'function' ? input(seen) : input;
        const place = { httpPort: product.httpPort, token: credentials[as] };
        const asked = surface(place, { operation, input: given });
        if (operation.mcp === 'never' && name.startsWith('MCP'))
          return assert.rejects(asked, /Unknown tool/, 'there is no such tool');
        const outcome = await asked;
        if ('output' in outcome) seen[call] = outcome.output;
        const expected = (first[i] ??= outcome);
        assert.equal('error' in outcome ? outcome.error : undefined, fails, JSON.stringify(outcome));
        if (holds) assert.match(JSON.stringify(outcome), holds);
        if ('error' in outcome) assert.ok(sameError(outcome, expected), JSON.stringify([outcome, expected]));
        else if (!grows) assert.deepEqual(comparable(call, outcome), comparable(call, expected));
      });
  });

test('the story leaves out no operation, neither where it works nor where it fails', () => {
  const told = (works: boolean) =>
    new Set(story.filter(({ fails }) => (fails === undefined) === works).map(({ call }) => call));
  const [working, failing] = [told(true), told(false)];
  for (const { name, permission, input } of operations) {
    const cannotFail = permission === 'public' && Object.keys(input.shape).length === 0;
    assert.ok(working.has(name as Name) || NOT_HERE.has(name as Name), `${name} works in no step`);
    assert.ok(failing.has(name as Name) || cannotFail, `${name} fails in no step`);
  }
});
