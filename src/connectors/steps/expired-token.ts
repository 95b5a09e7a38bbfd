/** A token that is not, or no longer, good has to be told so by 401: clients refresh at that and at nothing else. */
import { hello, withToken } from '../requests.ts';
import { type Step, urlOf, type Walk } from '../step.ts';

/** Of nobody's form: one that looks like ours is never passed on. */
const NO_TOKEN = 'diagnose-connector-no-token';

export const expiredToken: Step = async (walk: Walk) => {
  const { subject, profile } = walk;
  const [era = 'legacy'] = profile.eras;
  const { once: _once, ...asked } = withToken(hello(era, profile), NO_TOKEN);
  const { status, headers } = await subject.wire.ask(urlOf(walk), asked);
  const requested = 'POST with a token that is not good';
  if (status === 401 && headers['www-authenticate'] !== undefined)
    return { status: 'ok', requested, found: '401: clients refresh at that' };
  if (status === 429)
    return { status: 'skipped', requested, found: '429: this process was refused too often in this minute' };
  return {
    status: 'failed',
    requested,
    found: `${status}${status === 401 ? ' without WWW-Authenticate' : ''}: clients refresh at 401 only`,
    remedy: 'The target has to answer 401 with WWW-Authenticate (RFC 6750 §3)',
  };
};
