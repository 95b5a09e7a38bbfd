/**
 * The other half of `row-29-canaries.test.ts`: secrets that come by settings, by services, by commands and by the sign-in.
 * Every party that is given one is hostile: it answers with all that it was sent. Planting comes first, searching last.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { after } from 'node:test';
import * as oauth from 'oauth4webapi';
import { callTool, configFile, generous, send } from '../support/callers.ts';
import { assertNotKept, Canaries, everyLogPage } from '../support/canaries.ts';
import { type Client, Person, startOnFixedPorts } from '../support/oauth.ts';
import { startUpstream } from '../support/upstream.ts';
import { PASSWORD } from '../support/visitor.ts';

const all = new Canaries('Zq8canary');
const canaries = all.planted;
const canary = (where: string) => all.plant(where);
const allIn = (bytes: Buffer) => all.in(bytes);

const folder = mkdtempSync(join(tmpdir(), 'ohp-canaries-'));
const inFile = (where: string): string => {
  const path = join(folder, `${canaries.size}.secret`);
  writeFileSync(path, `${canary(where)}\n`, { mode: 0o600 });
  return path;
};

/** What came to who tells it again. */
const told: string[] = [];
/** Says everything that it was sent, as an error. */
const tellTale: RequestListener = (request, response) => {
  text(request).then(
    (body) => {
      const said = JSON.stringify({ headers: request.headers, url: request.url, body });
      told.push(said);
      response.writeHead(500, { 'content-type': 'application/json' });
      response.end(
        JSON.stringify({
          message: said,
          error: said,
          detail: said,
          type: 'urn:x',
          errors: [{ message: said, code: 1 }],
        }),
      );
    },
    () => response.destroy(),
  );
};
const service = await startUpstream(tellTale);
const socket = join(folder, 'engine.sock');
const engine = createServer((request, response) => {
  const path = (request.url ?? '').replace(/^\/v[\d.]+/, '').split('?')[0] ?? '';
  const json = (value: unknown) =>
    response
      .writeHead(200, { 'content-type': 'application/json', 'api-version': '1.44' })
      .end(JSON.stringify(value));
  if (path === '/version') return void json({ Version: '27.0', ApiVersion: '1.44', MinAPIVersion: '1.24' });
  if (path === '/_ping') return void json('OK');
  if (path.endsWith('/json') && !path.startsWith('/images/')) return void json([]);
  if (path === '/networks') return void json([]);
  if (path === '/volumes') return void json({ Volumes: [] });
  if (path === '/events') {
    response.writeHead(200).flushHeaders();
    return;
  }
  if (/^\/images\/.*\/json$/.test(path) && path !== '/images/json')
    return void json({
      Id: `sha256:${'a'.repeat(64)}`,
      RepoTags: ['app:1'],
      RepoDigests: [],
      Size: 1,
      Created: '2026-01-01T00:00:00Z',
      Config: {},
    });
  tellTale(request, response);
}).listen(socket);
await once(engine, 'listening');

const adminToken = canary('OHP_ADMIN_TOKEN');
const product = await startOnFixedPorts({
  env: {
    OHP_ADMIN_TOKEN: adminToken,
    OHP_LOG_LEVEL: 'debug',
    OHP_DOCKER_SOCKET: socket,
    OHP_CONFIG: configFile({
      ...generous,
      alerts: { webhook_url: `${service.url}/hook`, webhook_secret: canary('alerts.webhook_secret') },
      acme: {
        email: 'ops@example.com',
        issuers: [
          {
            name: 'hostile',
            directory: 'https://localhost:1/directory',
            eab_key_id: 'key-1',
            eab_hmac_key: canary('eab_hmac_key'),
          },
        ],
      },
      dns: [
        {
          zones: ['a.example.com'],
          provider: 'cloudflare',
          token: { file: inFile('Cloudflare token') },
          url: `${service.url}/cf`,
        },
        {
          zones: ['b.example.com'],
          provider: 'route53',
          access_key_id: 'AKIAEXAMPLEEXAMPLE00',
          secret_access_key: { file: inFile('Route 53 key') },
          url: `${service.url}/r53`,
        },
        {
          zones: ['c.example.com'],
          provider: 'webhook',
          url: `${service.url}/dns`,
          secret: { file: inFile('DNS webhook secret') },
        },
      ],
      services: {
        images: ['docker.io/library/*', 'registry.example.com/**'],
        registries: {
          'registry.example.com': { username: 'puller', password_file: inFile('registry password') },
        },
      },
      commands: {
        mode: 'any',
        templates: {
          say: {
            argv: ['true', '{word}'],
            parameters: { word: { type: 'string', pattern: '[A-Za-z0-9]{1,60}', secret: true } },
          },
          fail: {
            argv: ['false', '{word}'],
            parameters: { word: { type: 'string', pattern: '[A-Za-z0-9]{1,60}', secret: true } },
          },
        },
      },
      oauth: {
        upstreams: [
          {
            name: 'elsewhere',
            title: 'Elsewhere',
            kind: 'oidc',
            issuer: service.url,
            client_id: 'us',
            client_secret_file: inFile('client secret of an upstream'),
            allow: { everyone: true },
          },
        ],
      },
    }),
  },
});
after(async () => {
  await product[Symbol.asyncDispose]();
  await service[Symbol.asyncDispose]();
  engine.closeAllConnections();
  engine.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Answers of the control plane: none of them repeats a secret that was sent, nor that a party sent back. */
const answers: [what: string, text: string][] = [];
const rest = async (method: string, path: string, body?: object) => {
  const reply = await send(product, { method, path, token: adminToken, body });
  assert.notEqual(reply.status, 404, `${method} ${path}: ${reply.text}`);
  answers.push([`${method} ${path}`, `${JSON.stringify(reply.headers)}${reply.text}`]);
  return reply;
};
async function both(name: string, args: object, method: string, path: string): Promise<void> {
  await rest(method, path, args);
  for (const era of ['legacy', 'modern'] as const) {
    const reply = await callTool(product, adminToken, {
      name: 'call_operation',
      args: { name, arguments: args },
      era,
    });
    answers.push([`${name}, ${era}`, reply.text]);
  }
}

test('incident 29: (planting) in named secrets, environments and credentials of registries', async () => {
  await both('set_secret', { name: 'db', value: canary('a named secret') }, 'PUT', '/v1/secrets/db');
  for (const image of ['app:1', 'registry.example.com/app:1']) {
    const environment = { PASSWORD: canary(`environment of a service of ${image}`), DB: { secret: 'db' } };
    const command = ['serve', `--password=${canary(`command of a service of ${image}`)}`];
    await both('create_service', { name: 'app', image, environment, command }, 'POST', '/v1/services');
    await both('pull_image', { image }, 'POST', '/v1/image-pulls');
  }
  const url = `http://user:${canary('password in a URL of an external service')}@localhost:1/`;
  await both('create_external_service', { name: 'api', url }, 'POST', '/v1/external-services');
});

test('incident 29: (planting) in parameters of commands that are marked secret', async () => {
  for (const command of ['say', 'fail', 'nothing']) {
    const parameters = { word: canary(`parameter of ${command}`) };
    await both('run_command', { command, parameters }, 'POST', '/v1/commands');
  }
  const parameters = {
    word: `${canary('parameter that does not fit')} `,
    other: canary('unknown parameter'),
  };
  await both('run_command', { command: 'say', parameters }, 'POST', '/v1/commands');
});

test('incident 29: (planting) in what CAs and DNS providers are told, who tell it again', async () => {
  for (const name of ['app.example.com', 'x.a.example.com', 'x.b.example.com', 'x.c.example.com']) {
    const proxy = { hostname: name, target_url: service.url };
    await rest('POST', '/v1/proxies', proxy);
    await both('request_certificate', { names: [name], issuer: 'hostile' }, 'POST', '/v1/certificate-orders');
    await both(
      'explain_certificate',
      { hostname: name },
      'GET',
      `/v1/certificate-explanation?hostname=${name}`,
    );
  }
});

async function signedIn(client: Client): Promise<oauth.TokenEndpointResponse> {
  const { redeem, parameters, verifier } = await client.authorize({
    scope: 'proxies:read logs:read offline_access',
  });
  canaries.set('authorization code', parameters.get('code') ?? assert.fail());
  canaries.set('PKCE verifier', verifier);
  return oauth.processAuthorizationCodeResponse(client.as, client.client, await redeem());
}

test('incident 29: (planting) in the sign-in: password, code, verifier, tokens, good and used up', async () => {
  const person = new Person(product);
  canaries.set('password of a person', PASSWORD);
  const client = await person.client();
  const tokens = await signedIn(client);
  canaries.set('access token', tokens.access_token.split('.').at(-1) ?? assert.fail());
  const refresh = tokens.refresh_token ?? assert.fail('no refresh token');
  canaries.set('refresh token', refresh);
  const next = await client.refreshed(refresh);
  canaries.set('next refresh token', next.refresh_token ?? assert.fail());
  for (const bad of [canary('made-up refresh token'), refresh])
    answers.push(['a refresh', await (await client.refresh(bad)).text()]);
  for (const access of [tokens.access_token, `${tokens.access_token}x`, canary('made-up access token')])
    for (const path of ['/v1/proxies', '/mcp']) await send(product, { path, token: access });
  const elsewhere = await person.visitor.open(`${person.issuer}/oauth/upstream/elsewhere`);
  answers.push(['a sign-in elsewhere', elsewhere.body]);
});

test('incident 29: the engine was told what it had to be told, so that there was something to tell again', () => {
  assert.ok(allIn(Buffer.from(told.join('\n'))).includes('registry password'));
  assert.ok(canaries.size > 20, String(canaries.size));
});

test('incident 29: no canary is in any answer', () => {
  for (const [what, answer] of answers)
    assert.deepEqual(allIn(Buffer.from(answer)), [], `${what}: ${answer.slice(0, 1500)}`);
});

test('incident 29: no canary is in any answer of get_logs, get_log_stats or what_changed, in an export or a metric', async () => {
  const pages = [await everyLogPage(product, adminToken)];
  for (const path of [
    '/v1/log-stats?group_by=operation&since=1h',
    '/v1/changes?since=1h',
    '/v1/audit-records?limit=1000',
    '/v1/alerts?state=all',
    '/metrics',
  ])
    pages.push((await send(product, { path, token: adminToken })).bytes);
  assert.deepEqual(allIn(Buffer.concat(pages)), []);
});

test('incident 29: no canary is in any file of the data directory, nor printed, while it runs and after its end', async () => {
  await assertNotKept(product, allIn);
});
