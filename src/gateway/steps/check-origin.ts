/**
 * Which web pages may talk to the control plane. A browser names the page's origin in a field that pages can't
 * forge, which is what stops DNS rebinding and cross-site requests; programs send none.
 */
import { baseUrlOf } from '../bearer.ts';
import type { Transit } from '../transit.ts';

const LOCAL_ORIGIN = /^https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::[1-9]\d{0,4})?$/;
const PREFLIGHT_SECONDS = 600;

const ALLOWED_HEADERS =
  'authorization, dpop, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, last-event-id, traceparent';
const EXPOSED_HEADERS = 'WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, X-Trace-Id';
const MCP_METHODS = 'GET, POST, DELETE, OPTIONS';

/** For REST and web: pages of the control host itself and no others. */
export function checkOrigin(transit: Transit): boolean {
  const { origin } = transit.headers;
  const isOwn = origin === undefined ? !isFetchedByOtherSite(transit) : isOwnOrigin(transit, origin);
  return isOwn ? false : refuse(transit);
}

/**
 * Browsers leave Origin out where a page reads without asking first, as for an image, and say so here. Who follows a
 * link is a person. @see {@link https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header | Fetch Metadata §2.4}
 */
function isFetchedByOtherSite({ headers, method }: Transit): boolean {
  if (headers['sec-fetch-site'] !== 'cross-site') return false;
  return headers['sec-fetch-mode'] !== 'navigate' || (method !== 'GET' && method !== 'HEAD');
}

/** For `/mcp`: also the origins that are set, and local pages where both ends are local. */
export function checkMcpOrigin(transit: Transit): boolean {
  const { headers, method, response } = transit;
  const { origin } = headers;
  if (origin !== undefined) {
    if (!isOwnOrigin(transit, origin) && !isAllowed(transit, origin)) return refuse(transit);
    response.setHeader('access-control-allow-origin', origin);
    response.setHeader('access-control-expose-headers', EXPOSED_HEADERS);
    response.setHeader('vary', 'origin');
  }
  return method === 'OPTIONS' ? answerPreflight(transit, MCP_METHODS) : false;
}

/** The metadata says nothing that is not for everyone. */
export function allowEveryOrigin(transit: Transit): boolean {
  transit.response.setHeader('access-control-allow-origin', '*');
  return transit.method === 'OPTIONS' ? answerPreflight(transit, 'GET, OPTIONS') : false;
}

/**
 * Compared to the letter: browsers send origins in one form only, and whatever has another, or is
 * two of them joined, is not a browser's.
 */
function isOwnOrigin(transit: Transit, origin: string): boolean {
  return origin === baseUrlOf(transit);
}

function isAllowed(transit: Transit, origin: string): boolean {
  const { core, match, isLocal } = transit;
  if (core.settings.mcp.allowedOrigins.includes(origin)) return true;
  return match === undefined && isLocal && LOCAL_ORIGIN.test(origin);
}

function refuse(transit: Transit): true {
  return transit.refuse({
    status: 403,
    code: 'FORBIDDEN',
    message: 'Pages of this origin may not call this server.',
    reason: 'origin not allowed',
  });
}

/** @see {@link https://fetch.spec.whatwg.org/#cors-preflight-fetch | Fetch §4.8} */
function answerPreflight(transit: Transit, methods: string): true {
  transit.status = 204;
  transit.response.writeHead(204, {
    ...transit.closing(),
    allow: methods,
    'access-control-allow-methods': methods,
    'access-control-allow-headers': ALLOWED_HEADERS,
    'access-control-max-age': String(PREFLIGHT_SECONDS),
  });
  transit.end();
  return true;
}
