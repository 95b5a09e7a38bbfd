/** The authorization request, as far as the page that asks who somebody is. @see RFC 6749 §4.1.1, RFC 8707 §2 */
import { type Finding, quoted, type Step, type Walk } from '../step.ts';
import type { Answered } from '../wire.ts';
import { pkcePair, scopeOf } from '../pkce-pair.ts';

export const authorize: Step = async (walk: Walk) => {
  const { server, client, profile, subject, metadata } = walk;
  if (!client || !server)
    return { status: 'skipped', found: 'not walked: it takes a client that registered' };
  const url = new URL(server.authorizationEndpoint);
  url.search = new URLSearchParams({
    response_type: 'code',
    client_id: client.id,
    redirect_uri: profile.redirectUri,
    resource: metadata?.resource ?? '',
    scope: scopeOf(walk),
    state: 'diagnose-connector',
    code_challenge: pkcePair().challenge,
    code_challenge_method: 'S256',
  }).toString();
  const answered = await subject.wire.ask(url, { once: true, headers: { accept: 'text/html' } });
  return { requested: `GET ${url.pathname}`, ...judge(walk, answered) };
};

function judge({ profile, server }: Walk, { status, headers, text }: Answered): Finding {
  const target = URL.parse(headers.location ?? '', server?.issuer);
  if (status === 302 || status === 303) {
    const error = target?.searchParams.get('error');
    if (typeof error !== 'string') return { status: 'ok', found: 'it leads to the sign-in page' };
    const why = target?.searchParams.get('error_description') ?? '';
    return refused(`${quoted(error)} ${quoted(why)} goes back to the client`, profile.redirectUri);
  }
  const [named = ''] = /\binvalid_[a-z_]+\b|\bunauthorized_client\b/.exec(text) ?? [];
  return refused(`${status} ${named}`.trim(), profile.redirectUri);
}

const refused = (found: string, redirectUri: string): Finding => ({
  status: 'failed',
  found: `refused before anybody could sign in: ${found}`,
  remedy: `invalid_target: no token is for this URL (get_protection); invalid_redirect_uri: ${quoted(redirectUri)} is not one of the client's`,
});
