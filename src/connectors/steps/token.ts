/**
 * A code for tokens, at the real endpoint. In the place of a person who agrees, this process issues the code for the
 * very user who asks for the diagnosis; without one it needs a person. @see RFC 6749 §4.1.3, RFC 7636 §4.5
 */
import { faultIn, isObject, textIn } from '../answers.ts';
import { pkcePair, scopeOf } from '../pkce-pair.ts';
import type { Answered, Asked } from '../wire.ts';
import { type Finding, quoted, type Step, type Walk } from '../step.ts';

export const NEEDS_PERSON =
  'needs a person: this was asked with a token, which nobody signs in with; attempts tell what real clients got';

/** Of the steps behind it. */
export const withoutTokens = ({ subject }: Walk): Finding => ({
  status: 'skipped',
  found: subject.isPerson ? 'not walked: there are no tokens' : NEEDS_PERSON,
});

export const token: Step = async (walk: Walk) => {
  const { subject, client, server } = walk;
  if (!subject.isPerson) return { status: 'skipped', found: NEEDS_PERSON, remedy: AS_A_USER };
  if (!client || !server)
    return { status: 'skipped', found: 'not walked: it takes a client that registered' };
  const signIn = subject.signInAt(server.issuer);
  if (!signIn)
    return { status: 'skipped', found: `needs a person: ${quoted(server.issuer)} is not of this system` };
  walk.atEnd.push(() => signIn.end());
  const { verifier, challenge } = pkcePair();
  const resource = walk.metadata?.resource ?? '';
  const { redirectUri } = walk.profile;
  const code = await signIn.code({
    issuer: server.issuer,
    clientId: client.id,
    redirectUri,
    resource,
    scope: scopeOf(walk),
    challenge,
  });
  return redeem(walk, {
    grant_type: 'authorization_code',
    code,
    redirect_uri: redirectUri,
    code_verifier: verifier,
    resource,
  });
};

const AS_A_USER =
  'To have these walked as well, ask as a signed-in user (ohp login --device, or a client that signed in)';

/** Leaves the tokens with the walk; nothing of them is told. */
export async function redeem(walk: Walk, form: Record<string, string>): Promise<Finding> {
  const { server, client, subject, profile } = walk;
  const endpoint = server?.tokenEndpoint ?? '';
  const requested = `POST ${URL.parse(endpoint)?.pathname ?? ''}, grant_type=${form['grant_type'] ?? ''}`;
  const body = new URLSearchParams({ ...form, client_id: client?.id ?? '' });
  const answered = await subject.wire.ask(endpoint, formOf(profile, body));
  const told = isObject(answered.json) ? answered.json : {};
  const access = textIn(told, 'access_token');
  if (answered.status !== 200 || access === undefined)
    return {
      status: 'failed',
      requested,
      found: `no tokens: ${faultIn(answered)}`,
      remedy: 'invalid_grant, or invalid_target: get_logs with path_prefix /oauth/token has the refusals',
    };
  walk.tokens = { access, refresh: textIn(told, 'refresh_token') };
  const notes = [
    ...(walk.tokens.refresh === undefined ? ['none of them to refresh with'] : []),
    ...(isStorable(answered) ? ['without Cache-Control: no-store'] : []),
  ];
  return {
    status: isStorable(answered) ? 'warning' : 'ok',
    requested,
    found: ['tokens', ...notes].join(', '),
  };
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc6749#section-5.1 | RFC 6749 §5.1} */
const isStorable = ({ headers }: Answered): boolean => !/\bno-store\b/i.test(headers['cache-control'] ?? '');

const formOf = ({ origin }: Walk['profile'], body: URLSearchParams): Asked => ({
  method: 'POST',
  once: true,
  headers: {
    'content-type': 'application/x-www-form-urlencoded',
    accept: 'application/json',
    ...(origin !== undefined && { origin }),
  },
  body: body.toString(),
});
