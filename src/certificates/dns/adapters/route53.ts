/**
 * Amazon Route 53: all values of a name are one record set, which is read and replaced. The old set is deleted as it was
 * read in the same batch, so that a set that somebody changed meanwhile refuses the batch, and it is done over.
 * @see {@link https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html | ChangeResourceRecordSets}
 */
import { type Clock, SECOND } from '../../../core/clock.ts';
import { AppError } from '../../../core/errors.ts';
import { type DnsProvider, TXT_TTL_SECONDS, type TxtRecord } from '../provider.ts';
import type { SettingsOf } from '../schema.ts';
import type { ReadSecret } from '../secret.ts';
import { type Api, call, quoted, rateLimited } from './api.ts';
import { signAws } from './sigv4.ts';
import { elementsIn, escapeXml, textIn } from './xml.ts';

const VERSION = '2013-04-01';
const NAMESPACE = `https://route53.amazonaws.com/doc/${VERSION}/`;
/** How often a set that changes under our hands is read again. */
const MAX_TRIES = 5;
const BAD_CREDENTIALS = new Set([
  'InvalidClientTokenId',
  'SignatureDoesNotMatch',
  'AccessDenied',
  'AccessDeniedException',
  'ExpiredToken',
  'UnrecognizedClientException',
  'MissingAuthenticationToken',
  'IncompleteSignature',
  'InvalidSignatureException',
]);
const THROTTLED = new Set([
  'Throttling',
  'ThrottlingException',
  'PriorRequestNotComplete',
  'RequestLimitExceeded',
]);
/** A change before ours is still on its way (`PriorRequestNotComplete`), or there are more than five a second. */
const THROTTLE_WAIT_MS = 2 * SECOND;
const CHANGED_MEANWHILE = 'InvalidChangeBatch';
/** Zones of one name, private ones among them, that are looked through. */
const MAX_ZONES = 100;
const OK = 200;

interface RecordSet {
  readonly ttl: string;
  /** As Route 53 writes them, with quotes. */
  readonly values: readonly string[];
}

export interface Route53Parts {
  readonly clock: Clock;
  readonly fetch: typeof globalThis.fetch;
  readonly readSecret: ReadSecret;
}

export function createRoute53(settings: SettingsOf<'route53'>, parts: Route53Parts): DnsProvider {
  const client = createClient(settings, parts);

  /** `change` gives the values that there should be, or undefined when they are there already. */
  async function replace(
    { zone, name }: TxtRecord,
    change: (values: readonly string[]) => readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const zoneId = await hostedZone(client, zone, signal);
    for (let attempt = 1; ; attempt += 1) {
      const old = await recordSet(client, { zoneId, name }, signal);
      const values = change(old?.values ?? []);
      if (values === undefined) return;
      const body = batch(name, old, { ttl: old?.ttl ?? `${TXT_TTL_SECONDS}`, values });
      const { xml, code } = await client.send('POST', `hostedzone/${zoneId}/rrset/`, signal, body);
      if (code === undefined) return;
      if (code !== CHANGED_MEANWHILE || attempt === MAX_TRIES) throw refused(code, xml);
    }
  }

  return {
    publish: (record, signal) => {
      const own = `"${record.value}"`;
      return replace(record, (values) => (values.includes(own) ? undefined : [...values, own]), signal);
    },
    withdraw: (record, signal) => {
      const own = `"${record.value}"`;
      const without = (values: readonly string[]) => values.filter((value) => value !== own);
      return replace(record, (values) => (values.includes(own) ? without(values) : undefined), signal);
    },
  };
}

type Client = ReturnType<typeof createClient>;

function createClient(settings: SettingsOf<'route53'>, { clock, fetch, readSecret }: Route53Parts) {
  const api: Api = { service: 'Route 53', clock, fetch };

  async function credentials() {
    const { access_key_id: accessKeyId, secret_access_key: secret, session_token: token } = settings;
    return {
      accessKeyId,
      secretAccessKey: await readSecret(secret, 'secret_access_key (Route 53)'),
      sessionToken: token && (await readSecret(token, 'session_token (Route 53)')),
    };
  }

  async function send(method: 'GET' | 'POST', path: string, signal: AbortSignal, body = '') {
    const url = new URL(`${settings.url}/${VERSION}/${path}`);
    const headers = signAws(
      { method, url, headers: body === '' ? {} : { 'content-type': 'application/xml' }, body },
      await credentials(),
      { region: settings.region, service: 'route53', now: clock.now() },
    );
    const request = { method, url: url.href, headers, ...(body !== '' && { body }) };
    const { status, text } = await call(api, request, signal);
    return status === OK ? { xml: text, code: undefined } : failed(status, text);
  }

  return {
    send,
    async read(path: string, signal: AbortSignal): Promise<string> {
      const { xml, code } = await send('GET', path, signal);
      if (code !== undefined) throw refused(code, xml);
      return xml;
    },
  };
}

async function hostedZone(client: Client, zone: string, signal: AbortSignal): Promise<string> {
  const xml = await client.read(`hostedzonesbyname?dnsname=${zone}.&maxitems=${MAX_ZONES}`, signal);
  const found = elementsIn(xml, 'HostedZone').find(
    (entry) => textIn(entry, 'Name') === `${zone}.` && textIn(entry, 'PrivateZone') !== 'true',
  );
  const id = /^\/hostedzone\/(\w{1,64})$/.exec((found && textIn(found, 'Id')) ?? '')?.[1];
  if (id !== undefined) return id;
  throw new AppError('UPSTREAM_FAILED', `there is no public hosted zone ${zone} in this account at Route 53`);
}

async function recordSet(
  client: Client,
  { zoneId, name }: { zoneId: string; name: string },
  signal: AbortSignal,
): Promise<RecordSet | undefined> {
  const xml = await client.read(`hostedzone/${zoneId}/rrset?maxitems=1&name=${name}.&type=TXT`, signal);
  const [set] = elementsIn(xml, 'ResourceRecordSet');
  // The list begins at the name; where there is nothing, it begins with what comes after it.
  if (set === undefined || textIn(set, 'Name') !== `${name}.` || textIn(set, 'Type') !== 'TXT')
    return undefined;
  const ttl = textIn(set, 'TTL');
  if (textIn(set, 'SetIdentifier') !== undefined || ttl === undefined)
    throw new AppError(
      'PRECONDITION_FAILED',
      `the TXT record ${name} at Route 53 has a routing policy or is an alias; a record for DNS-01 has to be a simple one`,
    );
  return { ttl, values: elementsIn(set, 'ResourceRecord').map(valueOf) };
}

const refused = (code: string, xml: string): AppError =>
  new AppError('UPSTREAM_FAILED', `Route 53 refused (${quoted(`${code} ${textIn(xml, 'Message') ?? ''}`)})`);

const valueOf = (record: string): string => textIn(record, 'Value') ?? '';

function batch(name: string, old: RecordSet | undefined, now: RecordSet): string {
  const changes = [
    ...(old ? [changeXml('DELETE', name, old)] : []),
    ...(now.values.length > 0 ? [changeXml('CREATE', name, now)] : []),
  ];
  return `<?xml version="1.0" encoding="UTF-8"?><ChangeResourceRecordSetsRequest xmlns="${NAMESPACE}"><ChangeBatch><Changes>${changes.join('')}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`;
}

function changeXml(action: 'CREATE' | 'DELETE', name: string, { ttl, values }: RecordSet): string {
  const records = values.map(
    (value) => `<ResourceRecord><Value>${escapeXml(value)}</Value></ResourceRecord>`,
  );
  return `<Change><Action>${action}</Action><ResourceRecordSet><Name>${name}.</Name><Type>TXT</Type><TTL>${escapeXml(ttl)}</TTL><ResourceRecords>${records.join('')}</ResourceRecords></ResourceRecordSet></Change>`;
}

/** The codes that have one meaning everywhere are thrown; the others are for whoever asked. */
function failed(status: number, xml: string): { xml: string; code: string } {
  // A batch that is refused may come without a code around it.
  const isRefusedBatch = elementsIn(xml, CHANGED_MEANWHILE).length > 0;
  const code = textIn(xml, 'Code') ?? (isRefusedBatch ? CHANGED_MEANWHILE : `status ${status}`);
  if (THROTTLED.has(code)) throw rateLimited('Route 53', THROTTLE_WAIT_MS);
  if (BAD_CREDENTIALS.has(code))
    throw new AppError(
      'UPSTREAM_FAILED',
      `Route 53 does not take the credentials for this (${status}, ${quoted(`${code} ${textIn(xml, 'Message') ?? ''}`)}); check access_key_id, the secret and the policy of the user`,
    );
  return { xml, code };
}
