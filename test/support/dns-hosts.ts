/**
 * Stand-ins for the APIs of Cloudflare and Route 53, which tests can't reach: records in memory, and every request held
 * against what the documentation of the service asks for. What is not as documented is answered as an error, so that an
 * adapter that sends it fails.
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { startUpstream, type Upstream } from './upstream.ts';

export interface DnsHost extends AsyncDisposable {
  readonly url: string;
  values(name: string): string[];
  seed(name: string, value: string): void;
  /** Answers the next request in place of the host. */
  next(answer: { status: number; headers?: Record<string, string>; body: string }): void;
  /** Runs once, before the next change is looked at: what somebody else does meanwhile. */
  meanwhile(change: () => void): void;
  readonly requests: Upstream['requests'];
}

interface Received {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
type Answer = { status: number; headers?: Record<string, string>; body: string };

async function startHost(answer: (request: Received) => Answer, parts: Pick<DnsHost, 'values' | 'seed'>) {
  const waiting: Answer[] = [];
  const changes: (() => void)[] = [];
  const upstream = await startUpstream((request: IncomingMessage, response: ServerResponse) => {
    void (async () => {
      const { method = '', url = '', headers } = request;
      const body = await textOf(request);
      if (method !== 'GET') changes.shift()?.();
      const {
        status,
        headers: fields = {},
        body: reply,
      } = waiting.shift() ?? answer({ method, url: new URL(url, 'http://host'), headers, body });
      response.writeHead(status, fields).end(reply);
    })();
  });
  const host: DnsHost = {
    ...parts,
    url: upstream.url,
    requests: upstream.requests,
    next: (given) => void waiting.push(given),
    meanwhile: (change) => void changes.push(change),
    [Symbol.asyncDispose]: () => upstream[Symbol.asyncDispose](),
  };
  return host;
}

export const CLOUDFLARE_TOKEN = 'cf-token-0123456789abcdef0123456789abcdef';
const ZONE_ID = '023e105f4ecef8ad9ca31a8372d0c353';

/** @see https://developers.cloudflare.com/api/ (fundamentals, zones, dns/records) */
export async function startCloudflare(zone: string): Promise<DnsHost> {
  const records: { id: string; name: string; content: string }[] = [];
  const ok = (result: unknown): Answer => reply(200, { success: true, errors: [], messages: [], result });
  const no = (status: number, code: number, message: string): Answer =>
    reply(status, { success: false, errors: [{ code, message }], messages: [], result: null });
  const reply = (status: number, value: object): Answer => ({
    status,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(value),
  });

  function create(body: string): Answer {
    const { type, name, content, ttl, ...rest } = JSON.parse(body) as Record<string, unknown>;
    if (
      type !== 'TXT' ||
      typeof name !== 'string' ||
      typeof content !== 'string' ||
      Object.keys(rest).length > 0
    )
      return no(400, 9005, 'Content for TXT record is invalid.');
    if (!name.endsWith(`.${zone}`)) return no(400, 9000, 'DNS name is invalid.');
    if (typeof ttl !== 'number' || !(ttl === 1 || (ttl >= 60 && ttl <= 86_400)))
      return no(400, 9021, 'TTL must be between 60 and 86400 seconds, or 1 for Automatic.');
    if (!/^"[!-~]{1,255}"$/.test(content)) return no(400, 9207, 'TXT content has to be in quotes.');
    if (records.some((record) => record.name === name && record.content === content))
      return no(400, 81_058, 'An identical record already exists.');
    const id = randomBytes(16).toString('hex');
    records.push({ id, name, content });
    return ok({ id, type, name, content, ttl });
  }

  function answer({ method, url, headers, body }: Received): Answer {
    if (headers.authorization !== `Bearer ${CLOUDFLARE_TOKEN}`)
      return no(403, 10_000, 'Authentication error');
    if (method === 'POST' && headers['content-type'] !== 'application/json')
      return no(415, 10_001, 'Unsupported content type');
    const list = `/client/v4/zones/${ZONE_ID}/dns_records`;
    if (method === 'GET' && url.pathname === '/client/v4/zones')
      return ok(url.searchParams.get('name') === zone ? [{ id: ZONE_ID, name: zone, status: 'active' }] : []);
    if (method === 'GET' && url.pathname === list) {
      const [type, name] = ['type', 'name'].map((key) => url.searchParams.get(key));
      if (type !== 'TXT' || name === null) return no(400, 9000, 'not asked as expected');
      return ok(
        records.filter((record) => record.name === name).map((record) => ({ ...record, type: 'TXT' })),
      );
    }
    if (method === 'POST' && url.pathname === list) return create(body);
    const id = url.pathname.startsWith(`${list}/`) ? url.pathname.slice(list.length + 1) : undefined;
    const at = records.findIndex((record) => record.id === id);
    if (method !== 'DELETE') return no(405, 10_405, 'Method not allowed');
    if (at < 0) return no(404, 81_044, 'Record does not exist.');
    records.splice(at, 1);
    return ok({ id });
  }

  const host = await startHost(answer, {
    values: (of) => records.filter(({ name }) => name === of).map(({ content }) => content.slice(1, -1)),
    seed: (name, value) =>
      void records.push({ id: randomBytes(16).toString('hex'), name, content: `"${value}"` }),
  });
  return { ...host, url: `${host.url}/client/v4` };
}

interface Set {
  ttl: string;
  values: string[];
}
/** Whether the request is signed as it has to be; given by the test, which has the credentials. */
export type Verify = (request: Received) => 'signed' | 'InvalidClientTokenId' | 'SignatureDoesNotMatch';

const HOSTED_ZONE = 'Z1PA6795UKMFR9';
const REQUEST =
  /^<\?xml version="1\.0" encoding="UTF-8"\?><ChangeResourceRecordSetsRequest xmlns="https:\/\/route53\.amazonaws\.com\/doc\/2013-04-01\/"><ChangeBatch><Changes>((?:<Change>.*?<\/Change>)+)<\/Changes><\/ChangeBatch><\/ChangeResourceRecordSetsRequest>$/s;
const CHANGE =
  /<Change><Action>(CREATE|DELETE)<\/Action><ResourceRecordSet><Name>([^<]+)<\/Name><Type>TXT<\/Type><TTL>(\d+)<\/TTL><ResourceRecords>((?:<ResourceRecord><Value>[^<]*<\/Value><\/ResourceRecord>)+)<\/ResourceRecords><\/ResourceRecordSet><\/Change>/g;

/** @see https://docs.aws.amazon.com/Route53/latest/APIReference/Welcome.html */
export async function startRoute53(zone: string, verify: Verify): Promise<DnsHost> {
  const sets = new Map<string, Set>();
  const xml = (status: number, body: string): Answer => ({
    status,
    headers: { 'content-type': 'text/xml' },
    body: `<?xml version="1.0"?>\n${body}`,
  });
  const no = (status: number, code: string, message: string): Answer =>
    xml(
      status,
      `<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>r</RequestId></ErrorResponse>`,
    );
  const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  const decode = (text: string): string => text.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(+code));

  function changed(body: string): Answer {
    const [, inside = ''] = REQUEST.exec(body) ?? [];
    const changes = [...inside.matchAll(CHANGE)];
    if (changes.map(([all]) => all).join('') !== inside || inside === '')
      return no(400, 'InvalidInput', 'not as the schema of the API');
    const next = new Map(sets);
    for (const [, action, name = '', ttl = '', records = ''] of changes) {
      const values = [...records.matchAll(/<Value>([^<]*)<\/Value>/g)].map(([, value = '']) => decode(value));
      if (!name.endsWith(`.${zone}.`) || values.some((value) => !/^"[^"]{1,255}"$/.test(value)))
        return no(400, 'InvalidInput', 'a name or a value is wrong');
      const wanted = JSON.stringify({ ttl, values });
      const fits = action === 'CREATE' ? !next.has(name) : JSON.stringify(next.get(name)) === wanted;
      if (!fits)
        return no(
          400,
          'InvalidChangeBatch',
          `[Tried to ${action} resource record set, which is not possible]`,
        );
      if (action === 'CREATE') next.set(name, { ttl, values });
      else next.delete(name);
    }
    sets.clear();
    for (const [name, set] of next) sets.set(name, set);
    return xml(
      200,
      '<ChangeResourceRecordSetsResponse><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo></ChangeResourceRecordSetsResponse>',
    );
  }

  function listed(from: string): Answer {
    const [name, set] = [...sets].sort(([a], [b]) => (a < b ? -1 : 1)).find(([known]) => known >= from) ?? [];
    const records = set?.values.map(
      (value) => `<ResourceRecord><Value>${escape(value)}</Value></ResourceRecord>`,
    );
    const entry =
      set && records
        ? `<ResourceRecordSet><Name>${name}</Name><Type>TXT</Type><TTL>${set.ttl}</TTL><ResourceRecords>${records.join('')}</ResourceRecords></ResourceRecordSet>`
        : '';
    return xml(
      200,
      `<ListResourceRecordSetsResponse><ResourceRecordSets>${entry}</ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>1</MaxItems></ListResourceRecordSetsResponse>`,
    );
  }

  const zoneXml = (id: string, isPrivate: boolean) =>
    `<HostedZone><Id>/hostedzone/${id}</Id><Name>${zone}.</Name><CallerReference>c</CallerReference><Config><PrivateZone>${isPrivate}</PrivateZone></Config></HostedZone>`;

  function answer(request: Received): Answer {
    const verdict = verify(request);
    if (verdict !== 'signed') return no(403, verdict, 'the credential is not taken');
    const { method, url, body } = request;
    const base = '/2013-04-01';
    if (method === 'GET' && url.pathname === `${base}/hostedzonesbyname`) {
      if (url.searchParams.get('dnsname') !== `${zone}.`)
        return xml(200, '<ListHostedZonesByNameResponse><HostedZones/></ListHostedZonesByNameResponse>');
      // A private zone of the same name stands first, and is not the one.
      return xml(
        200,
        `<ListHostedZonesByNameResponse><HostedZones>${zoneXml('ZPRIVATE', true)}${zoneXml(HOSTED_ZONE, false)}</HostedZones></ListHostedZonesByNameResponse>`,
      );
    }
    if (method === 'GET' && url.pathname === `${base}/hostedzone/${HOSTED_ZONE}/rrset`)
      return listed(url.searchParams.get('name') ?? '');
    if (method === 'POST' && url.pathname === `${base}/hostedzone/${HOSTED_ZONE}/rrset/`)
      return changed(body);
    return no(404, 'NoSuchHostedZone', 'No hosted zone found');
  }

  return startHost(answer, {
    values: (name) => (sets.get(`${name}.`)?.values ?? []).map((value) => value.slice(1, -1)),
    seed(name, value) {
      const old = sets.get(`${name}.`);
      sets.set(`${name}.`, { ttl: old?.ttl ?? '300', values: [...(old?.values ?? []), `"${value}"`] });
    },
  });
}
