/** Where the authorization server answers, on its own hostname. Pure: the gateway asks too. */
export const PATHS = {
  authorization: '/oauth/authorize',
  code_verification: '/oauth/device',
  device_authorization: '/oauth/device/authorization',
  end_session: '/oauth/sign-out',
  introspection: '/oauth/introspect',
  jwks: '/oauth/jwks',
  pushed_authorization_request: '/oauth/par',
  registration: '/oauth/register',
  revocation: '/oauth/revoke',
  token: '/oauth/token',
  userinfo: '/oauth/userinfo',
} as const;

export const INTERACTION_PREFIX = '/oauth/interaction/';
/** Of our own pages, which the library knows nothing of. */
export const ACCOUNT_PATH = '/oauth/account';
export const INVITE_PATH = '/oauth/invite';
/** With the id of a call that waits for a person's yes. */
export const CONFIRM_PREFIX = '/oauth/confirm/';
/** Where a provider elsewhere sends the browser back to. */
export const UPSTREAM_PREFIX = '/oauth/upstream/';
export const callbackPathOf = (upstream: string): string => `${UPSTREAM_PREFIX}${upstream}/callback`;
export const PASSKEY_SCRIPT_PATH = '/oauth/assets/passkey.js';

const PREFIX = '/oauth/';
/** @see {@link https://www.rfc-editor.org/rfc/rfc8414#section-3 | RFC 8414 §3}; OpenID Connect Discovery 1.0 §4 */
export const DISCOVERY = [
  '/.well-known/oauth-authorization-server',
  '/.well-known/openid-configuration',
] as const;

export const isOAuthPath = (path: string): boolean =>
  path.startsWith(PREFIX) || DISCOVERY.some((known) => path === known || path.startsWith(`${known}/`));

export const isDiscovery = (path: string): boolean => DISCOVERY.some((known) => path === known);

/** Discovery with a path inserted asks for the same document: an issuer here has no path. */
export const plainPath = (path: string): string =>
  DISCOVERY.find((known) => path.startsWith(`${known}/`)) ?? path;

/** Read by pages of any origin: nothing there depends on a cookie. */
export const openPaths: ReadonlySet<string> = new Set([
  ...DISCOVERY,
  PATHS.jwks,
  PATHS.token,
  PATHS.registration,
  PATHS.revocation,
  PATHS.introspection,
  PATHS.userinfo,
  PATHS.pushed_authorization_request,
  PATHS.device_authorization,
]);
