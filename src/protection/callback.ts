/** Where a browser may be sent back to after it signed in for a protected hostname. Pure. */
import { authorityOf, parseAuthority } from '../routes/normalise.ts';
import { sitePaths } from '../routes/own.ts';

const CALLBACK = /^(https?):\/\/([^/?#@]+)(\/[^?#]*)$/;

/**
 * The callback of a hostname where browsers sign in, and nothing else. Any port: cookies know no ports (RFC 6265 §8.5),
 * so that who has another port of the hostname has its sessions in any case, and a front may listen on any.
 */
export function isSiteCallback(uri: string, asksForSignIn: (hostname: string) => boolean): boolean {
  const [, scheme = '', authority = '', path] = CALLBACK.exec(uri) ?? [];
  const parsed = parseAuthority(authority);
  if (path !== sitePaths.callback || !parsed || (scheme !== 'https' && scheme !== 'http')) return false;
  const { hostname, port } = parsed;
  if (authority !== authorityOf(hostname, port, scheme)) return false;
  return (scheme === 'https' || isLoopbackName(hostname)) && asksForSignIn(hostname);
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc6761#section-6.3 | RFC 6761 §6.3} */
export const isLoopbackName = (hostname: string): boolean =>
  hostname === 'localhost' || hostname.endsWith('.localhost');
