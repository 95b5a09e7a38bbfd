/** What the adapters have in common: the client's side of the protocol, by `openid-client`, and its faults in words. */
import type { Configuration } from 'openid-client';
import { messageOf } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { NoAnswer } from './fetch.ts';
import { type Asked, type Begun, UpstreamFault, type UpstreamSettings } from './upstream.ts';

/** Loaded when somebody first signs in so. */
export const library = () => import('openid-client');

export type Library = Awaited<ReturnType<typeof library>>;

const MAX_REASON = 200;
const MAX_CAUSES = 4;

/** @see {@link https://www.rfc-editor.org/rfc/rfc7636 | RFC 7636}, S256 only */
export async function authorizeAt(
  configuration: Configuration,
  { scopes }: UpstreamSettings,
  { redirectUri, more }: Pick<Asked, 'redirectUri'> & { more: (nonce: string) => Record<string, string> },
): Promise<Begun> {
  const client = await library();
  const [state, nonce, verifier] = [
    client.randomState(),
    client.randomNonce(),
    client.randomPKCECodeVerifier(),
  ];
  const url = client.buildAuthorizationUrl(configuration, {
    redirect_uri: redirectUri,
    scope: scopes.join(' '),
    state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...more(nonce),
  });
  return { url: url.href, proof: { state, nonce, verifier } };
}

/** Runs what asks a provider; whatever goes wrong is a fault of it. */
export async function asking<T>(
  { title }: UpstreamSettings,
  ask: (client: Library) => Promise<T>,
): Promise<T> {
  const client = await library();
  try {
    return await ask(client);
  } catch (cause) {
    if (cause instanceof UpstreamFault) throw cause;
    if (cause instanceof client.AuthorizationResponseError) throw refused(title, cause.error, cause);
    throw isSilence(cause)
      ? new UpstreamFault(
          'UNAVAILABLE',
          `${title} does not answer now; try again in a moment, or sign in another way`,
          reasonOf(cause),
          cause,
        )
      : new UpstreamFault(
          'UPSTREAM_FAILED',
          `${title} gave an answer that is not accepted here; try again, or sign in another way`,
          reasonOf(cause),
          cause,
        );
  }
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1 | RFC 6749 §4.1.2.1} */
function refused(title: string, error: string, cause: unknown): UpstreamFault {
  const code = /^[a-z_]{1,40}$/.test(error) ? error : 'an error';
  return code === 'access_denied'
    ? new UpstreamFault(
        'UNAUTHENTICATED',
        `You were not signed in at ${title}, or said no there`,
        code,
        cause,
      )
    : new UpstreamFault('UPSTREAM_FAILED', `${title} did not sign you in (${code}); try again`, code, cause);
}

/** No answer, rather than a wrong one; the library keeps what `fetch` threw as the cause. */
function isSilence(cause: unknown): boolean {
  for (let one = cause; one instanceof Error; one = one.cause) if (one instanceof NoAnswer) return true;
  return false;
}

const CODE = /^[A-Za-z_]{1,60}$/;

/** `error` of an answer, such as `invalid_client`, is the provider's word, of the specification's words. */
function codesOf(cause: Error): string[] {
  const codes = ['error' in cause && cause.error, 'code' in cause && cause.code];
  return codes.filter((code): code is string => typeof code === 'string' && CODE.test(code));
}

/** Of each cause its message and codes, which the libraries wrote; what the provider wrote stays out. */
function reasonOf(cause: unknown): string {
  const parts: string[] = [];
  for (let one = cause; one instanceof Error && parts.length < MAX_CAUSES; one = one.cause) {
    parts.push(messageOf(one), ...codesOf(one));
  }
  return cleanText([...new Set(parts)].join(': '), MAX_REASON);
}
