/** Brings host and path into their one canonical form and finds out what kind of request it is. */
import { isOAuthPath } from '../../oauth/paths.ts';
import { type ServedBy, servedBy } from '../../routes/decide.ts';
import { type Authority, authorityOf, normaliseTarget, parseAuthority } from '../../routes/normalise.ts';
import { countOf } from '../bearer.ts';
import { isHttp2Request } from '../client.ts';
import type { Guard } from '../guarded-ports.ts';
import type { Kind, Transit } from '../transit.ts';

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
  if (transit.connection.guard) return identifyGuarded(transit, transit.connection.guard);
  const kind = kindOf(transit);
  if (kind === undefined) return notServed(transit);
  transit.kind = kind;
  return false;
}

/** By the port it came to, whatever host it names: nothing else is served there, and nothing of it is public. */
function identifyGuarded(transit: Transit, { label, match }: Guard): false {
  transit.hostname = label;
  transit.match = match;
  transit.kind = transit.upgrade ? 'upgrade' : 'proxied';
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
  const { core, hostname, path, isLocal, snapshot } = transit;
  const served = servedBy(
    { hostname, path, method: forwardedMethod(transit) },
    core.hosts.isControl(hostname, isLocal),
    { table: snapshot.table, mcpHosts: core.settings.mcp.hosts },
  );
  transit.match = served?.match;
  if (served && 'policy' in served) transit.described = served.policy;
  return served && columnOf(served, transit);
}

/** The kind of request that the pipeline has a column for. */
function columnOf({ kind }: ServedBy, { upgrade, path }: Transit): Kind {
  switch (kind) {
    case 'proxied':
      return upgrade ? 'upgrade' : 'proxied';
    case 'control':
      return isOAuthPath(path) ? 'oauth' : 'control';
    case 'probe':
      return 'control';
    case 'acme':
    case 'mcp':
    case 'site':
    case 'metadata':
      return kind;
  }
}

/** What the upstream gets, which is what routes are about: an extended CONNECT becomes the GET of HTTP/1.1 (RFC 8441 §5). */
export const forwardedMethod = ({ isExtendedConnect, method }: Transit): string =>
  isExtendedConnect ? 'GET' : method;

function badRequest(transit: Transit, message: string): true {
  return transit.refuse({ status: 400, code: 'INVALID_INPUT', message, reason: message });
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20 | RFC 9110 §15.5.20} */
function notServed(transit: Transit): true {
  return transit.refuse({ status: 421, code: 'NOT_FOUND', message: 'This hostname is not served here.' });
}
