/** What a proxy is: one hostname served over HTTPS and forwarded to one target. Checked on write and again on read. */
import { z } from 'zod';
import { nextCursorField, timestamp } from '../core/collection.ts';
import { parseHostname, parseHostnamePattern } from '../core/hostname.ts';
import { limits } from '../core/limits.ts';
import { permissions } from '../core/permissions.ts';

const SECOND_MS = 1000;
const MAX_TIMEOUT_MS = 24 * 60 * 60 * SECOND_MS;
const MAX_HEADER_RULES = 50;
const MAX_HEADER_VALUE = 4096;
const MAX_URL = 2048;
const MAX_HOSTNAME_TEXT = 256;
const MAX_BODY_BYTES = 1024 ** 4;
/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2 | RFC 9110 §5.6.2} */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELD_VALUE = /^[\t\x20-\x7e]*$/;

/** An exact hostname, in canonical form after parsing. */
export const exactHostname = canonical(parseHostname, 'a hostname such as app.example.com');
/** An exact hostname or `*.parent`, in canonical form after parsing. */
export const hostname = canonical(
  parseHostnamePattern,
  'a hostname such as app.example.com, or *.example.com',
);

function canonical(parse: (text: string) => string | undefined, expected: string) {
  return z
    .string()
    .min(1)
    .max(MAX_HOSTNAME_TEXT)
    .overwrite((text) => parse(text) ?? text)
    .refine((text) => parse(text) !== undefined, `has to be ${expected} (no scheme, port or path)`);
}

export const targetUrl = z
  .string()
  .max(MAX_URL)
  .refine((text) => targetFault(text) === undefined, {
    error: ({ input }) =>
      `has to be an http:// or https:// URL such as http://localhost:3000: ${targetFault(String(input)) ?? ''}`,
  });

function targetFault(text: string): string | undefined {
  const url = URL.parse(text);
  if (!url) return 'it is not a URL';
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `the scheme is ${url.protocol}`;
  if (url.username !== '' || url.password !== '') return 'a user name or password does not belong in it';
  if (url.hash !== '' || url.search !== '') return 'a query or fragment does not belong in it';
  return undefined;
}

const headerName = z.string().max(limits.shortText).regex(TOKEN, 'has to be a header name');
const headerValue = z.string().max(MAX_HEADER_VALUE).regex(FIELD_VALUE, 'has to be printable ASCII');

/** Applied in this order: remove, then set. `set` replaces every header of that name. */
export const headerRules = z.strictObject({
  remove: z.array(headerName).max(MAX_HEADER_RULES).default([]),
  set: z
    .record(headerName, headerValue)
    .refine((rules) => Object.keys(rules).length <= MAX_HEADER_RULES, `at most ${MAX_HEADER_RULES} headers`)
    .default({}),
});
export type HeaderRules = z.output<typeof headerRules>;

/** Who may reach the target. `token`: an API token with this permission, confined to this hostname or wider. */
export const authPolicy = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({ kind: z.literal('token'), permission: z.enum(permissions) }),
]);
export type AuthPolicy = z.output<typeof authPolicy>;

const timeout = (defaultMs: number) => z.int().min(1).max(MAX_TIMEOUT_MS).default(defaultMs);

/** All that an owner can set, with defaults. */
export const proxySettings = z.strictObject({
  target_url: targetUrl,
  enabled: z.boolean().default(true),
  enable_http: z.boolean().default(true),
  enable_https: z.boolean().default(true),
  redirect_to_https: z.boolean().default(true),
  preserve_host: z.boolean().default(true),
  request_headers: headerRules.prefault({}),
  response_headers: headerRules.prefault({}),
  connect_timeout_ms: timeout(10 * SECOND_MS),
  response_timeout_ms: timeout(60 * SECOND_MS),
  idle_timeout_ms: timeout(300 * SECOND_MS),
  max_body_bytes: z
    .int()
    .min(0)
    .max(MAX_BODY_BYTES)
    .default(1024 ** 3),
  verify_upstream_tls: z.boolean().default(true),
  upstream_ca_pem: z.string().max(65_536).optional(),
  auth: authPolicy.prefault({ kind: 'none' }),
  serve_mcp: z.boolean().default(true),
});
export type ProxySettings = z.output<typeof proxySettings>;

export const proxySchema = proxySettings.extend({
  id: z.string(),
  hostname,
  owner: z.string(),
  version: z.int(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type Proxy = z.output<typeof proxySchema>;

export const proxyListSchema = z.object({ proxies: z.array(proxySchema), next_cursor: nextCursorField });
