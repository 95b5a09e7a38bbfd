/**
 * Sessions of a target belong to who opened them. The id that a client is given has a mark of its principal, so that
 * in other hands it is none. Nothing is remembered: a session outlives a restart here, and ids can't fill the memory.
 * @see MCP, Security Best Practices, Session Hijacking
 */
import { isSameText } from '../../core/same-text.ts';
import type { Transit } from '../transit.ts';
import { toolLimits } from './limits.ts';

const SEPARATOR = '.';
/** Of base64url, six bits each: enough that nobody guesses one at requests over a network. */
const MARK_LENGTH = 22;
/** @see MCP 2025-11-25, Transports, Session Management */
const SESSION_ID = /^[\x21-\x7e]+$/;

/** As the client gets it. @throws when the target gave none that is one. */
export function markedSession(transit: Transit, id: string): string {
  if (!SESSION_ID.test(id) || id.length > toolLimits.sessionId) throw new Error('the session id is not one');
  return id + SEPARATOR + markOf(transit, id);
}

/** As the target gave it; undefined: not to this principal. */
export function unmarkedSession(transit: Transit, marked: string): string | undefined {
  if (marked.length > toolLimits.sessionId + MARK_LENGTH + SEPARATOR.length) return undefined;
  const end = marked.length - MARK_LENGTH - SEPARATOR.length;
  const id = marked.slice(0, Math.max(0, end));
  if (id === '' || marked[end] !== SEPARATOR) return undefined;
  return isSameText(marked.slice(end + SEPARATOR.length), markOf(transit, id)) ? id : undefined;
}

function markOf({ core, hostname, principal }: Transit, id: string): string {
  return core.protection
    .mark(JSON.stringify(['mcp session', hostname, principal.id, id]))
    .slice(0, MARK_LENGTH);
}
