/** What the authorization server grants and refuses, told to whoever counts. */
import type Provider from 'oidc-provider';
import type { OAuthMeter } from '../core/meter.ts';

/** What can be asked for; the library knows no others. */
const grantTypes: readonly unknown[] = [
  'authorization_code',
  'refresh_token',
  'client_credentials',
  'urn:ietf:params:oauth:grant-type:device_code',
  'urn:ietf:params:oauth:grant-type:token-exchange',
];

export function countOn(provider: Provider, meter: OAuthMeter): void {
  provider.on('grant.success', ({ oidc }) => {
    const type = oidc.params?.grant_type;
    meter.granted(typeof type === 'string' && grantTypes.includes(type) ? type : 'other');
  });
  const refused = (endpoint: string) => (_context: unknown, error: unknown) =>
    meter.refused(endpoint, codeOf(error));
  provider.on('authorization.error', refused('authorization'));
  provider.on('grant.error', refused('token'));
  provider.on('registration_create.error', refused('registration'));
  provider.on('device_authorization.error', refused('device_authorization'));
  provider.on('introspection.error', refused('introspection'));
  provider.on('revocation.error', refused('revocation'));
  provider.on('userinfo.error', refused('userinfo'));
}

/** Of OAuth; what the library did not mean to say is `server_error`. */
const codeOf = (error: unknown): string =>
  error instanceof Error && 'error' in error && typeof error.error === 'string'
    ? error.error
    : 'server_error';
