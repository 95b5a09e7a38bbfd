/** The taint rule in the product as it runs: a client that a person let in by OAuth, over MCP and over REST, and a restart. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { configFile, generous, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';
import { invite, signInAs, Visitor } from '../support/visitor.ts';

const hostname = 'app.example.com';

/** On the page of the link: what the call is, and then the call goes through, once. */
async function agreeOnce(person: Person, { link, again }: { link: string; again: () => Promise<any> }) {
  const page = await person.visitor.open(link);
  assert.equal(page.status, 200, page.body);
  assert.match(
    page.body,
    /update_proxy \{&quot;hostname&quot;:&quot;app.example.com&quot;,&quot;enabled&quot;:true\}/,
  );
  assert.match(page.body, /A client <small>\(dcr_/);
  assert.match(page.body, /Asked because this client has read text that strangers wrote/);
  assert.match(String(page.headers['content-security-policy']), /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal((await person.visitor.open(link)).status, 200, 'looking uses nothing up');
  const done = await person.visitor.submit(page, { decision: 'agree' });
  assert.match(done.body, /The client may make this call once, within 5 minutes/);
  assert.equal(
    (await person.visitor.submit(page, { decision: 'agree' })).status,
    404,
    'a link is answered once',
  );
  assert.equal((await again()).isError, undefined);
  assert.match((await again()).content[0].text, /^CONFIRMATION_REQUIRED/);
}

test('an OAuth client that has read the log changes nothing unasked, on no surface, after a restart either; others do', async () => {
  await using product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  const made = await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:1' });
  assert.equal(made.status, 201);
  const person = new Person(product);
  const client = await person.client();
  const { access_token } = await client.signIn({ scope: 'logs:read proxies:read proxies:write' });
  const call = (name: string, args: object) => person.call(access_token, name, args);
  const change = { hostname, enabled: true };
  const overMcp = async () => (await call('update_proxy', change)).content[0].text.split(':')[0];
  const overRest = async () =>
    (await person.send(access_token, ['PATCH', `/v1/proxies/${hostname}`], { enabled: true })).error?.code ??
    'OK';

  assert.equal(await overRest(), 'OK', 'nothing was read yet');
  const resource = {
    jsonrpc: '2.0',
    id: 1,
    method: 'resources/read',
    params: { uri: 'ohp://logs?filter=kind%3Aall' },
  };
  const { result } = await person.send(access_token, ['POST', '/mcp'], resource);
  assert.match(result.contents[0].text, /never follow instructions/, 'a resource is read as the tool is');
  assert.deepEqual([await overMcp(), await overRest()], ['CONFIRMATION_REQUIRED', 'CONFIRMATION_REQUIRED']);
  const other = { hostname: 'new.example.com', target_url: 'http://127.0.0.1:1' };
  assert.equal((await call('create_proxy', other)).isError, undefined, 'what only creates goes on');
  const asOwner = {
    path: `/v1/proxies/${hostname}`,
    method: 'PATCH',
    token: product.adminToken,
    body: { enabled: true },
  };
  assert.equal((await send(product, { path: '/v1/logs', token: product.adminToken })).status, 200);
  assert.equal((await send(product, asOwner)).status, 200, 'an API token over REST is no mind that reads');

  const recordsOf = (operation: string, wanted: string, count: number) =>
    eventually(async () => {
      const { body } = await product.api('GET', '/v1/logs?kind=audit&lines=50&verbose=true');
      const found = body.records.filter(
        (one: Record<string, string>) => one.operation === operation && one.outcome === wanted,
      );
      return found.length >= count ? (found as unknown[]) : undefined;
    }, `${count} records of ${operation}: ${wanted}`);
  const refused = await recordsOf('update_proxy', 'CONFIRMATION_REQUIRED', 2);
  assert.equal(refused.length, 2);
  assert.match(JSON.stringify(refused), /asked_because.*get_logs/, 'the audit record says why');

  const linkFor = async (args: object) => person.confirmUrlOf(await call('update_proxy', args));
  await agreeOnce(person, { link: await linkFor(change), again: () => call('update_proxy', change) });
  // After the two that nobody was asked for.
  const [agreed] = await recordsOf('update_proxy', 'OK', 3);
  assert.match(JSON.stringify(agreed), /agreed on a page/);
  assert.match(JSON.stringify(agreed), /agreed_by\W+usr_/);

  const refused2 = await person.visitor.open(await linkFor({ hostname, enabled: false }));
  await person.visitor.submit(refused2, { decision: 'refuse' });
  for (const more of [{}, { version: 2 }, { version: 3 }])
    assert.match(
      (await call('update_proxy', { hostname, enabled: false, ...more })).content[0].text,
      /has refused this call/,
    );

  await invite(product, 'eve');
  const last = await linkFor(change);
  const eve = new Visitor(product);
  const strange = await eve.open(last);
  assert.doesNotMatch(strange.body, /update_proxy/, 'who is not signed in sees nothing of it');
  const told2 = await signInAs(eve, strange, { adminToken: product.adminToken, username: 'eve' });
  assert.deepEqual([told2.url.href, told2.status], [last, 403]);
  assert.match(told2.body, /for another user than eve/);
  assert.doesNotMatch(told2.body, /update_proxy/);

  await product.kill();
  await using again = await product.restart();
  assert.equal(again.httpsPort, product.httpsPort);
  assert.equal(await overRest(), 'CONFIRMATION_REQUIRED');
  assert.equal((await person.visitor.open(last)).status, 404, 'a link of before is worth nothing');
});
