/**
 * Header fields that say who someone is. No client's ever gets through the gateway, in any spelling, so that these and
 * no others may carry an identity to an upstream. Pure.
 */

/** The spelling in which names are compared; `x_real.ip` is `x-real-ip`. @see RFC 3875 §4.1.18 for where they meet */
export const canonicalName = (lowerCase: string): string => lowerCase.replace(/[^a-z0-9]/g, '-');

/** By its canonical name. */
export const isIdentityName = (canonical: string): boolean =>
  names.has(canonical) || prefixes.some((prefix) => canonical.startsWith(prefix));

const names = new Set([
  ...['user', 'email', 'groups', 'scopes', 'name', 'subject', 'roles', 'assertion'].map(
    (what) => `x-auth-${what}`,
  ),
  ...['user', 'email', 'groups', 'name', 'preferred-username', 'access-token', 'roles', 'id-token'].flatMap(
    (what) => [`x-forwarded-${what}`, `remote-${what}`, `x-remote-${what}`],
  ),
  'x-forwarded-preferred-username',
  'x-pomerium-jwt-assertion',
  'cf-access-jwt-assertion',
  'x-goog-iap-jwt-assertion',
  'x-client-verify',
  'x-client-dn',
  'client-cert',
  'client-cert-chain',
  'x-forwarded-client-cert',
  'x-forwarded-tls-client-cert',
  'x-forwarded-tls-client-cert-info',
  'x-arr-clientcert',
  'x-appengine-auth-domain',
  'x-appengine-inbound-appid',
  'x-amzn-request-context',
  'x-endpoint-api-userinfo',
  'x-apigateway-api-userinfo',
  'x-userinfo',
  'x-credential-identifier',
  'x-anonymous-consumer',
  'x-remote-uid',
  'x-envoy-internal',
  'iv-user',
  'iv-groups',
  'iv-creds',
]);
const prefixes = [
  'x-authenticated-',
  'x-auth-request-',
  'x-webauth-',
  'ssl-client-',
  'x-ssl-client-',
  'x-client-cert',
  'x-ssl-cert',
  'x-goog-authenticated-user-',
  'x-ms-client-principal',
  'x-amzn-oidc-',
  'cf-access-authenticated-user-',
  'tailscale-user-',
  'x-authentik-',
  'x-vouch-',
  'x-pomerium-claim-',
  'x-consumer-',
  'x-remote-group',
  'x-remote-extra-',
  'x-appengine-user-',
  'x-amzn-mtls-',
  'x-ms-token-',
  'wl-proxy-',
  'oidc-',
  'shib-',
  'mellon-',
  'oam-',
  'sm-user',
  'sm-universalid',
  // Written `$WSRU` and the like, in the spelling of here.
  '-ws',
];
