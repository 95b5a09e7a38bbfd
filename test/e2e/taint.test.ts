/** The taint rule in the product as it runs: a client that a person let in by OAuth, over MCP and over REST, and a restart. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { configFile, generous, send } from '../support/callers.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';

const hostname = 'app.example.com';

test('an OAuth client that has read the log changes nothing unasked, on no surface, after a restart either; others do', async () => {
  await using product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  const made = await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:1' });
  assert.equal(made.status, 201);
  const person = new Person(product);
  const client = await person.client();
  const { access_token } = await client.signIn({ scope: 'logs:read proxies:read proxies:write' });
  const ask = async (path: string, method: string, body?: object) => {
    const page = await person.visitor.request(new URL(path, person.issuer), {
      method,
      headers: {
        authorization: `Bearer ${access_token}`,
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    return JSON.parse(page.body);
  };
  const call = (name: string, args: object) =>
    ask('/mcp', 'POST', { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } });
  const change = { hostname, enabled: true };
  const overMcp = async () => (await call('update_proxy', change)).result.content[0].text.split(':')[0];
  const overRest = async () =>
    (await ask(`/v1/proxies/${hostname}`, 'PATCH', { enabled: true })).error?.code ?? 'OK';

  assert.equal(await overRest(), 'OK', 'nothing was read yet');
  assert.equal((await call('get_logs', { lines: 1 })).result.isError, undefined);
  assert.deepEqual([await overMcp(), await overRest()], ['CONFIRMATION_REQUIRED', 'CONFIRMATION_REQUIRED']);
  const other = { hostname: 'new.example.com', target_url: 'http://127.0.0.1:1' };
  assert.equal((await call('create_proxy', other)).result.isError, undefined, 'what only creates goes on');
  const asOwner = {
    path: `/v1/proxies/${hostname}`,
    method: 'PATCH',
    token: product.adminToken,
    body: { enabled: true },
  };
  assert.equal((await send(product, { path: '/v1/logs', token: product.adminToken })).status, 200);
  assert.equal((await send(product, asOwner)).status, 200, 'an API token over REST is no mind that reads');

  const told = (await product.api('GET', '/v1/logs?kind=audit&lines=50&verbose=true')).body.records;
  const refused = told.filter(({ outcome }: { outcome: string }) => outcome === 'CONFIRMATION_REQUIRED');
  assert.equal(refused.length, 2);
  assert.match(JSON.stringify(refused), /asked_because.*get_logs/, 'the audit record says why');

  await product.kill();
  await using again = await product.restart();
  assert.equal(again.httpsPort, product.httpsPort);
  assert.equal(await overRest(), 'CONFIRMATION_REQUIRED');
});
