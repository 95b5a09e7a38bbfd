/** `diagnose_connector` where nothing is wrong: each client's way is walked to its end, and nothing of it stays. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { profiles } from '../../src/connectors/profiles.ts';
import type { ClientId, Diagnosis } from '../../src/connectors/schema.ts';
import { configFile, generous } from '../support/callers.ts';
import { diagnose, pathOf, stepOf } from '../support/diagnose.ts';
import { startMcpUpstream } from '../support/mcp-upstream.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';
import type { Upstream } from '../support/upstream.ts';

const HOST = 'notes.example.com';
let product: Product;
let upstream: Upstream;
let person: Person;
let token: string;

before(async () => {
  upstream = await startMcpUpstream();
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  const made = { hostname: HOST, target_url: upstream.url, serve_mcp: false };
  assert.equal((await product.api('POST', '/v1/proxies', made)).status, 201);
  const policy = { allow: { everyone: true } };
  assert.equal((await product.api('PUT', `/v1/proxies/${HOST}/protection`, policy)).status, 200);
  person = new Person(product);
  const client = await person.client();
  token = (await client.signIn({ scope: 'viewer' })).access_token;
});
after(async () => {
  for (const one of [product, upstream]) await one?.[Symbol.asyncDispose]();
});

/** As a person who has signed in. */
const asPerson: Pick<Product, 'api'> = {
  api: async (method, path) => {
    const headers = { authorization: `Bearer ${token}` };
    const { status, body } = await person.visitor.request(new URL(path, person.issuer), { method, headers });
    return { status, headers: new Headers(), body: JSON.parse(body) };
  },
};

const places = {
  '/mcp of the control host': () => person.mcp,
  'an MCP server behind the proxy': () => `https://${HOST}:${product.httpsPort}/mcp`,
};

const issuerFor = ({ steps }: Diagnosis, client: ClientId) =>
  steps.find(({ step, clients }) => step === 'issuer' && clients.includes(client)) ?? assert.fail(client);

const left = async () => ({
  clients: (await product.api('GET', '/v1/clients')).body.clients.length,
  grants: (await product.api('GET', '/v1/grants')).body.grants.length,
});

for (const [name, urlOf] of Object.entries(places)) {
  test(`every client passes for ${name}, tokens and both eras included, and nothing of it stays`, async () => {
    const before = await left();
    const diagnosis = await diagnose(asPerson, { url: urlOf() });
    assert.deepEqual(
      diagnosis.clients,
      profiles.map(({ id }) => ({ client: id, outcome: 'passes' })),
      JSON.stringify(diagnosis.steps),
    );
    assert.match(diagnosis.summary, /^Claude, ChatGPT, VS Code, Cursor, Inspector: no step fails\./);
    for (const step of ['token', 'refresh', 'authorize', 'expired_token'] as const)
      assert.equal(stepOf(diagnosis, step).status, 'ok', step);
    assert.match(stepOf(diagnosis, 'resource_metadata').found, /challenge: yes, path: yes, root: yes/);
    assert.match(issuerFor(diagnosis, 'vscode').found, /oauth: yes, openid: yes/);
    assert.equal(stepOf(diagnosis, 'initialize').found, 'answered for 2026-07-28 and 2025-11-25');
    assert.deepEqual(await left(), before);
  });

  test(`by a token, which nobody signs in with, what needs a person is said to, for ${name}`, async () => {
    const diagnosis = await diagnose(product, { url: urlOf(), client: 'claude' });
    assert.equal(diagnosis.clients[0]?.outcome, 'passes');
    for (const step of ['token', 'refresh', 'initialize'] as const) {
      const { status, found } = stepOf(diagnosis, step);
      assert.equal(status, 'skipped');
      assert.match(found, /^needs a person/);
    }
    assert.match(diagnosis.summary, /as far as can be walked without a person/);
  });
}

test('the target learns of a walk what it learns of a client, and never a token', () => {
  const asked = upstream.requests.filter(({ headers }) => headers['user-agent'] === 'ohp-diagnose-connector');
  assert.ok(asked.length > 0);
  for (const { headers } of asked) {
    assert.equal(headers['x-auth-user'], 'root');
    assert.equal(headers.authorization, undefined);
  }
});

test('no code, token or secret of a walk is in the answer, the log or what is printed', async () => {
  const { body } = await asPerson.api('GET', pathOf({ url: person.mcp }));
  const { body: log } = await product.api('GET', '/v1/logs?kind=all&lines=1000&verbose=true');
  for (const text of [JSON.stringify(body), JSON.stringify(log), product.output()])
    assert.doesNotMatch(text, /eyJ[\w-]{10}|code_verifier=|[?&]code=|registration_access_token/);
});

test('what the walk itself asked is no attempt of a client', async () => {
  const { attempts } = await diagnose(product, { url: places['an MCP server behind the proxy']() });
  assert.deepEqual(
    attempts.filter(({ user_agent }) => user_agent.includes('diagnose')),
    [],
  );
});

test('with a slash and without one, for each URL metadata of that very URL', async () => {
  for (const url of [person.mcp, `${person.mcp}/`]) {
    const diagnosis = await diagnose(product, { url, client: 'vscode' });
    assert.equal(stepOf(diagnosis, 'resource').found, `resource is ${JSON.stringify(url)}`);
  }
});

test('a hosted client is warned that the authorization server has a name of this machine, one on it is not', async () => {
  const diagnosis = await diagnose(asPerson, { url: places['an MCP server behind the proxy']() });
  const { status, found, remedy = '' } = issuerFor(diagnosis, 'claude');
  assert.equal(status, 'warning');
  assert.match(found, /^tokens are granted at localhost:\d+, a name of this machine/);
  assert.match(remedy, /OHP_PUBLIC_URL/);
  assert.equal(issuerFor(diagnosis, 'cursor').status, 'ok');
  assert.ok(diagnosis.summary.includes(`Claude, ChatGPT: warning at issuer: ${found}. Remedy: ${remedy}.`));
  const local = await diagnose(asPerson, { url: places['/mcp of the control host'](), client: 'claude' });
  assert.equal(issuerFor(local, 'claude').status, 'ok', 'its own URL is told of by reach, once');
});
