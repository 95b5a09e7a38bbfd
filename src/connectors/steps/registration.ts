/**
 * How the client gets an id: by the URL of its own metadata, or by registering. What is registered here is removed when
 * the walk is over. @see RFC 7591 §3.2.1, RFC 7592 §2.3; draft-ietf-oauth-client-id-metadata-document §5
 */
import { faultIn, isObject, type JsonObject, listIn, nullsIn, textIn } from '../answers.ts';
import { type Finding, quoted, type Step, type Walk } from '../step.ts';

export const registration: Step = async (walk: Walk) => {
  const { profile, server } = walk;
  const byDocument = profile.registration.includes('document') && takesDocuments(server?.document ?? {});
  const registered = await register(walk);
  if (byDocument)
    return {
      status: registered?.status === 'failed' ? 'warning' : 'ok',
      found: `the URL of its metadata is taken as its id; ${registered?.found ?? 'registering is off'}`,
    };
  return registered ?? noWay(walk);
};

/** Clients without a secret skip the way where `none` is not advertised. */
const takesDocuments = (document: JsonObject): boolean =>
  document['client_id_metadata_document_supported'] === true &&
  listIn(document, 'token_endpoint_auth_methods_supported')?.includes('none') === true;

function noWay({ profile }: Walk): Finding {
  const settings = profile.registration.includes('document')
    ? 'oauth.client_metadata or oauth.client_registration'
    : 'oauth.client_registration';
  return {
    status: 'failed',
    found: `no way to get a client id: ${profile.registration.length > 1 ? 'neither is advertised' : 'it registers, and no registration_endpoint is advertised'}`,
    remedy: `Set ${settings} to true and start again, or give the client the id of one that create_client made`,
  };
}

/** Undefined: nobody can. */
async function register(walk: Walk): Promise<Finding | undefined> {
  const { server, subject, profile } = walk;
  const endpoint = server?.registrationEndpoint;
  if (endpoint === undefined) return undefined;
  const requested = `POST ${URL.parse(endpoint)?.pathname ?? endpoint}`;
  if (!subject.mayRegister())
    return {
      status: 'skipped',
      requested,
      found: 'not tried: too many diagnoses in this minute',
      ends: true,
    };
  const answered = await subject.wire.ask(endpoint, {
    method: 'POST',
    once: true,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json',
      ...(profile.origin !== undefined && { origin: profile.origin }),
    },
    body: JSON.stringify({ ...profile.registers, client_name: `${profile.name} (diagnose_connector)` }),
  });
  if (answered.status === 429 || answered.status === 503)
    return {
      status: 'skipped',
      requested,
      found: `${faultIn(answered)}: registrations are used up at the moment`,
      remedy: 'Ask again in a minute; clients that have an id are not concerned',
      ends: true,
    };
  const told = isObject(answered.json) ? answered.json : {};
  removeLater(walk, told);
  const faults = answered.status === 201 ? faultsOf(told, profile.registers) : [faultIn(answered)];
  if (faults.length > 0)
    return {
      status: 'failed',
      requested,
      found: `registering is refused, or answered so that clients refuse it: ${faults.join(', ')}`,
      remedy: `The authorization server has to accept ${profile.registers.redirect_uris.map(quoted).join(', ')}`,
    };
  walk.client = { id: textIn(told, 'client_id') ?? '' };
  return { status: 'ok', requested, found: 'it can register (the one of this walk is removed)' };
}

function faultsOf(
  told: JsonObject,
  { redirect_uris }: { readonly redirect_uris: readonly string[] },
): string[] {
  const expiry = told['client_secret_expires_at'];
  const kept = listIn(told, 'redirect_uris') ?? [];
  return [
    ...(textIn(told, 'client_id') === undefined ? ['no client_id'] : []),
    ...nullsIn(told).map((name) => `${name} is null`),
    ...(expiry !== undefined && !Number.isInteger(expiry) ? ['client_secret_expires_at is no integer'] : []),
    ...(redirect_uris.every((uri) => kept.includes(uri)) ? [] : ['redirect_uris are other ones']),
  ];
}

function removeLater({ atEnd, subject }: Walk, told: JsonObject): void {
  const uri = textIn(told, 'registration_client_uri');
  const token = textIn(told, 'registration_access_token');
  if (uri === undefined || token === undefined) return;
  atEnd.push(async () => {
    const headers = { authorization: `Bearer ${token}` };
    await subject.wire.ask(uri, { method: 'DELETE', once: true, outlasts: true, headers });
  });
}
