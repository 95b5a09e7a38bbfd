/** Where certificates are ordered: what may be written of it, and what has to fit together. */
import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { isServiceUrl } from '../core/dial.ts';
import { parseHostnamePattern } from '../core/hostname.ts';

const MAX_ISSUERS = 10;
const MAX_TEXT = 500;
const MAX_PEM = 262_144;
const MAX_EMAIL = 254;
const MAX_ORDERS = 1_000_000;
const MAX_ALLOWED = 1000;
/** In `issuers` of a proxy: the CA of this system. */
const RESERVED_NAME = 'internal';
export const LETS_ENCRYPT = 'https://acme-v02.api.letsencrypt.org/directory';

const printable = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .regex(/^[\x21-\x7e]+$/, 'has to be of printable ASCII without spaces');

/** @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.1 | RFC 8555 §6.1} */
const directory = z
  .string()
  .max(MAX_TEXT)
  .refine(isDirectory, `has to be an https URL of an ACME directory, such as ${LETS_ENCRYPT}`);

function isDirectory(text: string): boolean {
  const url = URL.parse(text);
  return url?.protocol === 'https:' && url.username === '' && url.password === '' && url.hash === '';
}

/** Why a text can't be trusted as authorities; undefined when it can. */
export function trustFault(pem: string): string | undefined {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) return 'has to hold certificates as PEM';
  try {
    for (const block of blocks) new X509Certificate(block);
    return undefined;
  } catch {
    // Why is of no use to who wrote it: OpenSSL tells of its own insides.
    return 'holds a certificate that can not be read';
  }
}

const caFile = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .optional()
  .describe('PEM file of authorities that are trusted for the directory, besides those of the system');
const caPem = z
  .string()
  .max(MAX_PEM)
  .refine((text) => trustFault(text) === undefined, 'has to hold certificates as PEM')
  .optional()
  .describe('The same, written here');

const issuer = z
  .strictObject({
    name: z
      .string()
      .regex(
        /^[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?$/,
        'has to begin with a letter and be of at most 32 lower case letters, digits and -, such as zerossl',
      )
      .describe('As request_certificate takes it'),
    directory: directory.describe('ACME directory'),
    ca_file: caFile,
    ca_pem: caPem,
    eab_key_id: printable
      .optional()
      .describe('Key id of the external account binding, as the CA gives it out'),
    eab_hmac_key: printable
      .regex(/^[A-Za-z0-9_-]+={0,2}$/, 'has to be base64url, as the CA gives it out')
      .optional()
      .meta({ secret: true })
      .describe('Its HMAC key in base64url; better: eab_hmac_key_file'),
    eab_hmac_key_file: z
      .string()
      .min(1)
      .max(MAX_TEXT)
      .optional()
      .describe('File that holds the HMAC key and nothing else'),
    profile: printable
      .optional()
      .describe('Certificate profile of the CA, such as shortlived; absent: its usual one'),
    preferred_chain: z
      .string()
      .min(1)
      .max(MAX_TEXT)
      .optional()
      .describe('Common name of a root that the chain should lead to, where the CA offers several'),
  })
  .check(({ value, issues }) => {
    const add = (key: string, message: string) =>
      issues.push({ code: 'custom', input: value, message, path: [key] });
    if (value.ca_file !== undefined && value.ca_pem !== undefined)
      add('ca_pem', 'is set beside ca_file; one of them is enough');
    const keys = [value.eab_hmac_key, value.eab_hmac_key_file].filter((key) => key !== undefined).length;
    if (keys !== (value.eab_key_id === undefined ? 0 : 1))
      add(
        'eab_key_id',
        'needs exactly one of eab_hmac_key_file and eab_hmac_key beside it, and they need it',
      );
  });

const onDemand = z
  .strictObject({
    allow: z
      .array(
        z
          .string()
          .refine(
            (text) => parseHostnamePattern(text) !== undefined,
            'has to be a hostname such as app.example.com, or *.example.com',
          )
          .overwrite((text) => parseHostnamePattern(text) ?? text),
      )
      .min(1)
      .max(MAX_ALLOWED)
      .optional()
      .describe('Names that may have one: hostnames and *.example.com; absent: those that ask allows'),
    ask: z
      .string()
      .max(MAX_TEXT)
      .refine(
        isServiceUrl,
        'has to be an http or https URL without a user name and at no link-local address, such as http://127.0.0.1:5000/allowed',
      )
      .optional()
      .describe(
        'A service of yours that is asked for each name, by GET with ?domain=; 2xx allows, all else and silence refuse',
      ),
    per_minute: z
      .int()
      .min(1)
      .max(MAX_ORDERS)
      .default(10)
      .describe('Orders in a minute; below one wildcard, half of them'),
    per_wildcard_per_day: z
      .int()
      .min(1)
      .max(MAX_ORDERS)
      .default(50)
      .describe('Orders of one wildcard in a day'),
    per_domain_per_day: z
      .int()
      .min(1)
      .max(MAX_ORDERS)
      .default(100)
      .describe('Orders of all wildcards of one registered domain in a day'),
  })
  .check(({ value, issues }) => {
    if (value.allow === undefined && value.ask === undefined)
      issues.push({
        code: 'custom',
        input: value,
        message: 'needs allow or ask, or both: strangers choose the names',
        path: [],
      });
  });

export const acmeSchema = z
  .strictObject({
    mode: z
      .enum(['auto', 'off'])
      .default('auto')
      .describe(
        'auto orders a certificate for every hostname that is served, once bind is not loopback or a directory is set; off: none is ordered',
      ),
    directory: directory
      .optional()
      .describe(`ACME directory of the CA; absent: that of Let's Encrypt, ${LETS_ENCRYPT}`),
    email: z
      .email()
      .max(MAX_EMAIL)
      .optional()
      .describe('Where the CA can reach a person; given to it with the account'),
    ca_file: caFile,
    ca_pem: caPem,
    issuers: z
      .array(issuer)
      .max(MAX_ISSUERS)
      .default([])
      .describe('In place of directory: several CAs in order of preference'),
    orders_per_owner_per_day: z
      .int()
      .min(1)
      .max(MAX_ORDERS)
      .default(50)
      .describe(
        'Orders in a day in the name of one user or token that is confined to hostnames, with all tokens that it made; renewals do not count',
      ),
    orders_per_owner_per_week: z.int().min(1).max(MAX_ORDERS).default(200).describe('The same in seven days'),
    on_demand: onDemand
      .optional()
      .describe(
        'Certificates for names below a wildcard, each ordered when somebody comes for it, where the wildcard can have none itself or its proxy wants it so; absent: none',
      ),
  })
  .check(({ value, issues }) => {
    const add = (path: (string | number)[], message: string) =>
      issues.push({ code: 'custom', input: value, message, path });
    if (value.ca_file !== undefined && value.ca_pem !== undefined)
      add(['ca_pem'], 'is set beside ca_file; one of them is enough');
    if (value.issuers.length > 0 && value.directory !== undefined)
      add(['directory'], 'is set beside issuers, which takes its place; keep one of them');
    for (const [index, { name }] of value.issuers.entries())
      if (name === RESERVED_NAME) add(['issuers', index, 'name'], 'is the name of the CA of this system');
      else if (value.issuers.slice(0, index).some((other) => other.name === name))
        add(['issuers', index, 'name'], 'is that of another entry');
  })
  .prefault({});
