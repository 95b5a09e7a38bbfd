/** Settings of the DNS: which provider hosts which zones, and whom to ask. Secrets are named, never written here. */
import { isAbsolute } from 'node:path';
import { isIP } from 'node:net';
import { z } from 'zod';
import { MINUTE, SECOND } from '../../core/clock.ts';
import { isServiceUrl } from '../../core/dial.ts';
import { parseHostname } from '../../core/hostname.ts';
import { tsigAlgorithms } from './tsig.ts';
import { DNS_PORT, type DnsServer } from './transport.ts';

const MAX_PROVIDERS = 100;
const MAX_ZONES = 1000;
const MAX_RESOLVERS = 8;
const MAX_PORT = 65_535;
const MAX_PATH = 4096;
const MAX_TEXT = 253;
const MAX_ARGUMENTS = 32;
const MAX_PROPAGATION_MS = 60 * MINUTE;
const PROPAGATION_MS = 5 * MINUTE;
const MAX_COMMAND_MS = 10 * MINUTE;
const COMMAND_MS = 60 * SECOND;

const path = z.string().max(MAX_PATH).refine(isAbsolute, 'has to be an absolute path');

const secret = z
  .union(
    [
      z.strictObject({ file: path.describe('File that holds the secret and nothing else') }),
      z.strictObject({
        env: z
          .string()
          .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'has to be the name of an environment variable')
          .describe('Environment variable of this process that holds the secret'),
      }),
    ],
    'has to be { file: /path/of/the/secret } or { env: NAME_OF_A_VARIABLE }; secrets do not stand in the settings themselves',
  )
  // Who writes one here all the same does not find it in the error.
  .meta({ secret: true });
export type SecretSource = z.output<typeof secret>;

const zoneName = z
  .string()
  .refine((text) => parseHostname(text) !== undefined, 'has to be a zone such as example.com')
  .overwrite((text) => parseHostname(text) ?? text);

const zones = z
  .array(zoneName)
  .min(1)
  .max(MAX_ZONES)
  .describe('Names in and below which the provider keeps records; the longest that fits is taken');

/** Wildcards take DNS-01 always; this is about the others. */
const dnsUses = ['last', 'first', 'wildcards'] as const;
const use = z
  .enum(dnsUses)
  .default('last')
  .describe(
    'For names that are no wildcards: DNS-01 when HTTP-01 and TLS-ALPN-01 failed (last), before them (first), or never (wildcards)',
  );

/** HTTPS, or HTTP that does not leave this machine. */
const serviceUrl = z
  .string()
  .max(2048)
  .refine(
    isSafeUrl,
    'has to be an https:// URL without a user name, or http:// on this machine (127.0.0.1, [::1] or localhost)',
  );

function isSafeUrl(text: string): boolean {
  const url = URL.parse(text);
  if (!url || !isServiceUrl(text)) return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname));
}

const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));

/** Of a key: names are compared in canonical form. */
const keyName = z
  .string()
  .max(MAX_TEXT)
  .regex(
    /^[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?$/,
    'has to be the name of a key such as acme-update',
  )
  .overwrite((text) => text.toLowerCase().replace(/\.$/, ''));

const rfc2136 = z.strictObject({
  provider: z.literal('rfc2136').describe('Dynamic update of an own name server: BIND, Knot, PowerDNS'),
  zones,
  use,
  server: z
    .string()
    .refine(
      (text) => isIP(text) !== 0 || parseHostname(text) !== undefined,
      'has to be an address or a hostname',
    )
    .optional()
    .describe('Where updates go; otherwise the primary that the SOA record of the zone names'),
  port: z.int().min(1).max(MAX_PORT).default(DNS_PORT),
  key_name: keyName.describe('Name of the TSIG key, as the server knows it'),
  algorithm: z.enum(tsigAlgorithms).default('hmac-sha256'),
  secret: secret.describe('The TSIG key in base64'),
});

const cloudflare = z.strictObject({
  provider: z.literal('cloudflare'),
  zones,
  use,
  token: secret.describe('API token with Zone: Read and DNS: Edit for these zones'),
  url: serviceUrl.default('https://api.cloudflare.com/client/v4').describe('Base URL of the API'),
});

const route53 = z.strictObject({
  provider: z.literal('route53'),
  zones,
  use,
  access_key_id: z.string().regex(/^[A-Za-z0-9_]{16,128}$/, 'has to be an access key id such as AKIA…'),
  secret_access_key: secret,
  session_token: secret.optional().describe('Of temporary credentials'),
  region: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/)
    .default('us-east-1')
    .describe('Only other partitions need another one'),
  url: serviceUrl.default('https://route53.amazonaws.com').describe('Base URL of the API'),
});

const webhook = z.strictObject({
  provider: z.literal('webhook').describe('Asks a service of yours by HTTP'),
  zones,
  use,
  url: serviceUrl.describe('Gets POST requests; https, or http on this machine'),
  secret: secret.optional().describe('Sent as bearer token'),
});

const exec = z.strictObject({
  provider: z.literal('exec').describe('Runs a program of yours, without a shell'),
  zones,
  use,
  command: z
    .tuple([path], z.string().max(MAX_PATH))
    .check(({ value, issues }) => {
      if (value.length > MAX_ARGUMENTS)
        issues.push({ code: 'custom', input: value, message: `has to be at most ${MAX_ARGUMENTS} words` });
    })
    .describe('Absolute path of the program and its first arguments; action, name, value and zone follow'),
  timeout_ms: z.int().min(SECOND).max(MAX_COMMAND_MS).default(COMMAND_MS),
});

const dnsProvider = z.discriminatedUnion('provider', [rfc2136, cloudflare, route53, webhook, exec], {
  error: ({ code }) =>
    code === 'invalid_union'
      ? 'has to be one of rfc2136, cloudflare, route53, webhook, exec'
      : 'has to be a mapping with provider and zones',
});
export type DnsProviderSettings = z.output<typeof dnsProvider>;
/** As an adapter needs them. */
export type SettingsOf<Kind extends DnsProviderSettings['provider']> = Omit<
  Extract<DnsProviderSettings, { provider: Kind }>,
  'use'
>;

const ADDRESS_PORT = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/;

/** `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`; undefined for anything else. */
export function parseServer(text: string): DnsServer | undefined {
  if (isIP(text) !== 0) return { address: text, port: DNS_PORT };
  const [, v6, v4, digits] = ADDRESS_PORT.exec(text) ?? [];
  const address = v6 ?? v4 ?? '';
  const port = digits === undefined ? DNS_PORT : Number(digits);
  const isKnown = isIP(address) === (v6 === undefined ? 4 : 6) && port >= 1 && port <= MAX_PORT;
  return isKnown ? { address, port } : undefined;
}

/** To be spread into the settings of certificates. */
export const dnsSettingsShape = {
  dns: z
    .array(dnsProvider)
    .max(MAX_PROVIDERS)
    .check(({ value, issues }) => {
      const twice = firstTwice(value.flatMap((provider) => provider.zones));
      if (twice !== undefined)
        issues.push({ code: 'custom', input: value, message: `${twice} is a zone of two providers` });
    })
    .default([])
    .describe('Who keeps the TXT records of DNS-01, by zone'),
  dns_resolvers: z
    .array(
      z
        .string()
        .refine(
          (text) => parseServer(text) !== undefined,
          'has to be an address, with a port or without: 192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:5353',
        ),
    )
    .min(1)
    .max(MAX_RESOLVERS)
    .optional()
    .describe("Resolvers to ask; otherwise the system's"),
  dns_propagation_timeout_ms: z
    .int()
    .min(SECOND)
    .max(MAX_PROPAGATION_MS)
    .default(PROPAGATION_MS)
    .describe('How long all name servers of a zone may take to answer with a new record'),
};

function firstTwice(names: readonly string[]): string | undefined {
  return names.find((name, index) => names.indexOf(name) !== index);
}
