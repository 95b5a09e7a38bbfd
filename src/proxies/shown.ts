/**
 * A proxy as a caller sees it. A request header rule often carries the credential for the upstream, and no name tells
 * which one does: the values are for those who may set them. Response headers go to every visitor anyway.
 */
import type { Principal } from '../core/principal.ts';
import type { Proxy } from './schema.ts';

const HIDDEN = '(hidden)';

export function shownTo({ permissions }: Principal, proxy: Proxy): Proxy {
  if (permissions.has('proxies:write')) return proxy;
  const { remove, set } = proxy.request_headers;
  const hidden = Object.fromEntries(Object.keys(set).map((name) => [name, HIDDEN]));
  return { ...proxy, request_headers: { remove, set: hidden } };
}
