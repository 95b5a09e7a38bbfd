/** Whether the client can come here at all: scheme, certificate, and what lies before this process. */
import { messageOf } from '../../core/errors.ts';
import { type Finding, isLocalName, type Step, type Walk } from '../step.ts';

export const reach: Step = async (walk: Walk) => {
  const { url } = walk.subject;
  const requested = url.protocol === 'https:' ? `TLS for ${url.host}` : url.origin;
  return { requested, ...(url.protocol === 'https:' ? await overTls(walk) : inTheClear(walk)) };
};

function inTheClear({ profile }: Walk): Finding {
  if (profile.runs === 'local') return { status: 'ok', found: 'plain HTTP, from this machine only' };
  return {
    status: 'failed',
    found: 'plain HTTP, which a client on the servers of its maker never uses',
    remedy: 'Give it the https URL of a public hostname',
  };
}

async function overTls({ subject, profile }: Walk): Promise<Finding> {
  const seen = await subject.wire.handshake(subject.url).catch((cause: unknown) => messageOf(cause));
  if (typeof seen === 'string')
    return {
      status: 'failed',
      found: `no TLS handshake: ${seen}`,
      remedy: 'list_certificates tells which hostname has none; import_certificate brings one',
    };
  if (isLocalName(subject.url) && profile.runs === 'hosted')
    return {
      status: 'warning',
      found: `${subject.url.hostname} is a name of this machine, which the servers of its maker can not reach`,
      remedy: 'Serve a public hostname, and give the client that',
    };
  if (seen.isPublic) return { status: 'ok', found: 'a certificate that everybody trusts' };
  if (!seen.isOwn)
    return {
      status: 'failed',
      found: `a certificate that nobody trusts: ${seen.fault ?? ''}`,
      remedy: 'import_certificate with the whole chain',
    };
  return profile.runs === 'hosted'
    ? {
        status: 'warning',
        found: 'a certificate of the authority of this system, which its maker does not trust',
        remedy: 'import_certificate, unless a front of yours shows another one',
      }
    : { status: 'ok', found: 'a certificate of the authority of this system (data/ca.pem)' };
}
