/** Sign-in under attack, and what the log tells of it: races for the first account, guessing, sessions, secrets. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import test, { after, before } from 'node:test';
import { ATTEMPTS_PER_MINUTE } from '../../src/oauth/interactions/attempts.ts';
import { accessTo } from '../support/agent.ts';
import { assertAtOnce } from '../support/at-once.ts';
import { postMcp, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { type Page, PASSWORD, Visitor } from '../support/visitor.ts';

let product: Product;
before(async () => {
  product = await startProduct();
});
after(() => product[Symbol.asyncDispose]());

const account = (visitor: Visitor) => visitor.at('localhost', '/oauth/account');
const isSignedIn = ({ body }: Page): boolean => body.includes('You are signed in as');

test('of two browsers that make the first account at once, one does', async () => {
  const visitors = [new Visitor(product), new Visitor(product)];
  const forms = await Promise.all(
    visitors.map(async (visitor) => {
      const asked = await visitor.open(account(visitor));
      assert.doesNotMatch(asked.body, /name="password"/, 'one secret at a time');
      return visitor.submit(asked, { token: product.adminToken });
    }),
  );
  const [first, second] = await Promise.all(
    visitors.map((visitor, n) =>
      visitor.submit(forms[n] as Page, { username: `first-${n}`, password: PASSWORD }),
    ),
  );
  assert.equal([first, second].filter((page) => page && isSignedIn(page)).length, 1);
  assert.equal((await product.api('GET', '/v1/users')).body.users.length, 1);
  const late = new Visitor(product);
  assert.match((await late.open(account(late))).body, /<h1>Sign in<\/h1>/);
});

test('the second step of the first account is not reached without the token', async () => {
  const fresh = await startProduct();
  try {
    const visitor = new Visitor(fresh);
    const asked = await visitor.open(account(visitor));
    const csrf = /name="csrf" value="([^"]+)"/.exec(asked.body)?.[1] ?? '';
    for (const proof of ['', csrf, 'x'.repeat(43)]) {
      const body = new URLSearchParams({ csrf, proof, username: 'eve', password: PASSWORD }).toString();
      const { status, body: page } = await visitor.request(
        new URL(`${asked.url.pathname}/first-account`, asked.url),
        {
          method: 'POST',
          body,
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
        },
      );
      assert.equal(status, 200);
      assert.match(page, /name="token"/);
    }
    assert.deepEqual((await fresh.api('GET', '/v1/users')).body.users, []);
  } finally {
    await fresh[Symbol.asyncDispose]();
  }
});

test('signing out everywhere ends the sessions of every browser', async () => {
  const { username } = (await product.api('GET', '/v1/users')).body.users[0];
  const [here, there] = [new Visitor(product), new Visitor(product)];
  for (const visitor of [here, there]) {
    const page = await visitor.submit(await visitor.open(account(visitor)), { username, password: PASSWORD });
    assert.ok(isSignedIn(page));
  }
  const page = await here.open(account(here));
  const csrf = /name="csrf" value="([^"]+)"/.exec(page.body)?.[1] ?? '';
  const stolen = await there.request(new URL(`${account(there)}/sign-out-everywhere`), {
    method: 'POST',
    body: new URLSearchParams({ csrf }).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  assert.equal(stolen.status, 403, 'a form is for one session');
  await here.open(`${account(here)}/sign-out-everywhere`, {
    method: 'POST',
    body: new URLSearchParams({ csrf }).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' },
  });
  for (const visitor of [here, there]) assert.equal(isSignedIn(await visitor.open(account(visitor))), false);
});

test('sign-in, refusal and consent are in the audit record, without what was typed', async () => {
  const { username, id } = (await product.api('GET', '/v1/users')).body.users[0];
  const visitor = new Visitor(product);
  const secretName = 'a-password-in-the-wrong-field';
  const form = await visitor.open(account(visitor));
  const wrong = await visitor.submit(form, { username: secretName, password: 'wrong-password-of-a-person' });
  assert.equal(wrong.status, 401);
  const known = await visitor.submit(wrong, { username, password: 'wrong-password-of-a-person' });
  assert.equal(known.status, 401);
  assert.equal(
    /role="alert">([^<]*)/.exec(wrong.body)?.[1],
    /role="alert">([^<]*)/.exec(known.body)?.[1],
    'the same words whether the name is known or not',
  );
  assert.ok(isSignedIn(await visitor.submit(known, { username, password: PASSWORD })));
  const told = await eventually(async () => {
    const { body } = await product.api('GET', '/v1/logs?kind=audit&lines=200&verbose=true');
    const text = JSON.stringify(body);
    return /signed in/.test(text) && /sign-in refused/.test(text) ? text : undefined;
  }, 'the records of the sign-in');
  assert.ok(told.includes(id));
  for (const secret of [secretName, 'wrong-password', PASSWORD, product.adminToken])
    assert.ok(!told.includes(secret), secret);
});

test('disabling and deleting a user ends their open stream in less than a second, and their token', async () => {
  const resource = `http://localhost:${product.httpPort}/mcp`;
  for (const end of ['disable', 'delete']) {
    const { body: made } = await product.api('POST', '/v1/users', {
      username: `leaver-${end}`,
      role: 'viewer',
    });
    const invite = new URL(made.invite_url);
    const visitor = new Visitor(product);
    const welcome = await visitor.open(visitor.at('localhost', invite.pathname + invite.search));
    const code = /name="code" value="([^"]+)"/.exec(welcome.body)?.[1] ?? '';
    assert.ok(isSignedIn(await visitor.submit(welcome, { code, password: PASSWORD })));
    const { token } = await accessTo(product, resource, { scope: 'viewer', username: made.username });
    const stream = await openStream(token);
    if (end === 'disable') await product.api('PATCH', `/v1/users/${made.id}`, { disabled: true });
    else await product.api('DELETE', `/v1/users/${made.id}`);
    await assertAtOnce(product, () => stream.closed, `${end}: the stream ended`);
    const { status } = await send(product, { path: '/mcp', method: 'POST', token });
    assert.equal(status, 401, end);
  }
});

/** An event stream of a session, by whoever has this token. */
async function openStream(token: string): Promise<IncomingMessage> {
  const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'a', version: '1' } };
  const hello = await postMcp(product, {
    token,
    body: { jsonrpc: '2.0', id: 1, method: 'initialize', params },
  });
  assert.equal(hello.status, 200, hello.text);
  const call = request({
    host: '127.0.0.1',
    port: product.httpPort,
    path: '/mcp',
    headers: {
      host: `localhost:${product.httpPort}`,
      authorization: `Bearer ${token}`,
      accept: 'text/event-stream',
      'mcp-session-id': String(hello.headers['mcp-session-id']),
    },
  });
  call.end();
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  response.on('error', () => undefined).resume();
  return response;
}

test('guessing from one network is refused after a while, with the right password too', async () => {
  const { username } = (await product.api('GET', '/v1/users')).body.users[0];
  const visitor = new Visitor(product);
  let page = await visitor.open(account(visitor));
  const names = Array.from({ length: ATTEMPTS_PER_MINUTE + 2 }, (_, n) => `nobody-${n}`);
  for (const name of names)
    if (page.status !== 429)
      page = await visitor.submit(page, { username: name, password: 'wrong-password' });
  assert.equal(page.status, 429);
  assert.equal((await visitor.submit(page, { username, password: PASSWORD })).status, 429);
});
