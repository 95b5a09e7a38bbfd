/**
 * What a browser asks before a page of another origin may call.
 * @see {@link https://fetch.spec.whatwg.org/#cors-preflight-fetch | Fetch §4.8}
 */
import { isOwnMcp, type OptionalStep, urlOf, type Walk } from '../step.ts';

const NEEDED = ['authorization', 'content-type', 'mcp-protocol-version'];

export const preflight: OptionalStep = async (walk: Walk) => {
  const { subject, profile } = walk;
  const { origin } = profile;
  if (origin === undefined) return undefined;
  const requested = `OPTIONS as a page of ${origin}`;
  const { status, headers } = await subject.wire.ask(urlOf(walk), {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': NEEDED.join(', '),
    },
  });
  const allowed = headers['access-control-allow-origin'];
  const fields = String(headers['access-control-allow-headers'] ?? '').toLowerCase();
  const missing = NEEDED.filter((name) => fields !== '*' && !fields.includes(name));
  const isAllowed = status < 300 && (allowed === origin || allowed === '*');
  if (isAllowed && missing.length === 0) return { status: 'ok', requested, found: 'pages of it may call' };
  return {
    // The guard of this system refuses all that such a page sends, and not the preflight alone.
    status: isOwnMcp(subject) && !isAllowed ? 'failed' : 'warning',
    requested,
    found: isAllowed ? `${missing.join(', ')} may not be sent` : `${status}: pages of it may not call`,
    remedy: isOwnMcp(subject)
      ? `Add the origin to mcp.allowed_origins, or connect by its own proxy (connection type "Via Proxy")`
      : `Let it connect by its own proxy (connection type "Via Proxy"): what a page may do is said by the target`,
  };
};
