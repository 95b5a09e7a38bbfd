/**
 * Authorizations: whether the CA believes that a name is ours, and the challenges by which it may be shown.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.5 | RFC 8555 §7.5} and §7.1.4
 */
import { z } from 'zod';
import { SECOND } from '../../core/clock.ts';
import { type Identifier, identifierSchema } from './identifier.ts';
import { type PollOptions, poll } from './poll.ts';
import { type Problem, parseProblem } from './problem.ts';
import { readJson } from './reply.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';
import type { Reply } from './transport.ts';

const MAX_URL = 2_048;
const MAX_TEXT = 255;
const MAX_CHALLENGES = 20;

export const challengeSchema = z.object({
  type: z.string().max(MAX_TEXT),
  url: z.string().max(MAX_URL),
  status: z.enum(['pending', 'processing', 'valid', 'invalid']),
  /** It becomes part of a path, a record and a certificate, so nothing but base64url. @see RFC 8555 §8.3 */
  token: z
    .string()
    .max(MAX_TEXT)
    .regex(/^[A-Za-z0-9_-]+$/)
    .optional(),
  validated: z.string().max(MAX_TEXT).nullish(),
  error: z.unknown().optional(),
});

export interface Challenge {
  /** `http-01`, `dns-01`, `tls-alpn-01`, or one that is not known here. */
  type: string;
  url: string;
  status: 'pending' | 'processing' | 'valid' | 'invalid';
  token: string | undefined;
  validated: string | undefined;
  /** Why it failed, or how an attempt went that the CA repeats. */
  error: Problem | undefined;
}

const authorizationSchema = z.object({
  identifier: identifierSchema,
  status: z.enum(['pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked']),
  expires: z.string().max(MAX_TEXT).nullish(),
  challenges: z.array(challengeSchema).max(MAX_CHALLENGES),
  wildcard: z.boolean().nullish(),
});

export interface Authorization {
  url: string;
  /** Without `*.`: whether the whole wildcard is meant is told by `wildcard`. */
  identifier: Identifier;
  status: z.output<typeof authorizationSchema>['status'];
  expires: string | undefined;
  wildcard: boolean;
  challenges: readonly Challenge[];
  retryAfterMs: number | undefined;
}

export async function getAuthorization(
  session: Session,
  account: AccountRef,
  url: string,
  call: Call,
): Promise<Authorization> {
  return authorizationOf(await session.post({ url, signer: signerOf(account) }, call), url);
}

export interface AuthorizationWait extends PollOptions {
  /**
   * The challenge that was answered, as it was before: it is over too when the CA has looked in vain since, and waits
   * to be asked again.
   */
  answered?: Pick<Challenge, 'url' | 'error'>;
}

/** A CA that has looked again and says the same as before is believed after so long; most look for less. */
export const SAME_ERROR_MS = 30 * SECOND;

/** Whether this is the challenge that was answered, with another error than it had. */
export const isNewError = ({ url, error }: Challenge, answered: AuthorizationWait['answered']): boolean =>
  url === answered?.url && error !== undefined && error.raw !== answered.error?.raw;

/**
 * As it is when it is not pending any more: `valid`, or why not in the error of a challenge; or still pending, when
 * nothing more will come of the challenge by itself. @throws AcmeFault deadline
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.2 | RFC 8555 §8.2}: what a CA repeats is `processing`,
 * and an error of an attempt before this one stays until it has looked again
 */
export async function pollAuthorization(
  session: Session,
  account: AccountRef,
  url: string,
  wait: AuthorizationWait,
): Promise<Authorization> {
  const { clock } = session;
  const { answered } = wait;
  const believedAt = clock.now() + SAME_ERROR_MS;
  const ask = () => getAuthorization(session, account, url, wait);
  const isLeft = (each: Challenge) =>
    each.status === 'pending' &&
    (isNewError(each, answered) ||
      (each.url === answered?.url && each.error !== undefined && clock.now() >= believedAt));
  return poll(clock, ask, ({ status, challenges }) => status !== 'pending' || challenges.some(isLeft), wait);
}

/** Gives it up, so that the CA believes no longer that the name is ours. @see RFC 8555 §7.5.2 */
export async function deactivateAuthorization(
  session: Session,
  account: AccountRef,
  url: string,
  call: Call,
): Promise<Authorization> {
  const payload = { status: 'deactivated' };
  return authorizationOf(await session.post({ url, signer: signerOf(account), payload }, call), url);
}

function authorizationOf(reply: Reply, url: string): Authorization {
  const { identifier, status, expires, challenges, wildcard } = readJson(reply, authorizationSchema);
  return {
    url,
    identifier,
    status,
    expires: expires ?? undefined,
    wildcard: wildcard === true,
    challenges: challenges.map(challengeOf),
    retryAfterMs: reply.retryAfterMs,
  };
}

export function challengeOf(challenge: z.output<typeof challengeSchema>): Challenge {
  const { type, url, status, token, validated, error } = challenge;
  return { type, url, status, token, validated: validated ?? undefined, error: parseProblem(error) };
}
