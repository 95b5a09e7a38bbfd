/**
 * What a sign-in without an API token leaves: an access token for an hour, and a refresh token that gets the next one.
 * The endpoints are those of the very server that was named; what another names in their place is not followed.
 */
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import { CLI_CLIENT_ID } from '../../core/own-client.ts';
import { cleanText } from '../../core/untrusted.ts';
import { getDocument, postForm, type Server } from './client.ts';

const MAX_TEXT = 8192;
const MS_PER_SECOND = 1000;
/** A token that is good for less than this is not used for a call that may take as long. */
const MARGIN_MS = 60 * MS_PER_SECOND;

const text = z.string().min(1).max(MAX_TEXT);

export const sessionSchema = z.strictObject({
  refresh_token: text,
  token_endpoint: text,
  revocation_endpoint: text.optional(),
  /** Milliseconds since 1970. */
  expires_at: z.number(),
});
export type Session = z.output<typeof sessionSchema>;

/** @see {@link https://www.rfc-editor.org/rfc/rfc8414#section-2 | RFC 8414 §2} */
const metadataSchema = z.looseObject({
  issuer: text,
  token_endpoint: text,
  device_authorization_endpoint: text,
  revocation_endpoint: text.optional(),
});
export type Metadata = z.output<typeof metadataSchema>;

/** @see {@link https://www.rfc-editor.org/rfc/rfc6749#section-5.1 | RFC 6749 §5.1} */
const tokensSchema = z.looseObject({
  access_token: text,
  refresh_token: text,
  expires_in: z.number().positive(),
});

export interface Tokens {
  readonly token: string;
  readonly session: Session;
}

/** @throws AppError UPSTREAM_FAILED when it is no authorization server, or names somebody else's endpoints. */
export async function discover(server: Server, signal: AbortSignal): Promise<Metadata> {
  const answer = await getDocument(server, '/.well-known/oauth-authorization-server', signal);
  const metadata = metadataSchema.safeParse(answer);
  const { origin } = server.url;
  if (!metadata.success)
    throw new AppError(
      'UPSTREAM_FAILED',
      `${origin} has no sign-in for devices; use ohp login with an API token`,
    );
  const { issuer, token_endpoint, device_authorization_endpoint, revocation_endpoint } = metadata.data;
  const named = [issuer, token_endpoint, device_authorization_endpoint, revocation_endpoint ?? issuer];
  const foreign = named.find((url) => URL.parse(url)?.origin !== origin);
  if (foreign !== undefined)
    throw new AppError(
      'UPSTREAM_FAILED',
      `${origin} sends the sign-in to ${cleanText(foreign)}; name that host with --url if it is yours`,
    );
  return metadata.data;
}

/** @throws AppError UPSTREAM_FAILED. */
export function tokensIn(
  answer: unknown,
  { token_endpoint, revocation_endpoint }: Pick<Session, 'token_endpoint' | 'revocation_endpoint'>,
  now: number,
): Tokens {
  const read = tokensSchema.safeParse(answer);
  if (!read.success) throw new AppError('UPSTREAM_FAILED', 'the server answered the sign-in without tokens');
  const { access_token, refresh_token, expires_in } = read.data;
  return {
    token: access_token,
    session: {
      refresh_token,
      token_endpoint,
      ...(revocation_endpoint !== undefined && { revocation_endpoint }),
      expires_at: now + expires_in * MS_PER_SECOND,
    },
  };
}

export const isStale = ({ expires_at }: Session, now: number): boolean => expires_at - now < MARGIN_MS;

/** @throws AppError UNAUTHENTICATED when the sign-in is over. */
export async function refresh(server: Server, session: Session, signal: AbortSignal): Promise<Tokens> {
  const form = {
    grant_type: 'refresh_token',
    refresh_token: session.refresh_token,
    client_id: CLI_CLIENT_ID,
  };
  const { status, answer } = await postForm(server, pathOf(session.token_endpoint), form, signal);
  if (status === 200) return tokensIn(answer, session, Date.now());
  throw new AppError(
    'UNAUTHENTICATED',
    `the sign-in at ${server.url.origin} is over; sign in again with --device`,
  );
}

/** Returns whether the server took it back. */
export async function revoke(server: Server, session: Session, signal: AbortSignal): Promise<boolean> {
  if (session.revocation_endpoint === undefined) return false;
  const form = { token: session.refresh_token, client_id: CLI_CLIENT_ID };
  const { status } = await postForm(server, pathOf(session.revocation_endpoint), form, signal);
  return status === 200;
}

export const pathOf = (url: string): string => new URL(url).pathname;
