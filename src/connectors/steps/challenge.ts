/**
 * The refusal that a client's sign-in begins with.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-5.1 | RFC 9728 §5.1} and RFC 6750 §3
 */
import { unexpected } from '../answers.ts';
import { hello } from '../requests.ts';
import { type Finding, isTargets, quoted, type Step, urlOf, type Walk } from '../step.ts';
import type { Answered } from '../wire.ts';

export const challenge: Step = async (walk: Walk) => {
  const { subject, profile } = walk;
  const [era = 'legacy'] = profile.eras;
  const asked = hello(era, profile, profile.probeAccept);
  const requested = `POST ${subject.url.pathname} without a credential`;
  const answered = await subject.wire.ask(urlOf(walk), asked);
  if (answered.status === 401) return { requested, ...refused(walk, answered) };
  // A server of the other era refuses the message and not the client.
  const isAnswered = answered.status < 300 || (answered.status === 400 && answered.json !== undefined);
  if (!isAnswered) return unexpected(subject, answered, requested);
  walk.isOpen = true;
  return {
    status: 'warning',
    requested,
    found: isTargets(subject)
      ? 'anyone is let in: clients connect without sign-in'
      : 'answered without a credential (mcp.access: public): clients connect without sign-in, and may do nearly nothing',
    remedy: isTargets(subject)
      ? `If that is not meant: protect_proxy ${subject.url.hostname}`
      : 'If that is not meant: mcp.access: authenticated',
  };
};

function refused(walk: Walk, { headers }: Answered): Finding {
  const { subject, profile } = walk;
  const field = headers['www-authenticate'];
  if (field === undefined)
    return {
      status: isTargets(subject) ? 'failed' : 'warning',
      found: '401 without WWW-Authenticate: clients are not told where to sign in',
      remedy: `The target answers so itself. Let it name resource_metadata, or take its sign-in off and protect_proxy ${subject.url.hostname}`,
    };
  if (!/^(?:.*,\s*)?Bearer\b/i.test(field))
    return {
      status: 'failed',
      found: `401 with another way to sign in: ${quoted(field)}`,
      remedy: `Clients know Bearer only: take the sign-in of the target off, and protect_proxy ${subject.url.hostname}`,
    };
  const metadataUrl = parameter(field, 'resource_metadata');
  walk.challenge = { metadataUrl: absolute(metadataUrl), scope: parameter(field, 'scope') };
  if (metadataUrl === undefined)
    return { status: 'warning', found: '401 without resource_metadata: clients try the well-known paths' };
  if (walk.challenge.metadataUrl === undefined)
    return {
      status: profile.needsAbsolute ? 'failed' : 'warning',
      found: `401 whose resource_metadata is no absolute URL: ${quoted(metadataUrl)}`,
      remedy: 'The target has to write the whole URL, https:// included (RFC 9728 §5.1)',
    };
  return readable(walk, headers) ?? { status: 'ok', found: `401, resource_metadata ${quoted(metadataUrl)}` };
}

/** A page sees of an answer what it is shown. */
function readable({ profile: { origin }, subject }: Walk, headers: Answered['headers']): Finding | undefined {
  if (origin === undefined) return undefined;
  const exposed = String(headers['access-control-expose-headers'] ?? '').toLowerCase();
  const isShown =
    headers['access-control-allow-origin'] !== undefined && exposed.includes('www-authenticate');
  if (isShown) return undefined;
  return {
    status: 'warning',
    found: '401, whose WWW-Authenticate a page can not read (Access-Control-Expose-Headers)',
    remedy: isTargets(subject)
      ? 'Let the target expose it, or connect by the proxy of the Inspector'
      : 'Connect by the proxy of the Inspector (connection type "Via Proxy")',
  };
}

const parameter = (field: string, name: string): string | undefined =>
  new RegExp(`\\b${name}\\s*=\\s*(?:"([^"]*)"|([^\\s,"]+))`, 'i')
    .exec(field)
    ?.slice(1)
    .find((value) => value !== undefined);

const absolute = (text: string | undefined): string | undefined =>
  text !== undefined && /^https?:\/\//i.test(text) ? URL.parse(text)?.href : undefined;
