/** What clients may be and may ask, however they came: by registration, by the URL of their metadata, or made here. */
import {
  type Client,
  type ClientMetadata,
  type Configuration,
  errors,
  type KoaContextWithOIDC,
  type Provider,
} from 'oidc-provider';
import { CLI_CLIENT_ID } from '../core/own-client.ts';
import { DEFAULT_SCOPE, holds, type Permission } from '../core/permissions.ts';
import { isCreatedId } from './created-clients.ts';
import { isRedirectAllowed, redirectFault } from './redirects.ts';
import { permissionsOf } from './scopes.ts';

/** Members of RFC 7591 §2 that the library leaves alone. The check runs for every client, whenever it is read. */
export const clientMetadata: NonNullable<Configuration['extraClientMetadata']> = {
  properties: ['software_id', 'software_version'],
  validator: (...[, key, , metadata]) => {
    if (key !== 'software_id') return;
    // What a client may ask for is not a matter of its registration: a user decides. Current clients name there the
    // scopes of the resource, which the library takes for unknown ones of its own and refuses.
    delete metadata.scope;
    requireRedirects(metadata.redirect_uris);
    requireGrantTypes(metadata);
  },
};

/**
 * Nobody has let in a client that registered itself, so it can't act for itself.
 * @throws InvalidClientMetadata.
 */
function requireGrantTypes({ client_id, grant_types }: Partial<ClientMetadata>): void {
  if (isCreatedId(client_id) || !grant_types?.includes('client_credentials')) return;
  throw new errors.InvalidClientMetadata(
    'client_credentials is for clients that an administrator made (create_client)',
  );
}

/** @throws InvalidRedirectUri, which RFC 7591 §3.2.2 names. */
function requireRedirects(uris: readonly string[] | undefined): void {
  for (const uri of uris ?? []) {
    const fault = redirectFault(uri);
    if (fault !== undefined) throw new errors.InvalidRedirectUri(`a redirect_uri ${fault}`);
  }
}

/** The library's own comparison knows one port only for clients that say they are native, and few say so. */
export function allowRedirects(provider: Provider): void {
  provider.Client.prototype.redirectUriAllowed = function isAllowed(
    this: { redirectUris?: string[] },
    uri: string,
  ) {
    return isRedirectAllowed(this.redirectUris ?? [], uri);
  };
}

/** `ohp login --device`. */
export const cliClient: ClientMetadata = {
  client_id: CLI_CLIENT_ID,
  client_name: 'ohp, the command line',
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'none',
  grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
};

export const identityScopes: readonly string[] = ['openid', 'offline_access', 'profile', 'email', 'groups'];

export const isIdentityOnly = (scope: string | undefined): boolean =>
  scope !== undefined && scope !== '' && scope.split(' ').every((one) => identityScopes.includes(one));

/** A client that acts for itself can be given what an administrator gave it, and gets of that what it asks for. */
export function scopesFor(
  scopes: readonly string[],
  { oidc }: KoaContextWithOIDC,
  { clientId }: Client,
  clientPermissions: (clientId: string) => ReadonlySet<Permission> | undefined,
): readonly string[] {
  const { params } = oidc;
  if (params?.['grant_type'] !== 'client_credentials') return scopes;
  const held = clientPermissions(clientId) ?? new Set();
  const own = scopes.filter((scope) => permissionsOf(scope).size === 0 || isHeld(scope, held));
  params['scope'] ??= own.includes(DEFAULT_SCOPE) ? DEFAULT_SCOPE : own.join(' ') || undefined;
  return own;
}

const isHeld = (scope: string, held: ReadonlySet<Permission>): boolean =>
  [...permissionsOf(scope)].every((permission) => holds(held, permission));

/**
 * Its own tokens, or as somebody whom an administrator made: a resource server that asks about its callers.
 * @see {@link https://www.rfc-editor.org/rfc/rfc7662#section-4 | RFC 7662 §4}
 */
export const mayIntrospect = (client: Client, token: TokenFacts): boolean =>
  isOwnToken(client, token) || (isCreatedId(client.clientId) && client.clientAuthMethod !== 'none');

/** @see {@link https://www.rfc-editor.org/rfc/rfc7009#section-2.1 | RFC 7009 §2.1}: somebody else's is left alone. */
export const isOwnToken = ({ clientId }: Client, token: TokenFacts): boolean => token.clientId === clientId;

interface TokenFacts {
  readonly clientId?: string | undefined;
}
