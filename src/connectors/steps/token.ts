/**
 * A code for tokens, at the real endpoint. In the place of a person who agrees, this process issues the code for the
 * very user who asks for the diagnosis; without one it needs a person. @see RFC 6749 §4.1.3, RFC 7636 §4.5
 */
import { faultIn, isObject, textIn } from '../answers.ts';
import { pkcePair, scopeOf } from '../pkce-pair.ts';
import type { Finding, Step, Walk } from '../step.ts';

export const NEEDS_PERSON =
  'needs a person: asked for by a token, which nobody signs in with; attempts tell what real clients got';

export const token: Step = async (walk: Walk) => {
  const { subject, client, server } = walk;
  if (!subject.signIn) return { status: 'skipped', found: NEEDS_PERSON, remedy: AS_A_USER };
  if (!client || !server) return { status: 'skipped', found: 'not walked: it takes a client that registered' };
  const signIn = subject.signIn();
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
  const answered = await subject.wire.ask(endpoint, {
    method: 'POST',
    once: true,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      ...(profile.origin !== undefined && { origin: profile.origin }),
    },
    body: new URLSearchParams({ ...form, client_id: client?.id ?? '' }).toString(),
  });
  const told = isObject(answered.json) ? answered.json : {};
  const access = textIn(told, 'access_token');
  if (answered.status !== 200 || access === undefined)
    return {
      status: 'failed',
      requested,
      found: `no tokens: ${faultIn(answered)}`,
      remedy: 'invalid_grant: get_logs --component oauth says why; invalid_target: the URL is not the one that was signed in for',
    };
  walk.tokens = { access, refresh: textIn(told, 'refresh_token') };
  const isStored = !/\bno-store\b/i.test(answered.headers['cache-control'] ?? '');
  return {
    status: isStored ? 'warning' : 'ok',
    requested,
    found: `tokens${walk.tokens.refresh === undefined ? ', none of them to refresh with' : ''}${isStored ? ', without Cache-Control: no-store' : ''}`,
  };
}
