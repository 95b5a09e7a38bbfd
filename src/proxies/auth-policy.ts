/** Who may reach a target, as it is stored with a proxy or a route. Checked on write and again on read. */
import { z } from 'zod';
import { canonicalName, isIdentityName } from '../core/identity-headers.ts';
import { permissions } from '../core/permissions.ts';

/** What `create_proxy` and its siblings take; `protect_proxy` sets the rest. */
export const authChoice = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({ kind: z.literal('token'), permission: z.enum(permissions) }),
]);

/** One that matches is enough; where nothing matches, nobody gets in. */
const allowList = z.strictObject({
  /** Whoever can sign in. */
  everyone: z.boolean(),
  /** Ids. */
  users: z.array(z.string()),
  /** In lower case; only verified ones count. */
  emails: z.array(z.string()),
  domains: z.array(z.string()),
  groups: z.array(z.string()),
  /** OAuth clients and API tokens that come for themselves, by id. */
  clients: z.array(z.string()),
});
export type AllowList = z.output<typeof allowList>;

const MAX_HEADER_NAME = 100;
const FIELD_NAME = /^[A-Za-z0-9-]+$/;

/** Only names that no client gets through: else it could say itself who it is where the policy does not say it. */
const identityHeader = z
  .string()
  .max(MAX_HEADER_NAME)
  .refine(
    (name) => FIELD_NAME.test(name) && isIdentityName(canonicalName(name.toLowerCase())),
    'has to be a header that clients can never send, such as X-Auth-User, X-Forwarded-User, Remote-User, X-WebAuth-User or X-Authenticated-User',
  );
const optionalHeader = (usual: string) => identityHeader.nullable().default(usual);

/** How the upstream learns who it is. */
export const identityPolicy = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('headers'),
    user: optionalHeader('X-Auth-User'),
    email: optionalHeader('X-Auth-Email'),
    groups: optionalHeader('X-Auth-Groups'),
    scopes: optionalHeader('X-Auth-Scopes'),
  }),
  z.strictObject({ kind: z.literal('assertion'), header: identityHeader.default('X-Auth-Assertion') }),
  z.strictObject({ kind: z.literal('none') }),
]);
export type IdentityPolicy = z.output<typeof identityPolicy>;

const toolRule = z.strictObject({
  /** The name of a tool, or how names begin, with `*` at the end. */
  name: z.string(),
  /** One that matches is enough, as in `allow` of the policy; absent: nobody. */
  allow: allowList.optional(),
  deny: z.literal(true).optional(),
  /** That an access token needs for it, besides those of the policy. */
  scopes: z.array(z.string()),
  /** Of each caller, for each tool. */
  calls_per_minute: z.int().min(1).optional(),
});
export type ToolRule = z.output<typeof toolRule>;

const mcpPolicy = z.strictObject({
  /** Where the target speaks MCP, with all that is below. */
  path: z.string(),
  /** Tools that no rule is about. */
  default: z.enum(['allow', 'deny']),
  tools: z.array(toolRule),
});
export type McpPolicy = z.output<typeof mcpPolicy>;

const oauthPolicy = z.strictObject({
  kind: z.literal('oauth'),
  /** `redirect`: browsers sign in; `bearer`: access tokens; `auto`: whichever the request is made for. */
  mode: z.enum(['auto', 'redirect', 'bearer']),
  allow: allowList,
  /** That an access token needs, all of them. Never none: what asks for nothing is given without consent. */
  scopes: z.array(z.string()).min(1),
  /** Open to anyone, with all that is below them. */
  public_paths: z.array(z.string()),
  identity: identityPolicy,
  /** Which tools of an MCP server who may use; `mcp-policy.ts` decides by it. */
  mcp: mcpPolicy.optional(),
});
export type OAuthPolicy = z.output<typeof oauthPolicy>;

/** `token`: an API token with this permission, confined to this hostname or wider. */
export const authPolicy = z.discriminatedUnion('kind', [...authChoice.options, oauthPolicy]);
export type AuthPolicy = z.output<typeof authPolicy>;

/** In results: the whole policy, told to a model in as few words as do. */
export const toldPolicy = z
  .looseObject({ kind: z.enum(['none', 'token', 'oauth']) })
  .describe('Who gets through; get_protection explains oauth');

/** Of a proxy as it is stored; undefined when it can't be read. */
export function storedPolicy(document: string): AuthPolicy | undefined {
  return z.object({ auth: authPolicy }).safeParse(JSON.parse(document)).data?.auth;
}
