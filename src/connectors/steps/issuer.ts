/**
 * The authorization server's own metadata, in both forms.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8414#section-3 | RFC 8414 §3} and OpenID Connect Discovery 1.0 §4
 */
import { isObject, type JsonObject, listIn, nullsIn, textIn } from '../answers.ts';
import { DISCOVERY } from '../../oauth/paths.ts';
import type { ServerForm } from '../profiles.ts';
import { type Finding, isLocalName, quoted, type Step, type Walk } from '../step.ts';

const paths: Readonly<Record<ServerForm, string>> = { oauth: DISCOVERY[0], openid: DISCOVERY[1] };
const LOOPBACK = /^http:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?\//;

export const issuer: Step = async (walk: Walk) => {
  const { subject, metadata, profile } = walk;
  const [named = ''] = metadata?.authorizationServers ?? [];
  const url = URL.parse(named);
  if (!url) return failed(`authorization_servers names ${quoted(named)}, which is no URL`);
  if (!subject.wire.isOwn(url)) return elsewhere(url);
  const tried: string[] = [];
  let chosen: JsonObject | undefined;
  for (const [form, target] of formsOf(url, profile.server)) {
    const { status, json } = await subject.wire.ask(target, { headers: headersOf(walk) });
    const isThere = status === 200 && isObject(json);
    tried.push(`${form}: ${isThere ? 'yes' : status}`);
    if (isThere) chosen ??= json;
  }
  if (!chosen) return failed(`no metadata of ${quoted(named)} (${tried.join(', ')})`, named);
  return {
    requested: named,
    ...(remember(walk, named, chosen) ?? unreachable(walk, url) ?? { status: 'ok', found: tried.join(', ') }),
  };
};

/** Where the URL itself is one of this machine, `reach` has told so. */
function unreachable({ subject, profile }: Walk, url: URL): Finding | undefined {
  if (profile.runs === 'local' || !isLocalName(url) || isLocalName(subject.url)) return undefined;
  return {
    status: 'warning',
    found: `tokens are granted at ${url.host}, a name of this machine, which the servers of its maker can not reach`,
    remedy: REMEDY,
  };
}

const REMEDY = 'control.public_url (OHP_PUBLIC_URL) has to be the URL at which the control host is reached';

/** With the path inserted for both, and appended for OpenID, as MCP has it. An issuer of ours has no path. */
function formsOf(url: URL, order: readonly ServerForm[]): [string, string][] {
  const path = url.pathname === '/' ? '' : url.pathname.replace(/\/$/, '');
  return order.map((form) => [form, `${url.origin}${paths[form]}${path}`]);
}

const headersOf = ({ profile: { origin } }: Walk) => ({
  accept: 'application/json',
  'mcp-protocol-version': '2025-11-25',
  ...(origin !== undefined && { origin }),
});

const failed = (found: string, requested?: string): Finding => ({
  status: 'failed',
  requested,
  found,
  remedy: REMEDY,
});

const elsewhere = (url: URL): Finding => ({
  status: 'skipped',
  requested: url.href,
  found: `the target signs people in at ${quoted(url.host)}, which is not served here and not asked from here`,
  remedy: 'Look for the fault there, or take the sign-in of the target off and protect_proxy',
  ends: true,
});

function remember(walk: Walk, named: string, document: JsonObject): Finding | undefined {
  const told = textIn(document, 'issuer') ?? '';
  // RFC 8414 §3.3: identical to the letter.
  if (told !== named)
    return failed(
      `issuer is ${quoted(told)}, and was asked for as ${quoted(named)}: clients refuse it`,
      named,
    );
  const authorizationEndpoint = textIn(document, 'authorization_endpoint') ?? '';
  const tokenEndpoint = textIn(document, 'token_endpoint') ?? '';
  const unsafe = [authorizationEndpoint, tokenEndpoint].filter((url) => !isSafe(url));
  const nulls = nullsIn(document);
  const types = listIn(document, 'response_types_supported') ?? [];
  if (unsafe.length > 0)
    return failed(`an endpoint is missing or not over HTTPS: ${unsafe.map(quoted).join(' ')}`);
  if (nulls.length > 0) return failed(`${nulls.join(', ')} is null`);
  if (!types.includes('code')) return failed('response_types_supported is without "code"');
  walk.server = {
    issuer: told,
    authorizationEndpoint,
    tokenEndpoint,
    registrationEndpoint: textIn(document, 'registration_endpoint'),
    revocationEndpoint: textIn(document, 'revocation_endpoint'),
    document,
  };
  return undefined;
}

const isSafe = (url: string): boolean => url.startsWith('https://') || LOOPBACK.test(url);
