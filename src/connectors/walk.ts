/** The way of one client, step by step, to the first that fails. What was made on it is taken away again. */
import { messageOf } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Profile } from './profiles.ts';
import type { StepId } from './schema.ts';
import type { Finding, OptionalStep, Subject, Walk } from './step.ts';
import { authorize } from './steps/authorize.ts';
import { challenge } from './steps/challenge.ts';
import { expiredToken } from './steps/expired-token.ts';
import { initialize } from './steps/initialize.ts';
import { issuer } from './steps/issuer.ts';
import { pkce } from './steps/pkce.ts';
import { preflight } from './steps/preflight.ts';
import { reach } from './steps/reach.ts';
import { refresh } from './steps/refresh.ts';
import { registration } from './steps/registration.ts';
import { resource } from './steps/resource.ts';
import { resourceMetadata } from './steps/resource-metadata.ts';
import { served } from './steps/served.ts';
import { token } from './steps/token.ts';

/** `signIn`: left out where nobody has to sign in. */
const steps: readonly { id: StepId; step: OptionalStep; signIn?: true }[] = [
  { id: 'served', step: served },
  { id: 'reach', step: reach },
  { id: 'preflight', step: preflight },
  { id: 'challenge', step: challenge },
  { id: 'resource_metadata', step: resourceMetadata, signIn: true },
  { id: 'resource', step: resource, signIn: true },
  { id: 'issuer', step: issuer, signIn: true },
  { id: 'pkce', step: pkce, signIn: true },
  { id: 'registration', step: registration, signIn: true },
  { id: 'authorize', step: authorize, signIn: true },
  { id: 'expired_token', step: expiredToken, signIn: true },
  { id: 'token', step: token, signIn: true },
  { id: 'refresh', step: refresh, signIn: true },
  { id: 'initialize', step: initialize },
];

const MAX_REQUESTED = 200;
const MAX_FOUND = 500;

export interface Walked {
  readonly profile: Profile;
  readonly findings: readonly (Finding & { readonly step: StepId })[];
}

export async function walkAs(profile: Profile, subject: Subject): Promise<Walked> {
  const walk: Walk = {
    subject,
    profile,
    atEnd: [],
    isOpen: false,
    challenge: undefined,
    metadata: undefined,
    server: undefined,
    client: undefined,
    tokens: undefined,
  };
  try {
    return { profile, findings: await findingsOf(walk) };
  } finally {
    await clean(walk);
  }
}

async function findingsOf(walk: Walk): Promise<Walked['findings']> {
  const findings: (Finding & { step: StepId })[] = [];
  for (const { id, step, signIn } of steps) {
    if (signIn && walk.isOpen) continue;
    const finding = await attempt(step, walk);
    if (!finding) continue;
    findings.push({ step: id, ...finding });
    if (finding.status === 'failed' || finding.ends) break;
  }
  return findings;
}

/** What throws is a connection that broke: the finding of this step. A diagnosis that nobody waits for ends. */
async function attempt(step: OptionalStep, walk: Walk): Promise<Finding | undefined> {
  try {
    return bounded(await step(walk));
  } catch (cause) {
    walk.subject.signal.throwIfAborted();
    return {
      status: 'failed',
      found: `no answer: ${cleanText(messageOf(cause))}`,
      remedy: 'health_check tells which part of this system does not answer',
    };
  }
}

/** Whatever a step quotes, of whomever: clean, and no longer than a line or two. */
function bounded(finding: Finding | undefined): Finding | undefined {
  if (!finding) return undefined;
  const { requested, found, remedy } = finding;
  return {
    ...finding,
    requested: requested === undefined ? undefined : cleanText(requested, MAX_REQUESTED),
    found: cleanText(found, MAX_FOUND),
    remedy: remedy === undefined ? undefined : cleanText(remedy, MAX_FOUND),
  };
}

/** Last made, first gone. One that can't be taken away expires by itself; the others are taken away all the same. */
async function clean({ atEnd, subject }: Walk): Promise<void> {
  for (const undo of atEnd.toReversed())
    await undo().catch((cause: unknown) => subject.report(`could not be taken away: ${messageOf(cause)}`));
}
