/**
 * The other half of `row-23-injection.test.ts`: parties that this system talks to, and through which strangers speak. A CA, a
 * name server, a container engine with containers and registries behind it, a mail server: all keep to their protocol and
 * say instructions wherever there is room. Everything that may quote them is asked in both eras. Planting comes first.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { createServer as createHttpsServer, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import test, { after } from 'node:test';
import { SMTPServer } from 'smtp-server';
import { makeCa, makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import { cleanText } from '../../src/core/untrusted.ts';
import { type AnyOperation } from '../../src/core/operation.ts';
import { operations as declared } from '../../src/operations.ts';
import {
  configFile,
  type Era,
  generous,
  modernHeaders,
  modernMeta,
  postMcp,
  send,
} from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { startHostileCa } from '../support/hostile-ca.ts';
import { bytesAsName, caaRecord, startNameServer } from '../support/hostile-dns.ts';
import { startHostileEngine } from '../support/hostile-engine.ts';
import {
  assertClean,
  assertFenced,
  callOver,
  corpus,
  every,
  MARK,
  payloads,
} from '../support/hostile-text.ts';
import { keptIn } from '../support/mail.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';
import { startUpstream } from '../support/upstream.ts';

type Name = (typeof declared)[number]['name'];
const ERAS = ['legacy', 'modern'] as const satisfies readonly Era[];

const problemOf = (payload: string, type: string) => ({
  type,
  title: payload,
  detail: payload,
  instance: `https://ca.example.net/${payload}`,
  status: 403,
  identifier: { type: 'dns', value: payload },
  subproblems: [
    { type: payload, detail: payload, title: payload, identifier: { type: 'dns', value: payload } },
  ],
  [payload]: payload,
});
/** Of a name of ours, what is said of it. */
const payloadFor = (name: string): string => payloads[Number(/^[a-z]+(\d+)\./.exec(name)?.[1] ?? 0)] ?? every;
const ca = await startHostileCa({
  meta: {
    termsOfService: 'https://ca.example.net/terms',
    caaIdentities: ['ca.example.net', every],
    profiles: Object.fromEntries(payloads.map((payload) => [payload.slice(0, 4000), payload.slice(0, 4000)])),
  },
  refuse(step, name) {
    if (step === 'directory') return problemOf(every, 'urn:ietf:params:acme:error:serverInternal');
    if (step === 'newOrder' && name.startsWith('ordered'))
      return problemOf(payloadFor(name), 'urn:ietf:params:acme:error:rejectedIdentifier');
    if (step === 'newOrder' && name.startsWith('typed')) return problemOf(payloadFor(name), payloadFor(name));
    if (step === 'challenge')
      return problemOf(payloadFor(name), 'urn:ietf:params:acme:error:incorrectResponse');
    return undefined;
  },
});
const issuedNames = ['ordered', 'typed', 'proven'].flatMap((kind) =>
  payloads.map((_payload, i) => `${kind}${i}.example.com`),
);

/** Whose provider refuses in words of its own. */
const ZONE = 'zone.example.org';
const nameServer = await startNameServer((name, type) => {
  if (name === ZONE && type === 'SOA')
    return [Buffer.concat([bytesAsName('ns'), bytesAsName('mail'), Buffer.alloc(20)])];
  if (!name.endsWith('example.com')) return type === 'A' ? [Buffer.of(127, 0, 0, 1)] : [];
  const payload = payloadFor(name.replace(/^_acme-challenge\./, ''));
  if (type === 'CAA' && name !== 'example.com')
    return [caaRecord('issue', payload), caaRecord('iodef', payload), caaRecord('issue', every)];
  if (type === 'CNAME' && name.startsWith('_acme-challenge.')) return [bytesAsName(payload)];
  if (type === 'A') return [Buffer.of(127, 0, 0, 1)];
  return [];
});
const engine = await startHostileEngine();
const hooks: string[] = [];
const receiver = await startUpstream((request, response) => {
  text(request).then(
    (body) => {
      if (request.url === '/hook') hooks.push(body);
      response.writeHead(500, { 'content-type': 'text/plain', 'x-note': MARK }).end(every);
    },
    () => response.destroy(),
  );
});
const mails: string[] = [];
const mailServer = new SMTPServer({
  disabledCommands: ['STARTTLS', 'AUTH'],
  onData: keptIn(mails),
});
// A product that ends in the middle of a mail hangs up.
mailServer.on('error', () => undefined);
mailServer.listen(0, '127.0.0.1');
await once(mailServer.server, 'listening');

const product = await startOnFixedPorts({
  env: {
    OHP_DOCKER_SOCKET: engine.socket,
    OHP_LOG_LEVEL: 'debug',
    OHP_CONFIG: configFile({
      ...generous,
      acme: {
        issuers: [
          { name: 'hostile', directory: ca.directoryUrl, ca_pem: ca.trustPem },
          { name: 'refusing', directory: ca.refusingUrl, ca_pem: ca.trustPem },
        ],
      },
      dns_resolvers: [nameServer.address],
      dns: [{ provider: 'webhook', zones: [ZONE], url: `${receiver.url}/dns` }],
      services: { images: ['docker.io/library/*'], labels: 'propose' },
      alerts: {
        webhook_url: `${receiver.url}/hook`,
        webhook_secret: 'a-secret-of-the-receiver',
        smtp: {
          host: '127.0.0.1',
          port: (mailServer.server.address() as AddressInfo).port,
          tls: 'none',
          from: 'ohp@example.com',
          to: ['admin@example.com'],
        },
      },
    }),
  },
});
after(async () => {
  for (const one of [product, receiver, engine, nameServer, ca]) await one[Symbol.asyncDispose]();
  await new Promise<void>((resolve) => mailServer.close(resolve));
});
const token = product.adminToken;
const rest = (method: string, path: string, body?: object) => send(product, { method, path, token, body });

/** What a call answers in both eras: fenced, clean and cut. Returns in how many of the two something planted was. */
async function asked(name: Name, input: object): Promise<number> {
  const operation = declared.find((one: AnyOperation) => one.name === name) ?? assert.fail(name);
  let found = 0;
  for (const era of ERAS) {
    const reply = await callOver(product, token, { operation, input, era });
    if (assertFenced(`${name} ${JSON.stringify(input)}, ${era}`, reply)) found++;
  }
  return found;
}
const quotes = async (name: Name, input: object) =>
  assert.equal(await asked(name, input), ERAS.length, `${name} ${JSON.stringify(input)}: nothing planted`);

const REFUSED = 'refused.example.com';
async function serve(hostname: string, issuer: string): Promise<void> {
  const certificate = { issuers: [issuer, 'internal'] };
  const made = await rest('POST', '/v1/proxies', { hostname, target_url: receiver.url, certificate });
  assert.equal(made.status, 201, made.text);
}

test('incident 23: (planting) a CA that keeps to the protocol and refuses in words of its own', async () => {
  await serve(REFUSED, 'refusing');
  await serve(`*.${ZONE}`, 'hostile');
  for (const hostname of issuedNames) await serve(hostname, 'hostile');
  await eventually(async () => {
    const { json } = await rest('GET', '/v1/logs?kind=tls&lines=1000&level=debug');
    const all = JSON.stringify(json.records);
    return [...issuedNames, REFUSED].every((name) => all.includes(`no certificate yet for ${name}`))
      ? true
      : undefined;
  }, 'a refusal of each');
});

for (const kind of ['ordered', 'typed', 'proven'])
  test(`incident 23: explain_certificate fences what a CA says (${kind}) and what the DNS says, of every payload`, async () => {
    for (const i of payloads.keys())
      await quotes('explain_certificate', { hostname: `${kind}${i}.example.com` });
  });

test('incident 23: explain_certificate fences what a CA says that refuses even its directory', () =>
  quotes('explain_certificate', { hostname: REFUSED }));

test('incident 23: explain_certificate fences what CAA and CNAME records say', async () => {
  for (const i of payloads.keys()) {
    const hostname = `*.wild${i}.example.com`;
    await serve(hostname, 'hostile');
    await quotes('explain_certificate', { hostname });
  }
  const { json } = await rest('GET', '/v1/certificate-explanation?hostname=*.wild0.example.com');
  const of = (name: string) => json.checks.find(({ check }: { check: string }) => check === name)?.detail;
  assert.match(of('caa'), /zq23/);
  assert.match(of('dns_01'), /zq23/);
});

test('incident 23: explain_certificate fences what the provider of a zone says when it takes no record', async () => {
  const hostname = `*.${ZONE}`;
  await eventually(async () => {
    const { text: found } = await rest('GET', `/v1/certificate-explanation?check=false&hostname=${hostname}`);
    return found.includes(MARK) ? true : undefined;
  }, 'the words of the provider');
  await quotes('explain_certificate', { hostname });
});

test('incident 23: get_logs, search_logs and what_changed fence what a CA says', async () => {
  await quotes('get_logs', { kind: 'tls', lines: 200, level: 'debug', verbose: true });
  await quotes('search_logs', { text: MARK, filter: 'kind:all' });
  await asked('what_changed', { since: '1h' });
  await asked('list_certificates', {});
  await asked('get_log_stats', { group_by: 'operation', since: '1h' });
});

test('incident 23: list_alerts fences the words of a CA', async () => {
  await eventually(async () => {
    const { json } = await rest('GET', '/v1/alerts?limit=100');
    return json.alerts.length >= payloads.length ? true : undefined;
  }, 'an alert for each order that is over');
  await quotes('list_alerts', { state: 'all' });
});

const MAIL_HEADERS = new Set(
  ['auto-submitted', 'from', 'to', 'subject', 'message-id', 'date', 'mime-version', 'content-type'].concat(
    'content-transfer-encoding',
  ),
);
test('incident 23: webhooks and mails quote a CA clean and cut, and in no header of their own', async () => {
  const isQuoting = (body: string) => body.includes(MARK) && body.includes('certificate.failing');
  await eventually(
    async () => (hooks.filter(isQuoting).length >= payloads.length && mails.length > 0 ? true : undefined),
    'the words of a CA',
  );
  for (const body of hooks) assertClean('a webhook', JSON.parse(body));
  for (const mail of mails) {
    const [head = ''] = mail.split('\r\n\r\n', 1);
    for (const line of head.split(/\r\n(?![ \t])/))
      assert.ok(MAIL_HEADERS.has(line.split(':', 1)[0]?.toLowerCase() ?? ''), line);
    const whole = mail.replaceAll('=\r\n', '');
    assert.ok(whole.includes('This text may quote what strangers wrote'), mail);
    assert.equal(cleanText(head.replaceAll('\r\n', ''), head.length), head.replaceAll('\r\n', ''));
  }
});

test('incident 23: operations that ask the CA at once fence what it says', async () => {
  const input = { names: ['ordered0.example.com', 'typed1.example.com'] };
  await asked('request_certificate', input);
  await asked('rotate_acme_account_key', {});
});

const service = { name: 'blog', image: 'app:1' };
test('incident 23: (planting) a service runs, whose container and neighbours say what they like', async () => {
  const made = await rest('POST', '/v1/services', service);
  assert.equal(made.status, 201, made.text);
});

test('incident 23: what a container says of itself is fenced', async () => {
  await quotes('get_service_logs', { name: 'blog' });
  await quotes('get_service', { name: 'blog' });
  await quotes('list_services', {});
  await asked('list_images', {});
  await asked('list_proposals', {});
});

test('incident 23: what a container and a registry say as progress is clean and cut, in both eras', async () => {
  for (const [name, input] of [
    ['get_service_logs', { name: 'blog', follow_ms: 1000 }],
    ['pull_image', { image: 'app:1' }],
  ] as const)
    for (const era of ERAS) {
      const isModern = era === 'modern';
      const _meta = { ...(isModern && modernMeta), progressToken: 'p' };
      const params = { name: 'call_operation', arguments: { name, arguments: input }, _meta };
      const reply = await postMcp(product, {
        token,
        headers: isModern ? modernHeaders('tools/call', 'call_operation') : {},
        body: { jsonrpc: '2.0', id: 1, method: 'tools/call', params },
      });
      const told = [...reply.text.matchAll(/^data: ?(\{.*\})$/gm)]
        .map(([, event = '']) => JSON.parse(event))
        .filter(({ method }) => method === 'notifications/progress');
      assert.ok(JSON.stringify(told).includes(MARK), `${name}, ${era}: ${reply.text.slice(0, 500)}`);
      assertClean(`progress of ${name}, ${era}`, told);
    }
});

test('incident 23: what a health check says when a service does not come up is fenced', async () => {
  engine.health = 'unhealthy';
  await quotes('create_service', { name: 'sick', image: 'app:1' });
  await quotes('update_service', { name: 'blog', command: ['serve'] });
  await quotes('publish_service', { image: 'app:1', hostname: 'sick.example.com', port: 80, pull: 'always' });
  engine.health = 'healthy';
});

test('incident 23: where an engine says that a folder of a container leads is fenced', async () => {
  engine.mountType = 'bind';
  for (const name of ['start_service', 'restart_service'] as const) await quotes(name, { name: 'blog' });
  engine.mountType = 'volume';
});

test('incident 23: what a registry says of an image that it does not give is fenced', async () => {
  engine.refusal = { status: 404, of: /^GET \/images/ };
  for (const before of ['', 'denied: ', 'manifest unknown: '])
    for (const payload of payloads) {
      engine.pullError = `${before}${payload}`;
      await quotes('pull_image', { image: 'app:1' });
    }
  await quotes('create_service', { name: 'other', image: 'app:1', pull: 'always' });
  await quotes('publish_service', {
    image: 'app:1',
    hostname: 'other.example.com',
    port: 80,
    pull: 'always',
  });
  engine.refusal = undefined;
  engine.pullError = undefined;
});

const EVERYTHING = /^(?!GET \/version)/;
/** What operators read of their own settings: marked, each look at a proxy would hold up what comes next. */
const OF_SETTINGS: [name: Name, input: object][] = [
  ['list_proxies', {}],
  ['list_routes', {}],
  ['get_proxy', { hostname: 'led.example.com' }],
  ['get_proxy', { hostname: 'secure.example.com' }],
  ['test_route', { url: 'https://led.example.com/x' }],
  ['test_route', { url: 'https://secure.example.com/x' }],
];

test('incident 23: of a target that fails, settings tell by what in our words: neither those of an engine nor of a certificate', async () => {
  // openssl takes no comma in a name, which begins another one.
  const names = corpus.order.replaceAll(',', '');
  const authority = makeCa('/CN=Trust of a target');
  const { certificatePem: cert, keyPem: key } = makeLeaf([], authority, {
    subject: `/CN=${names.slice(0, 60)}`,
    extensions: [`subjectAltName=DNS:${names}`, 'extendedKeyUsage=serverAuth'],
  });
  await using target = createHttpsServer({ cert, key }).listen(0, '127.0.0.1');
  await once(target, 'listening');
  const secure = {
    hostname: 'secure.example.com',
    target_url: `https://localhost:${(target.address() as AddressInfo).port}`,
    upstream_ca_pem: authority.certificatePem,
    load_balancing: {
      targets: [{ url: receiver.url }],
      health_check: { interval_ms: 1000, unhealthy_after: 1, path: '/' },
    },
  };
  const led = { hostname: 'led.example.com', target_url: 'service://blog:80' };
  engine.refusal = { status: 500, of: EVERYTHING };
  for (const proxy of [secure, led]) {
    const made = await rest('POST', '/v1/proxies', proxy);
    assert.equal(made.status, 201, made.text);
  }
  await eventually(async () => {
    const { text: found } = await rest('GET', `/v1/proxies/secure.example.com`);
    return /"reason":"[^"]*altnames/.test(found) ? true : undefined;
  }, 'a health check that fails');
  await eventually(async () => {
    const { text: found } = await rest('GET', `/v1/proxies/led.example.com`);
    return found.includes('the container engine does not answer') ? true : undefined;
  }, 'a service whose whereabouts are not known');
  for (const [name, input] of OF_SETTINGS) assert.equal(await asked(name, input), 0, name);
  engine.refusal = undefined;
  await quotes('get_logs', { kind: 'all', level: 'warn', lines: 100, verbose: true });
});

test('incident 23: health_check tells that an engine refuses, and not in its words', async () => {
  engine.refusal = { status: 500, of: /./ };
  await eventually(async () => {
    const { text: found } = await rest('GET', '/v1/health');
    return /"status":"down","message":"UPSTREAM_FAILED/.test(found) ? true : undefined;
  }, 'the engine being down');
  assert.equal(await asked('health_check', {}), 0);
  engine.refusal = undefined;
});

test('incident 23: the subject of a client certificate is fenced', async () => {
  const hostname = 'clients.example.com';
  const authority = makeCa('/CN=Trust of clients');
  const { certificatePem: cert, keyPem: key } = makeLeaf([], authority, {
    subject: `/CN=${corpus.order.slice(0, 60)}`,
    extensions: ['extendedKeyUsage=clientAuth', `subjectAltName=DNS:${corpus.order.replaceAll(',', '')}`],
  });
  const client_auth = { mode: 'require', ca_pem: authority.certificatePem };
  const made = await rest('POST', '/v1/proxies', { hostname, target_url: receiver.url, client_auth });
  assert.equal(made.status, 201, made.text);
  const { httpsPort: port, ca: trust } = product;
  const request = httpsRequest({
    host: '127.0.0.1',
    port,
    servername: hostname,
    ca: trust,
    cert,
    key,
    agent: false,
    headers: { host: `${hostname}:${port}` },
  }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.resume();
  const trace_id = String(response.headers['x-trace-id']);
  await eventually(async () => {
    const { json } = await rest('GET', `/v1/logs?kind=access&hostname=${hostname}`);
    return json.records.length > 0 ? true : undefined;
  }, 'its record');
  await quotes('get_logs', { kind: 'access', hostname, verbose: true });
  await asked('explain_request', { trace_id });
  await asked('get_proxy', { hostname });
});

/** Operations that ask the engine → how. */
const ofEngine: [name: Name, input: object][] = [
  ['list_services', {}],
  ['get_service', { name: 'blog' }],
  ['get_service_logs', { name: 'blog' }],
  ['get_service_stats', { name: 'blog' }],
  ['list_images', {}],
  ['list_proposals', {}],
  ['pull_image', { image: 'app:1' }],
  ['create_service', { name: 'other', image: 'app:1', pull: 'always' }],
  ['start_service', { name: 'blog' }],
  ['stop_service', { name: 'blog' }],
  ['restart_service', { name: 'blog' }],
  ['update_service', { name: 'blog', command: ['serve', 'x'] }],
  ['publish_service', { image: 'app:1', hostname: 'other.example.com', port: 80, pull: 'always' }],
  ['clean_up_services', {}],
  ['health_check', {}],
  ['get_diagnostics', {}],
  ['run_command', { command: 'docker ps' }],
  ['delete_service', { name: 'blog', force: true }],
];
/** Which tell nothing of what an engine says. */
const QUIET = new Set<Name>(['get_diagnostics', 'health_check']);
const VERBS = /^POST \/containers\/create|^DELETE|\/(?:start|stop|restart|logs|stats)$/;
const refused = new Set<Name>();
for (const [status, of] of [
  [409, VERBS],
  [500, EVERYTHING],
  // The last one: with it what is not there is deleted.
  [404, VERBS],
] as const)
  test(`incident 23: what an engine says when it refuses with ${status} is fenced`, async () => {
    engine.refusal = { status, of };
    for (const [name, input] of ofEngine) if ((await asked(name, input)) > 0) refused.add(name);
    engine.refusal = undefined;
  });

test('incident 23: what the engine said came to be seen, so that the tests before are about something', () => {
  for (const [name] of ofEngine)
    if (!QUIET.has(name)) assert.ok(refused.has(name), `${name}; found in ${[...refused].join()}`);
});

test('incident 23: a client that was told so by an error, whatever its code, needs a yes of a person', async () => {
  const person = new Person(product);
  const client = await person.client({ client_name: 'A client' });
  const { access_token: access } = await client.signIn({
    scope: 'services:read services:write proxies:write',
  });
  const remove = async (hostname: string) =>
    (await person.call(access, 'delete_proxy', { hostname })).content.at(-1).text;
  assert.doesNotMatch(await remove('wild0.example.com'), /read text that strangers wrote/);
  assert.equal((await rest('POST', '/v1/services', service)).status, 201);
  engine.refusal = { status: 404, of: /stats/ };
  const told = await person.call(access, 'call_operation', {
    name: 'get_service_stats',
    arguments: { name: 'blog' },
  });
  assert.match(told.content.at(-1).text, /zq23/);
  assert.match(await remove('wild0.example.com'), /read text that strangers wrote \(get_service_stats\)/);
});
