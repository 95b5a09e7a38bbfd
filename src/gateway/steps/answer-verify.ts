/**
 * Forward authentication: a front of the operator's own (nginx, Caddy, Traefik) asks for each request whether it may
 * pass, and who it is. The policy is that of the proxy here whose hostname it was made for. What is asked about comes
 * in header fields, which are believed from `gateway.trusted_proxies` and from nobody else: anyone could make up an
 * answer for a request that they never make.
 */
import { asksForCertificate, toolRulesAt } from '../../routes/decide.ts';
import { matchRequest } from '../../routes/match.ts';
import { authorityOf, normaliseTarget, parseAuthority } from '../../routes/normalise.ts';
import { VERIFY_PATH } from '../../routes/own.ts';
import { siteIssuerOf } from '../bearer.ts';
import { admissionOf, isPublic, type Visit } from '../protect.ts';
import type { Transit } from '../transit.ts';
import { authenticateVisit } from './authenticate.ts';
import { denyVisit } from './authorise.ts';

const METHOD = /^[A-Z][A-Z-]{0,31}$/;
const WHOLE_URL = /^(https?):\/\/([^/?#]*)([^#]*)$/;

export function answerVerify(transit: Transit): boolean {
  if (transit.path !== VERIFY_PATH || transit.upgrade) return false;
  if (transit.method !== 'GET' && transit.method !== 'HEAD')
    return transit.refuse({
      status: 405,
      code: 'INVALID_INPUT',
      message: 'Only GET is served here: the method that is asked about comes in X-Forwarded-Method.',
      headers: { allow: 'GET, HEAD' },
    });
  if (!transit.peer.isTrusted)
    return refuse(transit, 'Only a front that gateway.trusted_proxies names may ask here.');
  const visit = visitAskedAbout(transit);
  if (visit === undefined)
    return refuse(transit, 'Tell the request: X-Forwarded-Method, -Proto, -Host and -Uri, each once.');
  if (visit === 'certificate')
    return refuse(
      transit,
      'This hostname asks for client certificates (client_auth): send it through this system.',
    );
  if (visit === 'unprotected')
    return refuse(transit, 'This hostname is not protected here. Call protect_proxy for it first.');
  if (!isPublic(visit.policy, visit.path)) {
    if (authenticateVisit(transit, visit)) return true;
    if (admissionOf(transit, visit, transit.principal) !== 'in') return denyVisit(transit, visit);
  }
  if (toolRulesAt(visit.policy, visit.path))
    return refuse(
      transit,
      'This path has rules for tools, which need the body: send it through this system.',
    );
  return answer(transit, transit.core.protection.identityOf(visit.policy, transit.principal, visit.site));
}

function visitAskedAbout(transit: Transit): Visit | 'unprotected' | 'certificate' | undefined {
  const { snapshot, query } = transit;
  const asked = requestAskedAbout(transit);
  const authority = asked && parseAuthority(asked.host);
  const target = asked && normaliseTarget(asked.uri);
  if (!asked || !authority || !target || !METHOD.test(asked.method)) return undefined;
  const { hostname, port } = authority;
  const match = matchRequest(snapshot.table, hostname, asked.method, target.path);
  // Whoever asks has seen the handshake, and here nobody has.
  if (match && asksForCertificate(match.proxy)) return 'certificate';
  const policy = match?.auth;
  if (policy?.kind !== 'oauth') return 'unprotected';
  const { scheme, method } = asked;
  // In the clear the cookie would be seen by everyone on the way.
  if (scheme !== 'https') return undefined;
  return {
    policy,
    method,
    ...target,
    site: {
      hostname,
      origin: `${scheme}://${authorityOf(hostname, port, scheme)}`,
      isSecure: true,
      issuer: siteIssuerOf({ core: transit.core, scheme }),
    },
    isUpgrade: false,
    mayRedirect: query !== 'redirect=never',
  };
}

interface AskedRequest {
  readonly method: string;
  readonly scheme: 'http' | 'https';
  readonly host: string;
  readonly uri: string;
}

/** As Traefik and Caddy tell it, or as ingress-nginx does. A field that came twice is no method, host or path. */
function requestAskedAbout({ headers, scheme, method: own }: Transit): AskedRequest | undefined {
  const text = (name: string): string | undefined => {
    const value = headers[name];
    return typeof value === 'string' ? value : undefined;
  };
  const method = text('x-forwarded-method') ?? text('x-original-method') ?? own;
  const url = WHOLE_URL.exec(text('x-original-url') ?? '');
  if (url) {
    const [, proto = '', host = '', rest = ''] = url;
    return { method, scheme: proto === 'https' ? 'https' : 'http', host, uri: rest === '' ? '/' : rest };
  }
  const [host, uri] = [text('x-forwarded-host'), text('x-forwarded-uri')];
  return host === undefined || uri === undefined ? undefined : { method, scheme, host, uri };
}

/** Every header that the policy names is there, empty where nothing is known: a front would keep the client's. */
function answer(transit: Transit, identity: readonly string[]): true {
  const fields: Record<string, string> = {};
  for (let i = 0; i < identity.length; i += 2) fields[identity[i] ?? ''] = identity[i + 1] ?? '';
  transit.status = 200;
  transit.response.writeHead(200, {
    ...transit.closing(),
    ...fields,
    'cache-control': 'no-store',
    'content-length': '0',
  });
  transit.end();
  transit.discardBody();
  return true;
}

const refuse = (transit: Transit, message: string): true =>
  transit.refuse({ status: 403, code: 'FORBIDDEN', message, reason: message });
