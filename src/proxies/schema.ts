/** What a proxy is: one hostname served over HTTPS and forwarded to one target. Checked on write and again on read. */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { changesOf, nextCursorField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { authChoice, authPolicy, toldPolicy } from './auth-policy.ts';
import { certificateChoice } from './certificate-choice.ts';
import { clientAuth } from './client-auth.ts';
import { loadBalancing } from './load-balancing.ts';
import { leadsTo } from './service-targets.ts';
import { targetUrl } from './target-url.ts';

const SECOND_MS = 1000;
const MAX_TIMEOUT_MS = 24 * 60 * 60 * SECOND_MS;
const MAX_HEADER_RULES = 50;
const MAX_HEADER_VALUE = 4096;
const MAX_BODY_BYTES = 1024 ** 4;
const MAX_PEM = 65_536;
/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2 | RFC 9110 §5.6.2} */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELD_VALUE = /^[\t\x20-\x7e]*$/;

/** What frames a message or belongs to one connection is the gateway's own (RFC 9110 §7.6.1); no rule reaches it. */
const UNTOUCHABLE: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const BETWEEN_HOPS = /^proxy-/i;

// Refinements, not patterns and lengths: those would be repeated in every schema that a model reads.
const headerName = z
  .string()
  .refine(
    (name) => name.length <= limits.shortText && TOKEN.test(name),
    'has to be a header name such as X-Team',
  )
  .refine(
    (name) => !UNTOUCHABLE.has(name.toLowerCase()) && !BETWEEN_HOPS.test(name),
    'is set by the gateway itself, no rule may touch it',
  );
const headerValue = z
  .string()
  .refine(
    (value) => value.length <= MAX_HEADER_VALUE && FIELD_VALUE.test(value),
    `has to be printable ASCII of at most ${MAX_HEADER_VALUE} characters`,
  );

/** Applied in this order: remove, then set. `set` replaces every header of that name. */
export const headerRules = z.strictObject({
  remove: z.array(headerName).max(MAX_HEADER_RULES).default([]),
  set: z
    .record(headerName, headerValue)
    .refine((rules) => Object.keys(rules).length <= MAX_HEADER_RULES, `at most ${MAX_HEADER_RULES} headers`)
    .refine(hasDistinctNames, 'names one header twice, in other letters')
    .default({}),
});
function hasDistinctNames(rules: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(rules);
  return new Set(names.map((name) => name.toLowerCase())).size === names.length;
}
export type HeaderRules = z.output<typeof headerRules>;

const timeout = (defaultMs: number) => z.int().min(1).max(MAX_TIMEOUT_MS).default(defaultMs);

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function isCertificates(pem: string): boolean {
  const blocks = pem.match(PEM_CERTIFICATE) ?? [];
  return blocks.length > 0 && pem.replace(PEM_CERTIFICATE, '').trim() === '' && blocks.every(isCertificate);
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem) instanceof X509Certificate;
  } catch {
    return false; // What does not parse is not a certificate; the caller says so.
  }
}

/** A rule may carry a credential for the upstream: `secret` keeps it out of the audit record. */
const rules = (description: string) => headerRules.prefault({}).meta({ description, secret: true });

/** All that an owner can set, with defaults. */
export const proxySettings = z.strictObject({
  target_url: targetUrl.describe(
    'Where requests go, such as http://localhost:3000 or service://blog:8080; its path goes in front',
  ),
  enabled: z.boolean().default(true).describe('false: not served'),
  enable_http: z.boolean().default(true).describe('Serve plain HTTP'),
  enable_https: z.boolean().default(true).describe('Serve HTTPS'),
  redirect_to_https: z
    .boolean()
    .default(true)
    .describe('Redirect plain HTTP to HTTPS, where HTTPS is served'),
  preserve_host: z.boolean().default(true).describe("Send the client's Host; false: the target's"),
  request_headers: rules('Applied to requests: remove, then set; set only for the origin of target_url'),
  response_headers: rules('Applied to responses'),
  connect_timeout_ms: timeout(10 * SECOND_MS).describe('To connect to the target'),
  response_timeout_ms: timeout(60 * SECOND_MS).describe('Until its response begins'),
  idle_timeout_ms: timeout(300 * SECOND_MS).describe('Longest silence of an open stream'),
  max_body_bytes: z
    .int()
    .min(0)
    .max(MAX_BODY_BYTES)
    .default(1024 ** 3)
    .describe('Largest request body'),
  verify_upstream_tls: z.boolean().default(true).describe('false: trust any certificate of the target'),
  upstream_ca_pem: z
    .string()
    .max(MAX_PEM)
    .refine(isCertificates, 'has to be certificates in PEM')
    .optional()
    .describe('PEM; the only CA to trust for an https target'),
  auth: authChoice
    .prefault({ kind: 'none' })
    .describe(
      'Who gets through. token: holders of an API token with this permission that is valid for this hostname',
    ),
  certificate: certificateChoice.default({}).describe('What its certificate has to be'),
  client_auth: clientAuth
    .prefault({ mode: 'off' })
    .describe('TLS client certificates; replaced as a whole. HTTPS only then, /mcp included'),
  serve_mcp: z.boolean().default(true).describe("/mcp here is this system's; false: the target's own"),
  load_balancing: loadBalancing.optional().describe('More targets; replaced as a whole'),
});
export type ProxySettings = z.output<typeof proxySettings>;

/** What an update may name; `null` takes the CA off. */
export const proxyChanges = z.strictObject({
  ...changesOf(proxySettings.shape),
  upstream_ca_pem: proxySettings.shape.upstream_ca_pem
    .nullable()
    .describe('PEM; the only CA to trust for an https target; null: the usual ones'),
  load_balancing: proxySettings.shape.load_balancing
    .nullable()
    .describe('More targets; replaced as a whole; null: target_url alone'),
});
export type ProxyChanges = z.output<typeof proxyChanges>;

/** What it is called comes first, for whoever reads an answer from the top. */
export const proxySchema = z.strictObject({
  id: z.string(),
  hostname,
  ...proxySettings.shape,
  auth: authPolicy.prefault({ kind: 'none' }),
  owner: z.string(),
  version: z.int(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type Proxy = z.output<typeof proxySchema>;

/** As it is told. */
export const proxyResult = proxySchema.extend({ auth: toldPolicy });

/** A row of a list: what tells proxies apart; the rest is stripped. `get_proxy` has it. */
export const listedProxySchema = proxyResult
  .pick({
    id: true,
    hostname: true,
    target_url: true,
    enabled: true,
    auth: true,
    owner: true,
    version: true,
    updated_at: true,
  })
  .extend({ leads_to: leadsTo })
  .strip();

export const proxyListSchema = z.object({
  proxies: z.array(listedProxySchema),
  next_cursor: nextCursorField,
});
