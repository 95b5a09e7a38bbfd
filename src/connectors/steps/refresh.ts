/** @see {@link https://www.rfc-editor.org/rfc/rfc6749#section-6 | RFC 6749 §6} */
import type { Step, Walk } from '../step.ts';
import { redeem, withoutTokens } from './token.ts';

export const refresh: Step = async (walk: Walk) => {
  const { tokens } = walk;
  if (!tokens) return withoutTokens(walk);
  if (tokens.refresh === undefined)
    return {
      status: 'warning',
      found: 'no refresh token: the person is asked again whenever the access token ends',
      remedy: 'The client has to register with the grant type refresh_token',
    };
  return redeem(walk, { grant_type: 'refresh_token', refresh_token: tokens.refresh });
};
