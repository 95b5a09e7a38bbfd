/** When the library has to ask: as it does by itself, and when the session's user is not who was signed in. */
import { interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider';
import { SECOND } from '../../core/clock.ts';

/** Whether a session that began then (milliseconds since 1970) still stands for this user. */
export type IsSignedIn = (userId: string, startedAt: number) => boolean;

/** A session outlives a moment in which its user was disabled or signed out everywhere; it is worth nothing then. */
export function policyWith(isSignedIn: IsSignedIn): readonly interactionPolicy.Prompt[] {
  const policy = interactionPolicy.base();
  const check = new interactionPolicy.Check(
    'session_over',
    'End-User authentication is required',
    'login_required',
    ({ oidc: { session } }: KoaContextWithOIDC) =>
      session?.accountId !== undefined && !isSignedIn(session.accountId, (session.loginTs ?? 0) * SECOND),
  );
  policy.get('login')?.checks.add(check);
  return policy;
}
