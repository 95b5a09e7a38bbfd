/** What the authorization server answers, for the registry of endpoints; other methods of these paths are refused. */
import type { Endpoint } from '../core/endpoints.ts';
import {
  ACCOUNT_PATH,
  CONFIRM_PREFIX,
  DISCOVERY,
  INTERACTION_PREFIX,
  INVITE_PATH,
  openPaths,
  PASSKEY_SCRIPT_PATH,
  PATHS,
  UPSTREAM_PREFIX,
} from './paths.ts';

type Row = readonly [path: string, methods: string, description: string];

// biome-ignore format: a table is read by its columns
const rows: readonly Row[] = [
  [PATHS.authorization, 'GET POST', 'A client asks a person to let it in (RFC 6749 §3.1)'],
  [`${PATHS.authorization}/{id}`, 'GET', 'Goes on after sign-in or consent'],
  [PATHS.token, 'POST', 'Tokens for a code, a refresh token, a device or a client (RFC 6749 §3.2)'],
  [PATHS.pushed_authorization_request, 'POST', 'An authorization request beforehand (RFC 9126)'],
  [PATHS.device_authorization, 'POST', 'A device asks for a code (RFC 8628)'],
  [PATHS.code_verification, 'GET POST', 'A person enters the code of a device (RFC 8628)'],
  [`${PATHS.code_verification}/{id}`, 'GET', 'Goes on after sign-in or consent'],
  [PATHS.revocation, 'POST', 'A client ends one of its tokens (RFC 7009)'],
  [PATHS.introspection, 'POST', 'What is in a token (RFC 7662)'],
  [PATHS.userinfo, 'GET POST', 'Who the user of a token is (OpenID Connect Core 1.0 §5.3)'],
  [PATHS.registration, 'POST', 'A client registers itself (RFC 7591)'],
  [`${PATHS.registration}/{id}`, 'GET PUT DELETE', 'A client manages its registration (RFC 7592)'],
  [PATHS.jwks, 'GET', 'Public keys (RFC 7517)'],
  [PATHS.end_session, 'GET POST', 'Signs a person out (OpenID Connect RP-Initiated Logout 1.0)'],
  [`${PATHS.end_session}/confirm`, 'POST', 'The person says so'],
  [`${PATHS.end_session}/success`, 'GET', 'The person is signed out'],
  [`${INTERACTION_PREFIX}{id}`, 'GET', 'Sign-in and consent'],
  [`${INTERACTION_PREFIX}{id}/{path}`, 'POST', 'A step of sign-in and consent'],
  [ACCOUNT_PATH, 'GET', "A person's own account"],
  [`${ACCOUNT_PATH}/{path}`, 'GET POST', 'A change of it'],
  [INVITE_PATH, 'GET', 'The link of an invitation'],
  [`${INVITE_PATH}/{path}`, 'POST', 'The person sets how they sign in'],
  [`${CONFIRM_PREFIX}{id}`, 'GET POST', 'A person agrees to one call of a client that can not ask, or refuses it'],
  [`${UPSTREAM_PREFIX}{id}/callback`, 'GET', 'A provider elsewhere has said who somebody is'],
  [PASSKEY_SCRIPT_PATH, 'GET', 'Script of the pages that take passkeys'],
  ...DISCOVERY.flatMap((path): Row[] => [
    [path, 'GET', 'What the authorization server can do (RFC 8414)'],
    [`${path}/{path}`, 'GET', 'The same, with a path inserted'],
  ]),
];

/** The library answers HEAD as GET; OPTIONS is answered where pages of other sites may ask. */
function withOthers(path: string, methods: readonly string[]): string[] {
  const isOpen = openPaths.has(path.replace(/\/\{\w+\}$/, ''));
  return [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), ...(isOpen ? ['OPTIONS'] : [])];
}

export const oauthEndpoints: readonly Endpoint[] = rows.map(([path, methods, description]) => ({
  path,
  methods: withOthers(path, methods.split(' ')),
  surface: 'web',
  hosts: 'control',
  gate: 'oauth',
  description,
}));

const patterns = oauthEndpoints.map(({ path, methods }) => ({
  pattern: new RegExp(
    `^${path
      .replaceAll('.', '\\.')
      .replace(/\{path\}/g, '.+')
      .replace(/\{id\}/g, '[^/]+')}$`,
  ),
  methods,
}));

/** Methods of a path; undefined when there is no such path. */
export const methodsOf = (path: string): readonly string[] | undefined =>
  patterns.find(({ pattern }) => pattern.test(path))?.methods;
