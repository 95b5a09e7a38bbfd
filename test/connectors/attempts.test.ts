/** `diagnose_connector` beside real attempts: scripted clients that stop somewhere are found in the log, by name. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { AttemptReport } from '../../src/connectors/schema.ts';
import { configFile, generous } from '../support/callers.ts';
import { diagnose } from '../support/diagnose.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';

const CURSOR = 'Cursor/2.3.1 (darwin arm64)';
let product: Product;
let person: Person;

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
});
after(() => product[Symbol.asyncDispose]());

const redirect_uris = ['http://localhost:8787/callback'];
const send = (path: string, method = 'GET', body?: string, type = 'application/json') =>
  person.visitor.request(new URL(path, person.issuer), {
    method,
    headers: { 'user-agent': CURSOR, ...(body !== undefined && { 'content-type': type }) },
    ...(body !== undefined && { body }),
  });

async function attempts(): Promise<{ own: AttemptReport[]; summary: string }> {
  const { attempts: all, summary } = await diagnose(product, { url: person.mcp, client: 'cursor' });
  return { own: all.filter(({ user_agent }) => user_agent === CURSOR), summary };
}

test('a client that stopped after its registration is found, then its person at each step, with evidence', async () => {
  const hello = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}';
  assert.equal((await send('/mcp', 'POST', hello)).status, 401);
  await send('/.well-known/oauth-protected-resource/mcp');
  await send('/.well-known/oauth-authorization-server');
  const registered = await send('/oauth/register', 'POST', JSON.stringify({ redirect_uris }));
  assert.equal(registered.status, 201, registered.body);

  const first = await attempts();
  assert.equal(first.own.length, 1, JSON.stringify(first));
  const [attempt] = first.own;
  assert.deepEqual(
    [attempt?.client, attempt?.reached, attempt?.stopped_before, attempt?.requests],
    ['cursor', 'registration', 'authorize', 4],
  );
  assert.match(first.summary, /cursor stopped before authorize \(1\)/);
  const { body: log } = await product.api('GET', `/v1/logs?trace_id=${attempt?.trace_ids[0]}`);
  assert.equal(log.records[0].path, '/oauth/register', 'the trace id is found in the log');

  const { client_id } = JSON.parse(registered.body);
  const start = new URL('/oauth/authorize', person.issuer);
  start.search = new URLSearchParams({
    client_id,
    redirect_uri: redirect_uris[0] ?? '',
    response_type: 'code',
    resource: person.mcp,
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
  }).toString();
  const page = await person.visitor.open(start);
  assert.equal((await attempts()).own[0]?.stopped_before, 'consent');
  // Where the answer goes there is nobody: it is the agreement that counts here.
  await assert.rejects(person.agree(page));
  assert.equal((await attempts()).own[0]?.stopped_before, 'token');
});

test('a client that came all the way is told of as such', async () => {
  const client = await person.client();
  const { access_token } = await client.signIn();
  for (const message of ['initialize', 'tools/list'])
    await person.visitor.request(new URL(person.mcp), {
      method: 'POST',
      headers: {
        authorization: `Bearer ${access_token}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'user-agent': 'claude-code/3.0 (cli)',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: message, params: {} }),
    });
  const { attempts: all } = await diagnose(product, { url: person.mcp, client: 'claude' });
  const claude = all.find(({ client: name }) => name === 'claude');
  assert.deepEqual([claude?.reached, claude?.from_vendor], ['tools_list', false]);
  assert.equal(claude?.stopped_before, undefined);
});

test('since bounds how far back is looked, and has to be a time', async () => {
  const { status, body } = await product.api('GET', `/v1/connector-diagnosis?url=${person.mcp}&since=soon`);
  assert.equal(status, 400);
  assert.match(body.error.message, /^since/);
  const later = new Date(Date.now() + 60_000).toISOString();
  const { attempts: none, summary } = await diagnose(product, {
    url: person.mcp,
    client: 'cursor',
    since: later,
  });
  assert.deepEqual(none, []);
  assert.match(summary, /No client came since/);
});
