/** What `protect_proxy` takes. What is kept of it is in `proxies/auth-policy.ts`. */
import { z } from 'zod';
import { limits } from '../core/limits.ts';
import { bundleNames, permissions } from '../core/permissions.ts';
import { type AllowList, identityPolicy, toldPolicy } from '../proxies/auth-policy.ts';
import { isRuleName } from '../proxies/mcp-policy.ts';
import { routePath } from '../routes/schema.ts';

const MAX_LIST = 200;
const MAX_SCOPES = 20;
const MAX_PUBLIC_PATHS = 50;
const MAX_SCOPE = 64;
const MAX_TOOL_RULES = 200;
/** A call costs a whole number of milliseconds of its minute. */
const MAX_CALLS_PER_MINUTE = 60_000;
/** A subset of RFC 6749 §3.3, without what would need quoting somewhere. */
const SCOPE = /^[A-Za-z0-9][A-Za-z0-9._:/-]*$/;
const DOMAIN = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$/;

/** Those of this system mean something else: a consent page would promise what it does not give. */
const TAKEN: ReadonlySet<string> = new Set([
  ...permissions,
  ...bundleNames,
  'openid',
  'offline_access',
  'profile',
  'email',
  'groups',
]);

export const DEFAULT_SCOPES = ['access'];

const names = (description: string) =>
  z.array(z.string().min(1).max(limits.untrustedText)).max(MAX_LIST).default([]).describe(description);
const lowerCase = (text: string): string => text.trim().toLowerCase();

export const allowInput = z
  .strictObject({
    everyone: z.boolean().default(false).describe('Whoever can sign in'),
    users: names('Usernames or ids'),
    emails: z
      .array(z.email().max(limits.untrustedText).overwrite(lowerCase))
      .max(MAX_LIST)
      .default([])
      .describe('Verified addresses'),
    domains: z
      .array(
        z
          .string()
          .max(limits.untrustedText)
          .overwrite(lowerCase)
          .refine((text) => DOMAIN.test(text), 'has to be a domain such as example.com'),
      )
      .max(MAX_LIST)
      .default([])
      .describe('Domains of verified addresses, without what is below them'),
    groups: names('Groups, as in list_users'),
    clients: names('OAuth clients that come for themselves, and API tokens (tok_…), by id'),
  })
  .refine(letsSomebodyIn, {
    message:
      'lets nobody in: set everyone to true, or name users, emails, domains, groups or clients; to stop serving the hostname, use update_proxy with enabled false',
  });

export function letsSomebodyIn({ everyone, ...lists }: AllowList): boolean {
  return everyone || Object.values(lists).some((list) => list.length > 0);
}

const scope = z
  .string()
  .max(MAX_SCOPE)
  .refine((text) => SCOPE.test(text), 'has to be a word such as read or orders:write')
  .refine((text) => !TAKEN.has(text), 'means something else in this system; choose another word');

const publicPath = routePath.refine(
  (path) => path !== '/',
  'would let everybody in everywhere; use unprotect_proxy for that',
);

const toolRuleInput = z
  .strictObject({
    name: z
      .string()
      .max(limits.shortText)
      .refine(
        isRuleName,
        'has to be the name of a tool, or how names begin with * behind it, such as delete_*',
      )
      .describe('A tool, or how names begin: delete_*. The rule that says most of the name decides alone'),
    allow: allowInput
      .optional()
      .describe('Who may use it, of those who get through at all; one match is enough'),
    deny: z.literal(true).optional().describe('Nobody may'),
    scopes: z
      .array(scope)
      .max(MAX_SCOPES)
      .default([])
      .describe('Words that an access token needs for it, besides those of the policy'),
    calls_per_minute: z
      .int()
      .min(1)
      .max(MAX_CALLS_PER_MINUTE)
      .optional()
      .describe('Of each user or program, for each tool'),
  })
  .refine(({ allow, deny }) => (allow === undefined) !== (deny === undefined), {
    message:
      'has to say who may use it: either allow ({"everyone": true} for all who get through) or deny: true',
  })
  .refine((rule) => !rule.deny || (rule.scopes.length === 0 && rule.calls_per_minute === undefined), {
    message: 'denies to everybody, so scopes and calls_per_minute have no place in it',
  });

export const mcpInput = z.strictObject({
  path: routePath
    .default('/')
    .describe(
      'Where the target speaks MCP, with all below it. /: everywhere, so that no other path leads around',
    ),
  default: z.enum(['allow', 'deny']).default('deny').describe('Tools that no rule is about'),
  tools: z
    .array(toolRuleInput)
    .max(MAX_TOOL_RULES)
    .refine(
      (rules) => new Set(rules.map(({ name }) => name)).size === rules.length,
      'has two rules of one name',
    )
    .default([]),
});
export type McpInput = z.output<typeof mcpInput>;

export const protectionInput = {
  mode: z
    .enum(['auto', 'redirect', 'bearer'])
    .default('auto')
    .describe(
      'redirect: browsers sign in and have a cookie; bearer: access tokens; auto: whichever a request is made for',
    ),
  allow: allowInput.describe('Who gets through; one match is enough'),
  scopes: z
    .array(scope)
    .min(1)
    .max(MAX_SCOPES)
    .default(DEFAULT_SCOPES)
    .describe('Words that access tokens need, all of them; shown to who is asked for consent'),
  public_paths: z
    .array(publicPath)
    .max(MAX_PUBLIC_PATHS)
    .default([])
    .describe('Open to anyone, each with all below it, such as /assets'),
  identity: identityPolicy
    .prefault({ kind: 'headers' })
    .describe(
      "How the target learns who it is: headers of these names (null: not that one), an assertion (a JSON Web Token signed by this system), or none; a client's are always taken off",
    ),
  mcp: mcpInput
    .nullable()
    .optional()
    .describe('For an MCP server: who may use which tools. Absent: as it is; null: no rules, every tool'),
};

export const protectionSchema = z.object({
  hostname: z.string(),
  route: z.string().nullable().describe('Of which route; null: the proxy'),
  policy: toldPolicy,
  version: z.int().describe('Of the proxy or route'),
});
export type Protection = z.output<typeof protectionSchema>;

export const protectionsSchema = z.object({
  hostname: z.string(),
  policy: toldPolicy.describe("The proxy's own"),
  version: z.int(),
  routes: z
    .array(z.object({ route: z.string(), path: z.string(), policy: toldPolicy, version: z.int() }))
    .describe('Routes with a policy of their own'),
});
export type Protections = z.output<typeof protectionsSchema>;
