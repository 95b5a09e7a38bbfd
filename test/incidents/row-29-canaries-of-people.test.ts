/**
 * What people, browsers and clients bring: passkeys, passwords in the wrong field, invitations, codes of devices, secrets of
 * clients, cookies of sites, credentials where none belongs. A receiver of alerts and a collector are searched as well as
 * logs, metrics, answers, exports and files. Planting comes first, searching last.
 */
import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import test, { after } from 'node:test';
import { sessionCookie } from '../../src/core/site-cookies.ts';
import {
  callTool,
  configFile,
  generous,
  modernHeaders,
  modernMeta,
  postMcp,
  send,
} from '../support/callers.ts';
import { assertNotKept, Canaries, everyLogPage } from '../support/canaries.ts';
import { startCollector } from '../support/collector.ts';
import { eventually } from '../support/eventually.ts';
import { Person, REDIRECT_URI, startOnFixedPorts } from '../support/oauth.ts';
import { startUpstream } from '../support/upstream.ts';
import { type Page, signInAs, Visitor } from '../support/visitor.ts';

const canaries = new Canaries('Zq9canary');
const canary = (where: string) => canaries.plant(where);

/** What came to the receiver of alerts, without the head: there the URL is its own. */
const alerts: string[] = [];
const service = await startUpstream((request, response) => {
  text(request).then(
    (body) => {
      if (request.url?.startsWith('/hook')) alerts.push(body);
      response.writeHead(500, { 'content-type': 'text/plain' }).end(`${request.url} ${body}`);
    },
    () => response.destroy(),
  );
});
const collector = await startCollector();
const adminToken = canary('OHP_ADMIN_TOKEN');
const product = await startOnFixedPorts({
  env: {
    OHP_ADMIN_TOKEN: adminToken,
    OHP_LOG_LEVEL: 'debug',
    TSIG_SECRET: Buffer.from(canary('TSIG key')).toString('base64'),
    OHP_CONFIG: configFile({
      ...generous,
      alerts: {
        webhook_url: `${service.url}/hook/${canary('path of a receiver')}?token=${canary('query of a receiver')}`,
        webhook_secret: canary('secret of a receiver'),
        rules: [{ name: 'any-disk', when: 'disk', below_bytes: 2 ** 50, for_minutes: 0 }],
      },
      dns: [
        {
          provider: 'rfc2136',
          zones: ['example.com'],
          server: '127.0.0.1',
          port: 9,
          key_name: 'update',
          secret: { env: 'TSIG_SECRET' },
        },
      ],
      telemetry: { otlp: { endpoint: collector.url, interval_ms: 50, metrics_interval_ms: 1000 } },
      oauth: {
        client_registration: true,
        upstreams: [
          {
            name: 'github',
            title: 'GitHub',
            kind: 'github',
            issuer: service.url,
            client_id: 'us',
            client_secret: canary('client secret at GitHub'),
            allow: { everyone: true },
          },
        ],
      },
    }),
  },
});
after(async () => {
  for (const one of [product, service, collector]) await one[Symbol.asyncDispose]();
});

const answers: [what: string, text: string][] = [];
const rest = async (method: string, path: string, body?: object) => {
  const reply = await send(product, { method, path, token: adminToken, body });
  answers.push([`${method} ${path}`, `${JSON.stringify(reply.headers)}${reply.text}`]);
  return reply;
};
const person = new Person(product);
const { visitor } = person;
const form = { 'content-type': 'application/x-www-form-urlencoded' };

test('incident 29: (planting) on the pages for people: wrong fields, passkeys, invitations', async () => {
  const start = await visitor.open(`${person.issuer}/oauth/account`);
  await visitor.submit(start, { token: canary('token of nobody, typed') });
  const account = await signInAs(visitor, await visitor.open(`${person.issuer}/oauth/account`), product);
  assert.equal(account.status, 200, account.body);
  const stranger = new Visitor(product);
  const signIn = () => stranger.open(`${person.issuer}/oauth/account`);
  for (const fields of [
    { username: 'root', password: canary('wrong password') },
    { username: canary('password typed as the name'), password: 'correct horse' },
    { username: 'root', password: canary('password that is far too long').repeat(60) },
  ])
    await stranger.submit(await signIn(), fields);
  const assertion = {
    id: canary('id of a passkey'),
    rawId: canary('raw id of a passkey'),
    type: 'public-key',
    response: {
      clientDataJSON: canary('client data of a passkey'),
      authenticatorData: canary('authenticator data of a passkey'),
      signature: canary('signature of a passkey'),
      userHandle: canary('user handle of a passkey'),
    },
  };
  await usedAs(await signIn(), assertion);
  const { clientDataJSON } = assertion.response;
  const attestationObject = canary('attestation of a passkey');
  await usedAs(account, { ...assertion, response: { clientDataJSON, attestationObject } });
  for (const credential of [canary('passkey that is no JSON'), `{"id":"${canary('passkey that breaks off')}`])
    await usedAs(await signIn(), credential);

  async function usedAs(page: Page, credential: object | string): Promise<void> {
    const by = page === account ? visitor : stranger;
    const [, csrf = ''] = /name="csrf" value="([^"]+)"/.exec(page.body) ?? [];
    const { status } = await by.open(`${page.url.href}/passkey`, {
      method: 'POST',
      body: new URLSearchParams({
        csrf,
        name: 'A key',
        credential: typeof credential === 'string' ? credential : JSON.stringify(credential),
      }).toString(),
      headers: { ...form, origin: page.url.origin, 'sec-fetch-site': 'same-origin' },
    });
    // Asked for and refused, not lost on the way.
    assert.ok([400, 401].includes(status), `${page.url.href}: ${status}`);
  }

  const made = await send(product, {
    method: 'POST',
    path: '/v1/users',
    token: adminToken,
    body: { username: 'ann' },
  });
  const { pathname, search } = new URL(made.json.invite_url);
  canaries.planted.set('invitation', (search || pathname).split(/[=/]/).at(-1) ?? assert.fail());
  const invited = new Visitor(product);
  const page = await invited.open(invited.at('localhost', pathname + search));
  await invited.submit(page, { password: canary('password of somebody invited') });
  await invited.open(invited.at('localhost', pathname + search));
  await visitor.open(visitor.at('localhost', `${pathname}${search}${canary('invitation of nobody')}`));
  for (const [whose, of] of [
    ['the administrator', visitor],
    ['somebody invited', invited],
  ] as const)
    canaries.planted.set(
      `session of ${whose}`,
      of.cookie('localhost', '__Host-ohp_session') ?? assert.fail(whose),
    );
});

test('incident 29: (planting) in what clients are given and send to the authorization server', async () => {
  const client = await person
    .client({ token_endpoint_auth_method: 'client_secret_post' })
    .catch(() => undefined);
  const secret = client?.client.client_secret;
  if (typeof secret === 'string') canaries.planted.set('secret of a registered client', secret);
  const own = await send(product, {
    method: 'POST',
    path: '/v1/clients',
    token: adminToken,
    body: { name: 'A program', bundle: 'viewer' },
  });
  assert.equal(own.status, 201, own.text);
  const id = String(own.json.id);
  canaries.planted.set('secret of a client of ours', String(own.json.secret));
  const post = (path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
    visitor.request(new URL(path, person.issuer), {
      method: 'POST',
      headers: { ...form, ...headers },
      body: new URLSearchParams(fields).toString(),
    });
  const at = '/oauth/token';
  const basic = (word: string) => ({
    authorization: `Basic ${Buffer.from(`${id}:${word}`).toString('base64')}`,
  });
  const grants: [fields: Record<string, string>, headers?: Record<string, string>][] = [
    [{ grant_type: 'client_credentials', client_id: id, client_secret: canary('wrong secret of a client') }],
    [{ grant_type: 'client_credentials' }, basic(canary('wrong secret, by Basic'))],
    [
      {
        grant_type: 'authorization_code',
        client_id: id,
        code: canary('made-up code'),
        code_verifier: canary('made-up verifier').padEnd(43, 'x'),
      },
    ],
    [
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
        client_id: id,
        device_code: canary('made-up device code'),
      },
    ],
    [
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
        assertion: `eyJhbGciOiJub25lIn0.${canary('assertion')}.x`,
      },
    ],
    [
      {
        grant_type: 'client_credentials',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: `eyJhbGciOiJub25lIn0.${canary('assertion of a client')}.x`,
      },
    ],
    [{ grant_type: canary('grant type'), client_id: id }],
    [{ grant_type: 'password', username: 'root', password: canary('password at the token endpoint') }],
  ];
  for (const [fields, headers] of grants) answers.push(['a grant', (await post(at, fields, headers)).body]);
  for (const path of ['/oauth/revoke', '/oauth/introspect', '/oauth/device', '/oauth/device/authorization'])
    answers.push([
      path,
      (
        await post(path, {
          token: canary(`token at ${path}`),
          user_code: canary(`code at ${path}`),
          client_id: id,
        })
      ).body,
    ]);
  const asked = new URL('/oauth/authorize', person.issuer);
  asked.search = new URLSearchParams({
    client_id: id,
    redirect_uri: REDIRECT_URI,
    response_type: 'code',
    state: canary('state'),
    nonce: canary('nonce'),
    login_hint: canary('login hint'),
    id_token_hint: `eyJhbGciOiJub25lIn0.${canary('id token hint')}.x`,
    request: `eyJhbGciOiJub25lIn0.${canary('request object')}.x`,
    code_challenge: canary('challenge').padEnd(43, 'x'),
  }).toString();
  await visitor.open(asked);
  for (const query of [
    `code=${canary('code of a provider')}&state=${canary('state of a provider')}`,
    `error=${canary('error of a provider')}`,
  ])
    await visitor.open(`${person.issuer}/oauth/upstream/github/callback?${query}`);
  await visitor.open(`${person.issuer}/oauth/upstream/github`);
});

test('incident 29: (planting) in cookies, queries and headers of a site that is protected', async () => {
  const hostname = 'site.example.com';
  assert.equal((await rest('POST', '/v1/proxies', { hostname, target_url: service.url })).status, 201);
  const protection = { allow: { everyone: true } };
  assert.equal((await rest('PUT', `/v1/proxies/${hostname}/protection`, protection)).status, 200);
  const headers: Record<string, string>[] = [
    { authorization: `Bearer ${canary('bearer at a site')}` },
    { authorization: `Bearer ohp_${canary('token of ours at a site').padEnd(49, 'Q').slice(0, 49)}` },
    {
      cookie: `__Host-ohp=${canary('cookie of a site')}; __Host-ohp-flow-x=${canary('cookie of a sign-in')}`,
    },
    { 'x-auth-token': canary('header of another gateway'), 'x-auth-user': canary('identity of a stranger') },
    { 'sec-websocket-protocol': `bearer, ${canary('credential in a subprotocol')}` },
  ];
  for (const one of headers) await product.get(hostname, '/', { headers: one });
  for (const name of ['access_token', 'token', 'api_key', 'code', 'state', 'ticket'])
    for (const path of ['/', '/oauth/callback', '/.well-known/ohp/callback'])
      await product.get(hostname, `${path}?${name}=${canary(`${name} in the query of ${path}`)}`);
  const back = await visitor.open(
    visitor.at(hostname, `/private?key=${canary('query that comes back after the sign-in')}`),
  );
  assert.equal(back.status, 500, back.body.slice(0, 500));
  canaries.planted.set('session at a site', visitor.cookie(hostname, sessionCookie(true)) ?? assert.fail());
});

test('incident 29: (planting) credentials in arguments, in _meta and in members that there are not', async () => {
  const secrets = {
    token: canary('token in arguments'),
    password: canary('password in arguments'),
    nested: { api_key: canary('key in arguments') },
  };
  for (const era of ['legacy', 'modern'] as const)
    for (const name of ['get_proxy', 'list_proxies', 'no_such_tool', 'echo'])
      answers.push([
        name,
        (
          await callTool(product, adminToken, { name, args: { ...secrets, hostname: 'x' }, era })
        ).text.replaceAll(/"message":"[^"]*"/g, ''),
      ]);
  const _meta = { ...modernMeta, authorization: canary('credential in _meta'), [canary('name in _meta')]: 1 };
  for (const method of ['tools/call', 'tools/list', 'ping'])
    await postMcp(product, {
      token: adminToken,
      headers: modernHeaders(method, 'echo'),
      body: {
        jsonrpc: '2.0',
        id: canary(`id of ${method}`),
        method,
        params: { name: 'echo', arguments: {}, _meta, token: canary(`member of ${method}`) },
      },
    });
  for (const token of [undefined, canary('bearer over MCP')])
    await postMcp(product, {
      token,
      query: `?token=${canary(`query over MCP, ${token === undefined}`)}`,
      body: { jsonrpc: '2.0', id: 1, method: 'ping' },
    });
});

test('incident 29: (planting) a wildcard is asked for by a key that no server takes', async () => {
  await rest('POST', '/v1/proxies', { hostname: '*.wild.example.com', target_url: service.url });
  await rest('GET', '/v1/certificate-explanation?hostname=*.wild.example.com');
  await rest('POST', '/v1/alert-tests', {});
});

test('incident 29: the search finds what is there', async () => {
  const visible = canary('path, which is logged');
  await product.get('site.example.com', `/${visible}`);
  assert.deepEqual(canaries.in(await everyLogPage(product, adminToken)), ['path, which is logged']);
  await collector.until(() =>
    (['traces', 'logs'] as const).every(
      (signal) => canaries.in(Buffer.concat(collector.got(signal))).length > 0,
    ),
  );
  canaries.planted.delete('path, which is logged');
  assert.ok(canaries.planted.size > 60, String(canaries.planted.size));
});

const LISTS = [
  '/v1/users',
  '/v1/clients',
  '/v1/grants',
  '/v1/tokens',
  '/v1/alerts?state=all',
  '/v1/proxies',
  '/v1/changes?since=1h',
  '/v1/refusals',
  '/v1/audit-records?limit=1000',
  '/v1/log-stats?group_by=path&since=1h',
  '/metrics',
];
test('incident 29: no canary is in any answer, list, export or metric', async () => {
  for (const path of LISTS) answers.push([path, (await send(product, { path, token: adminToken })).text]);
  for (const [what, answer] of answers)
    assert.deepEqual(canaries.in(answer), [], `${what}: ${answer.slice(0, 800)}`);
});

test('incident 29: no canary is in an alert that was sent', async () => {
  await eventually(async () => (alerts.length > 0 ? true : undefined), 'an alert');
  assert.deepEqual(canaries.in(alerts.join('\n')), []);
});

test('incident 29: no canary is in the log, in a file or printed, while it runs and after its end', async () => {
  assert.deepEqual(canaries.in(await everyLogPage(product, adminToken)), []);
  await assertNotKept(product, (bytes) => canaries.in(bytes));
});

test('incident 29: no canary was sent to a collector', () => {
  for (const signal of ['traces', 'logs', 'metrics'] as const) {
    assert.ok(collector.got(signal).length > 0, signal);
    assert.deepEqual(canaries.in(Buffer.concat(collector.got(signal))), [], signal);
  }
  assert.deepEqual(collector.faults, []);
});
