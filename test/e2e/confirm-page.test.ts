/** Who answers on the page for a call that nobody could be asked about, in the product as it runs: decision 51. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { configFile, generous } from '../support/callers.ts';
import { Person, startOnFixedPorts } from '../support/oauth.ts';
import { invite, navigation, signInAs, Visitor } from '../support/visitor.ts';

const hostname = 'app.example.com';
const settings = { mcp: { ...generous.mcp, confirm: 'always' } };

const textOf = ({ content: [first] }: { content: { text: string }[] }): string => first?.text ?? '';

test('an administrator answers for an API token, and nobody for somebody else’s client; a token answers for nobody', async () => {
  await using product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(settings) } });
  const { adminToken } = product;
  const made = await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:1' });
  assert.equal(made.status, 201);
  const root = new Person(product);
  await (await root.client()).signIn({ scope: 'proxies:read' });
  await invite(product, 'reader');
  await invite(product, 'confined', { role: 'admin', hostnames: ['other.example.com'] });
  await invite(product, 'second', { role: 'admin' });

  /** What somebody sees who follows the link in a browser of their own, and the browser. */
  const openAs = async (username: string, link: string) => {
    const visitor = new Visitor(product);
    const page = await signInAs(visitor, await visitor.open(link), { adminToken, username });
    return { visitor, page };
  };
  const remove = (token: string, more: object = {}) =>
    root.call(token, 'delete_proxy', { hostname, ...more });

  const link = root.confirmUrlOf(await remove(adminToken));
  const headers = { ...navigation, authorization: `Bearer ${adminToken}` };
  for (const method of ['GET', 'POST']) {
    const answer = await new Visitor(product).request(new URL(link), { method, headers });
    assert.match(
      String(answer.headers['location']),
      /\/oauth\/interaction\//,
      `${method} with the token alone`,
    );
    assert.doesNotMatch(answer.body, /delete_proxy|app\.example/i);
  }
  for (const username of ['reader', 'confined']) {
    const { page } = await openAs(username, link);
    assert.equal(page.status, 403, username);
    assert.match(page.body, new RegExp(`for an administrator of all hostnames; ${username} is none`));
    assert.doesNotMatch(page.body, /app\.example/);
  }
  assert.match(textOf(await remove(adminToken)), /Show the person this link/, 'nobody has answered yet');
  const { visitor, page } = await openAs('second', link);
  assert.match(page.body, /In the name of<\/dt><dd>administrator<\/dd>/);
  assert.match((await visitor.submit(page, { decision: 'refuse' })).body, /Nothing was done/);
  for (const more of [{}, { version: made.body.version }])
    assert.match(textOf(await remove(adminToken, more)), /has refused this call/, JSON.stringify(more));

  const writer = new Person(product, 'second');
  const theirs = await (await writer.client()).signIn({ scope: 'proxies:read proxies:write' });
  const theirLink = root.confirmUrlOf(await remove(theirs.access_token));
  const strange = await openAs('root', theirLink);
  assert.equal(strange.page.status, 403);
  assert.match(strange.page.body, /This question is for another user than root/);
  const own = await openAs('second', theirLink);
  assert.match((await own.visitor.submit(own.page, { decision: 'agree' })).body, /make this call once/);
  assert.equal((await remove(theirs.access_token)).isError, undefined);
});
