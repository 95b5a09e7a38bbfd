/**
 * Whether the metadata is of the URL that the client has. One slash more or less is another one for some of them.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-3.3 | RFC 9728 §3.3}
 */
import { type Finding, isTargets, quoted, type Step, urlOf, type Walk } from '../step.ts';

export const resource: Step = async (walk: Walk) => {
  const told = walk.metadata?.resource ?? '';
  const url = urlOf(walk);
  const isSame = told === url || told === URL.parse(url)?.href;
  if (isSame) return { status: 'ok', found: `resource is ${quoted(told)}` };
  if (walk.profile.resource === 'within' && covers(told, url))
    return { status: 'ok', found: `resource ${quoted(told)} covers ${quoted(url)}` };
  return mismatch(walk, told, url);
};

function covers(told: string, url: string): boolean {
  const [one, other] = [URL.parse(told), URL.parse(url)];
  if (!one || !other || one.origin !== other.origin) return false;
  const slashed = (path: string) => (path.endsWith('/') ? path : `${path}/`);
  return slashed(other.pathname).startsWith(slashed(one.pathname));
}

function mismatch({ subject }: Walk, told: string, url: string): Finding {
  const found = `resource is ${quoted(told)}, and the client has ${quoted(url)}`;
  const { publicUrl } = subject;
  if (isTargets(subject))
    return {
      status: 'failed',
      found,
      remedy: `The target does not know under which URL it is reached: set its public URL to ${subject.url.origin}, or protect_proxy after taking its sign-in off`,
    };
  if (publicUrl?.hostname === subject.url.hostname && publicUrl.origin !== subject.url.origin)
    return {
      status: 'failed',
      found,
      remedy: `control.public_url (OHP_PUBLIC_URL) is ${publicUrl.origin}: give the client ${publicUrl.origin}${subject.url.pathname}, or correct the setting`,
    };
  return { status: 'failed', found, remedy: `Give the client ${quoted(told)}, to the letter` };
}
