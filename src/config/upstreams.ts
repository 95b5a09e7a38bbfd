/** Providers elsewhere by which people sign in: what may be written of one, and what has to fit together. */
import { z } from 'zod';
import { parseHostname } from '../core/hostname.ts';

const MAX_UPSTREAMS = 20;
const MAX_LIST = 1000;
const MAX_TEXT = 500;
const MAX_TITLE = 40;
export const GITHUB_URL = 'https://github.com';
const GITHUB_GROUPS_SCOPE = 'read:org';

const lowerCase = (text: string): string => text.toLowerCase();
/** @see {@link https://www.rfc-editor.org/rfc/rfc6749#appendix-A | RFC 6749 Appendix A.1–2, A.4} */
const PRINTABLE = /^[\x21-\x7e]+$/;
/** As in `users/schema.ts`: what is not kept of a person can't let them in. */
const MAX_GROUP = 90;
const GROUP = /^[A-Za-z0-9/][A-Za-z0-9._:/@-]*$/;
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+$/;
/** What `list_users` calls the ways to sign in that are not by a provider. */
const TAKEN = ['password', 'passkey'];

const printable = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .regex(PRINTABLE, 'has to be of printable ASCII without spaces');

const allow = z
  .strictObject({
    everyone: z.boolean().default(false).describe('Whoever the provider knows: at GitHub or Google, anybody'),
    emails: z
      .array(z.email().overwrite(lowerCase))
      .max(MAX_LIST)
      .default([])
      .describe('Addresses that the provider has verified'),
    domains: z
      .array(
        z
          .string()
          .refine((text) => parseHostname(text) !== undefined, 'has to be a domain such as example.com')
          .overwrite((text) => parseHostname(text) ?? text),
      )
      .max(MAX_LIST)
      .default([])
      .describe('Domains of such addresses, without what is below them'),
    groups: z
      .array(
        z
          .string()
          .max(MAX_GROUP)
          .regex(GROUP, 'has to be of letters, digits and . _ : / @ - as no other group is kept'),
      )
      .max(MAX_LIST)
      .default([])
      .describe('Groups as the provider names them; at GitHub organization or organization/team'),
  })
  .optional();

const entry = z.strictObject({
  name: z
    .string()
    .regex(
      /^[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?$/,
      'has to begin with a letter and be of at most 32 lower case letters, digits and -, such as google',
    )
    .refine((text) => !TAKEN.includes(text), `must not be ${TAKEN.join(' or ')}`)
    .describe('Part of the callback URL that is registered at the provider, and of the names of its groups'),
  title: z
    .string()
    .max(MAX_TITLE)
    .regex(/^[\p{L}\p{N}\p{P}\p{S}]+(?: [\p{L}\p{N}\p{P}\p{S}]+)*$/u, 'has to be a short name such as Google')
    .describe('On the button of the sign-in page'),
  kind: z
    .enum(['oidc', 'github'])
    .describe('oidc: Google, Entra, Keycloak and whoever speaks OpenID Connect'),
  issuer: z
    .string()
    .max(MAX_TEXT)
    .optional()
    .describe(`oidc: as in its discovery document; github: only of an Enterprise server, else ${GITHUB_URL}`),
  client_id: printable.describe('Of the application that was registered at the provider'),
  client_secret: printable.optional().meta({ secret: true }).describe('Better: client_secret_file'),
  client_secret_file: z
    .string()
    .min(1)
    .optional()
    .describe('File that holds the client secret and nothing else'),
  scopes: z
    .array(z.string().max(MAX_TEXT).regex(SCOPE, 'has to be a scope such as profile'))
    .min(1)
    .max(MAX_LIST)
    .optional()
    .describe(
      `What is asked for; absent: openid email profile, at GitHub user:email. Groups of GitHub take ${GITHUB_GROUPS_SCOPE}`,
    ),
  groups_claim: printable
    .optional()
    .describe('oidc: the claim that lists the groups of a person, such as groups; absent: none'),
  allow: allow.describe(
    'Who may come by it; one match is enough. Absent: whoever has linked it to their account, or is invited',
  ),
  create_users: z.boolean().default(false).describe('Whether who is allowed and has no account gets one'),
  role: z
    .enum(['none', 'viewer', 'operator'])
    .default('viewer')
    .describe('Of an account that is made so; update_user changes it'),
});

type Entry = z.output<typeof entry>;
type Fault = readonly [key: keyof Entry | 'allow.groups', message: string];

function* faultsOf(settings: Entry): Generator<Fault> {
  yield* settings.kind === 'github' ? faultsOfGitHub(settings) : faultsOfOidc(settings);
  if ((settings.client_secret === undefined) === (settings.client_secret_file === undefined))
    yield ['client_id', 'needs exactly one of client_secret_file and client_secret beside it'];
  if (settings.allow && !letsSomebodyIn(settings.allow))
    yield ['allow', 'lets nobody in: set everyone to true, or name emails, domains or groups'];
  if (settings.create_users && !settings.allow)
    yield ['create_users', 'needs allow, which says who gets an account'];
}

function* faultsOfOidc({ issuer, scopes, allow: allowed, groups_claim: claim }: Entry): Generator<Fault> {
  const fault = issuerFault(issuer);
  if (fault !== undefined) yield ['issuer', fault];
  if (scopes && !scopes.includes('openid'))
    yield ['scopes', 'have to include openid, without which OpenID Connect says nothing of a person'];
  if (allowed && allowed.groups.length > 0 && claim === undefined)
    yield ['allow.groups', 'needs groups_claim beside allow'];
}

function* faultsOfGitHub({ issuer, scopes, allow: allowed, groups_claim: claim }: Entry): Generator<Fault> {
  const fault = issuer === undefined ? undefined : (issuerFault(issuer) ?? pathFault(issuer));
  if (fault !== undefined) yield ['issuer', fault];
  if (claim !== undefined)
    yield ['groups_claim', `is for oidc; at GitHub the scope ${GITHUB_GROUPS_SCOPE} brings the groups`];
  if (allowed && allowed.groups.length > 0 && !scopes?.includes(GITHUB_GROUPS_SCOPE))
    yield ['allow.groups', `needs scopes: [user:email, ${GITHUB_GROUPS_SCOPE}] beside allow`];
}

const letsSomebodyIn = ({ everyone, emails, domains, groups }: NonNullable<Entry['allow']>): boolean =>
  everyone || emails.length + domains.length + groups.length > 0;

const WEB = /^https?:$/;
const LOOPBACK = /^(?:localhost|(?:[a-z0-9-]+\.)+localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Why a text can't name who issues identities; undefined when it can. @see OpenID Connect Discovery 1.0 §3 */
function issuerFault(text = ''): string | undefined {
  const url = URL.parse(text);
  if (!url || !WEB.test(url.protocol)) return 'has to be an https URL such as https://accounts.google.com';
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname))
    return 'has to be https: plain HTTP is for this machine only';
  return url.username !== '' || url.password !== '' || /[?#]/.test(text)
    ? 'has to be without a user name, password, query or fragment'
    : undefined;
}

function pathFault(text: string): string | undefined {
  const { pathname, origin } = new URL(text);
  return pathname === '/' ? undefined : `has to be without a path: ${origin}`;
}

/** Who somebody is, is remembered by issuer: two entries of one issuer would be one. */
const issuerKey = ({ kind, issuer }: Entry): string =>
  (issuer ?? (kind === 'github' ? GITHUB_URL : '')).replace(/\/$/, '');

/** Each later one that is like an earlier one. */
function* repeated(list: readonly Entry[]): Generator<readonly [index: number, ...Fault]> {
  for (const [index, one] of list.entries()) {
    const before = list.slice(0, index);
    if (before.some(({ name }) => name === one.name)) yield [index, 'name', 'is that of another entry'];
    if (before.some((other) => issuerKey(other) === issuerKey(one)))
      yield [index, 'issuer', 'is that of another entry; one entry for each issuer'];
  }
}

export const upstreamList = z
  .array(
    entry.check(({ value, issues }) => {
      for (const [key, message] of faultsOf(value))
        issues.push({ code: 'custom', input: value, message, path: key.split('.') });
    }),
  )
  .max(MAX_UPSTREAMS)
  .check(({ value, issues }) => {
    for (const [index, key, message] of repeated(value))
      issues.push({ code: 'custom', input: value, message, path: [index, ...key.split('.')] });
  })
  .default([])
  .describe('Providers elsewhere by which people sign in: docs/guides/sign-in-with-github-or-google.md');
