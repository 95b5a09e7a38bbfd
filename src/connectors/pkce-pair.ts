/** What the requests of one sign-in have in common. */
import { createHash, randomBytes } from 'node:crypto';
import type { Walk } from './step.ts';

const VERIFIER_BYTES = 32;

/** @see {@link https://www.rfc-editor.org/rfc/rfc7636#section-4.1 | RFC 7636 §4.1} */
export function pkcePair(): { readonly verifier: string; readonly challenge: string } {
  const verifier = randomBytes(VERIFIER_BYTES).toString('base64url');
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') };
}

/** Of the challenge, else all that the metadata names. @see MCP 2026-07-28, Authorization, Scope Selection Strategy */
export const scopeOf = ({ challenge, metadata }: Walk): string =>
  challenge?.scope ?? metadata?.scopes.join(' ') ?? '';
