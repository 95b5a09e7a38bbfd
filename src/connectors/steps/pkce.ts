/** @see {@link https://www.rfc-editor.org/rfc/rfc8414#section-2 | RFC 8414 §2}; MCP clients go no further without it. */
import { listIn } from '../answers.ts';
import type { Step, Walk } from '../step.ts';

export const pkce: Step = async ({ server }: Walk) => {
  const methods = listIn(server?.document ?? {}, 'code_challenge_methods_supported');
  if (!methods?.includes('S256'))
    return {
      status: 'failed',
      found: `code_challenge_methods_supported is ${JSON.stringify(methods ?? null)}`,
      remedy: 'The authorization server has to advertise S256',
    };
  if (server?.document['authorization_response_iss_parameter_supported'] !== true)
    return {
      status: 'warning',
      found: 'S256; its answers do not name their issuer (RFC 9207), which clients will ask for',
    };
  return { status: 'ok', found: 'S256; answers name their issuer' };
};
