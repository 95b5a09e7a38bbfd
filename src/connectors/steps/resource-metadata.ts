/**
 * What is protected, and who grants tokens for it: as the challenge names it, with the path inserted, and at the root.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-3 | RFC 9728 §3}
 */
import { isObject, type JsonObject, listIn, nullsIn, textIn } from '../answers.ts';
import type { MetadataForm } from '../profiles.ts';
import { METADATA_PATH } from '../../routes/own.ts';
import { type Finding, isTargets, quoted, type Step, urlOf, type Walk } from '../step.ts';
import { NotServedHere } from '../wire.ts';

export const resourceMetadata: Step = async (walk: Walk) => {
  const tried: string[] = [];
  const chosen = { document: undefined as JsonObject | undefined, from: '' };
  for (const [form, url] of candidates(walk)) {
    const answer = await asked(walk, url);
    if (answer === 'elsewhere') return elsewhere(url);
    tried.push(`${form}: ${isObject(answer) ? 'yes' : answer}`);
    if (!isObject(answer) || chosen.document) continue;
    chosen.document = answer;
    chosen.from = url;
  }
  if (!chosen.document) return missing(walk, tried);
  const fault = remember(walk, chosen.document);
  return { requested: chosen.from, ...(fault ?? { status: 'ok', found: tried.join(', ') }) };
};

function candidates(walk: Walk): [MetadataForm, string][] {
  const { profile, challenge } = walk;
  const url = new URL(urlOf(walk));
  const base = `${url.origin}${METADATA_PATH}`;
  const known: Record<MetadataForm, string | undefined> = {
    challenge: challenge?.metadataUrl,
    path: url.pathname === '/' ? undefined : base + url.pathname,
    root: base,
  };
  return profile.metadata.flatMap((form) => (known[form] === undefined ? [] : [[form, known[form]]]));
}

/** The document, or in a word what came instead. */
async function asked({ subject, profile }: Walk, url: string): Promise<JsonObject | string> {
  const headers = {
    accept: 'application/json',
    ...(profile.origin !== undefined && { origin: profile.origin }),
  };
  try {
    const { status, json } = await subject.wire.ask(url, { headers });
    if (status !== 200) return String(status);
    return isObject(json) ? json : 'no JSON';
  } catch (cause) {
    if (cause instanceof NotServedHere) return 'elsewhere';
    throw cause;
  }
}

const elsewhere = (url: string): Finding => ({
  status: 'skipped',
  requested: url,
  found: `the target does its own sign-in, and its metadata is elsewhere (${quoted(URL.parse(url)?.host ?? url)}): not asked from here`,
  remedy:
    'Let the target name metadata on the hostname of the URL, or take its sign-in off and protect_proxy',
  ends: true,
});

function missing({ subject, challenge }: Walk, tried: readonly string[]): Finding {
  return {
    status: 'failed',
    requested: challenge?.metadataUrl ?? `${subject.url.origin}${METADATA_PATH}`,
    found: `no metadata of what is protected (${tried.join(', ')})`,
    remedy: isTargets(subject)
      ? `The target asks for a token and does not say whose: protect_proxy ${subject.url.hostname} after taking its sign-in off, or let it serve RFC 9728 metadata`
      : 'get_protection tells whether there is a policy for this path',
  };
}

function remember(walk: Walk, document: JsonObject): Finding | undefined {
  const resource = textIn(document, 'resource');
  const authorizationServers = listIn(document, 'authorization_servers') ?? [];
  const faults = [
    ...(resource === undefined ? ['resource is no text'] : []),
    ...(authorizationServers.length === 0 ? ['authorization_servers is no list of URLs'] : []),
    ...nullsIn(document).map((name) => `${name} is null`),
  ];
  if (faults.length > 0 || resource === undefined)
    return {
      status: 'failed',
      found: `metadata that clients refuse: ${faults.join(', ')}`,
      remedy: 'The target has to mend it (RFC 9728 §2), or protect_proxy after taking its sign-in off',
    };
  walk.metadata = { resource, authorizationServers, scopes: listIn(document, 'scopes_supported') ?? [] };
  return undefined;
}
