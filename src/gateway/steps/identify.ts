/** Brings host and path into their one canonical form and finds out what kind of request it is. */
import { matchRequest } from '../../routes/match.ts';
import { type Authority, normaliseTarget, parseAuthority } from '../../routes/normalise.ts';
import { countOf } from '../bearer.ts';
import { isHttp2Request } from '../client.ts';
import { authorityOf } from '../control-hosts.ts';
import type { Kind, Transit } from '../transit.ts';
import { ACME_PREFIX, mcpPaths, metadataPaths } from '../well-known.ts';

/** @see {@link https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2 | RFC 9112 §3.2.2} */
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]*)(.*)$/i;

export function identify(transit: Transit): boolean {
  const read = readTarget(transit);
  if ('fault' in read) return badRequest(transit, read.fault);
  const { authority, target } = read;
  const parsed = normaliseTarget(target);
  if (!parsed) return badRequest(transit, 'The path is not acceptable.');
  transit.hostname = authority.hostname;
  transit.port = authority.port;
  transit.authority = authorityOf(authority.hostname, authority.port, transit.scheme);
  transit.path = parsed.path;
  transit.query = parsed.query;
  const kind = kindOf(transit);
  if (kind === undefined) return notServed(transit);
  transit.kind = kind;
  return false;
}

type Read = { authority: Authority; target: string } | { fault: string };

function readTarget(transit: Transit): Read {
  const { request, headers, rawHeaders } = transit;
  if (countOf(rawHeaders, 'host') > 1) return { fault: 'There is more than one Host field.' };
  const pseudo = isHttp2Request(request) ? headers[':authority'] : undefined;
  const named = parsedHost(typeof pseudo === 'string' ? pseudo : headers.host);
  if (!named) return { fault: 'The Host field is missing or is not a host.' };
  // RFC 9113 §8.3.1: beside :authority, Host may only repeat it.
  if (pseudo !== undefined && headers.host !== undefined && !isSame(named, parsedHost(headers.host)))
    return { fault: 'Host and :authority differ.' };
  const url = request.url ?? '';
  const absolute = url.startsWith('/') ? null : ABSOLUTE_FORM.exec(url);
  if (!absolute) return { authority: named, target: url };
  if (!isSame(named, parsedHost(absolute[1]))) return { fault: 'The Host field and the target differ.' };
  const rest = absolute[2] ?? '';
  return { authority: named, target: rest.startsWith('/') ? rest : `/${rest}` };
}

const parsedHost = (text: string | undefined): Authority | undefined =>
  text === undefined ? undefined : parseAuthority(text);

const isSame = (a: Authority, b: Authority | undefined): boolean =>
  a.hostname === b?.hostname && a.port === b.port;

function kindOf(transit: Transit): Kind | undefined {
  const { core, hostname, path, isLocal } = transit;
  if (path.startsWith(ACME_PREFIX)) return 'acme';
  if (core.hosts.isControl(hostname, isLocal)) {
    if (mcpPaths.has(path)) return 'mcp';
    return metadataPaths.has(path) ? 'metadata' : 'control';
  }
  return servedKind(transit);
}

function servedKind(transit: Transit): Kind | undefined {
  const { core, hostname, path, method, snapshot } = transit;
  const match = matchRequest(snapshot.table, hostname, method, path);
  if (!match) return undefined;
  transit.match = match;
  if (match.proxy.serve_mcp && core.hosts.answersMcp(hostname)) {
    if (mcpPaths.has(path)) return 'mcp';
    if (metadataPaths.has(path)) return 'metadata';
  }
  return transit.upgrade ? 'upgrade' : 'proxied';
}

function badRequest(transit: Transit, message: string): true {
  return transit.refuse({ status: 400, code: 'INVALID_INPUT', message, reason: message });
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20 | RFC 9110 §15.5.20} */
function notServed(transit: Transit): true {
  return transit.refuse({ status: 421, code: 'NOT_FOUND', message: 'This hostname is not served here.' });
}
