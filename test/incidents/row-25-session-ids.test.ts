/**
 * A session id names a conversation; it is no credential (MCP, Session Hijacking; context-forge #4557). Knowing one
 * opens nothing, guessing costs the guesser and nobody else.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import test, { after } from 'node:test';
import BetterSqlite3 from 'better-sqlite3';
import {
  callTool,
  configFile,
  generous,
  grant,
  openSession,
  postMcp,
  type Reply,
  send,
} from '../support/callers.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const MAX_OWN = 5;
const settings = { mcp: { ...generous.mcp, max_sessions_per_principal: MAX_OWN } };
let product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
const upstream = await startUpstream();
after(() => Promise.all([product[Symbol.asyncDispose](), upstream[Symbol.asyncDispose]()]));

const SERVED = 'served.example.com';
await product.api('POST', '/v1/proxies', { hostname: SERVED, target_url: upstream.url });
const alice = (await grant(product, { bundle: 'admin' })).secret;
const mallory = (await grant(product, { bundle: 'admin' })).secret;
const confined = (await grant(product, { bundle: 'admin', hostnames: [SERVED] })).secret;

const ping = { jsonrpc: '2.0', id: 1, method: 'ping' };
const post = (token: string | undefined, session: string, body: object = ping) =>
  postMcp(product, { token, session, body });
const at = (method: string, token: string | undefined, session: string, headers = {}) =>
  send(product, {
    method,
    path: '/mcp',
    token,
    headers: { accept: 'text/event-stream', 'mcp-session-id': session, ...headers },
  });

const messages = {
  ping,
  'tools/list': { jsonrpc: '2.0', id: 1, method: 'tools/list' },
  'tools/call': {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: 'echo', arguments: { message: 'x' } },
  },
  'a cancellation': { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } },
  'an answer': { jsonrpc: '2.0', id: 1, result: { action: 'accept', content: { confirm: true } } },
  'an unknown method': { jsonrpc: '2.0', id: 1, method: 'sessions/takeover' },
};

async function isUseless(session: string, token: string): Promise<void> {
  const replies: [string, Reply][] = [];
  for (const [what, body] of Object.entries(messages)) replies.push([what, await post(token, session, body)]);
  for (const method of ['GET', 'HEAD', 'DELETE']) replies.push([method, await at(method, token, session)]);
  const resume = { 'last-event-id': 'g0000000000000000.1' };
  replies.push(['resuming', await at('GET', token, session, resume)]);
  for (const [what, { status, text, headers, bytes }] of replies) {
    assert.equal(status, 404, `${what}: ${text}`);
    assert.equal(headers['mcp-session-id'], undefined, what);
    assert.ok(bytes.length < 500, `${what}: no more comes back than was sent`);
  }
}

test('incident 25: a stolen id is useless to every other principal, the administrator included: POST, GET, DELETE are 404', async () => {
  const session = await openSession(product, alice);
  for (const thief of [mallory, confined, product.adminToken]) await isUseless(session, thief);
  assert.equal((await post(alice, session)).status, 200, 'and its owner notices nothing');
});

test('incident 25: an id without a credential, or with one that is not valid, is 401, known or not', async () => {
  const session = await openSession(product, alice);
  for (const id of [session, 'ses_000000000000000000000000'])
    for (const token of [undefined, `${alice}x`, id]) {
      const replies = [await post(token, id), await at('GET', token, id), await at('DELETE', token, id)];
      assert.deepEqual(
        replies.map(({ status }) => status),
        [401, 401, 401],
      );
      assert.ok(replies.every(({ text }) => text === '' || !text.includes(id)));
    }
  assert.equal((await post(alice, session)).status, 200);
});

test('incident 25: a guessed id answers exactly as a stolen one, so that guessing tells nothing', async () => {
  const session = await openSession(product, alice);
  const masked = ({ status, headers, text }: Reply) =>
    [status, Object.keys(headers).sort().join(), text.replace(/[0-9a-f]{32}/g, '*')].join('\n');
  const guess = `ses_${'0'.repeat(24)}`;
  assert.equal(masked(await post(mallory, session)), masked(await post(mallory, guess)));
  assert.equal(masked(await at('GET', mallory, session)), masked(await at('GET', mallory, guess)));
  assert.equal(masked(await at('DELETE', mallory, session)), masked(await at('DELETE', mallory, guess)));
});

test('incident 25: odd ids are unknown ids: 404 without harm', async () => {
  const session = await openSession(product, alice);
  const odd = [
    session.toUpperCase(),
    `${session} `,
    `${session}, ${session}`,
    session.slice(0, -1),
    `${session}0`,
    session.replace('ses_', ''),
    '*',
    '%',
    '_'.repeat(28),
    'ses_%',
    "' or 1=1 --",
    '../../etc/passwd',
    '__proto__',
    'constructor',
    'undefined',
    'x'.repeat(4000),
  ];
  for (const id of odd) {
    const found = id.trim() === session ? 200 : 404; // RFC 9110 §5.5: white space around a value is none of it.
    assert.equal((await post(alice, id)).status, found, id);
    assert.equal((await post(mallory, id)).status, 404, id);
  }
});

test('incident 25: an id in a URL, a cookie or a body is none', async () => {
  const session = await openSession(product, alice);
  const carriers = [
    { path: `/mcp?session_id=${session}` },
    { path: `/mcp?sessionId=${session}&mcp-session-id=${session}` },
    { path: '/mcp', headers: { cookie: `mcp-session-id=${session}` } },
    { path: `/mcp/${session}` },
  ];
  for (const { path, headers } of carriers) {
    const accept = 'text/event-stream';
    for (const token of [alice, mallory, undefined]) {
      const { status } = await send(product, { path, token, headers: { accept, ...headers } });
      assert.ok([400, 401, 404].includes(status), `${path}: ${status}`);
    }
  }
});

test('incident 25: the events of a session are for its owner: a stream id of one is of no use in another', async () => {
  const session = await openSession(product, alice);
  // Accepting events only makes the reply a stream whose events are kept, and which can be resumed.
  const secretly = {
    jsonrpc: '2.0',
    id: 7,
    method: 'tools/call',
    params: { name: 'echo', arguments: { message: 'for alice only' } },
  };
  const events = { accept: 'text/event-stream' };
  const streamed = await postMcp(product, { token: alice, session, headers: events, body: secretly });
  const first = /^id: ?(p[0-9a-f]{16}\.\d+)$/m.exec(streamed.text)?.[1] ?? assert.fail(streamed.text);
  const resumable = `${first.split('.')[0]}.0`;
  const own = await openSession(product, mallory);
  assert.match((await at('GET', alice, session, { 'last-event-id': resumable })).text, /for alice only/);
  for (const [token, id] of [
    [mallory, own],
    [mallory, session],
    [confined, session],
    [undefined, session],
  ] as const)
    for (const lastEventId of [first, resumable]) {
      const reply = await at('GET', token, id, { 'last-event-id': lastEventId });
      assert.doesNotMatch(reply.text, /for alice only/);
    }
});

const sessionsIn = ({ dataDir }: Product): number => {
  const database = new BetterSqlite3(join(dataDir, 'state.sqlite'), { readonly: true });
  try {
    return Number(database.prepare('select count(*) from sessions').pluck().get());
  } finally {
    database.close();
  }
};

test('incident 25: guessing makes nothing: no session, no event, no record of an id', async () => {
  const before = sessionsIn(product);
  const guesses = Array.from({ length: 200 }, (_, i) => `ses_${String(i).padStart(24, '0')}`);
  await Promise.all(guesses.map((id) => post(mallory, id)));
  await Promise.all(guesses.map((id) => at('DELETE', mallory, id)));
  assert.equal(sessionsIn(product), before);
  const logs = await product.api('GET', '/v1/logs?kind=all&lines=500&verbose=true');
  assert.doesNotMatch(JSON.stringify(logs.body), /ses_/);
});

test("incident 25: one principal's sessions make room among themselves and end nobody else's", async () => {
  const session = await openSession(product, alice);
  const opened: string[] = [];
  for (let i = 0; i < 3 * MAX_OWN; i += 1) opened.push(await openSession(product, mallory));
  assert.equal((await post(alice, session)).status, 200);
  const alive = await Promise.all(opened.map(async (id) => (await post(mallory, id)).status));
  assert.equal(alive.filter((status) => status === 200).length, MAX_OWN);
});

test('incident 25: a session is of its principal on every hostname, and a confined one stays confined in it', async () => {
  const session = await openSession(product, confined);
  const body = JSON.stringify({ ...messages['tools/call'], params: { name: 'list_tokens', arguments: {} } });
  const on = (token: string) => ({
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'mcp-session-id': session,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body,
  });
  const answer = await product.get(SERVED, '/mcp', on(confined));
  const { tokens } = JSON.parse(answer.body).result?.structuredContent ?? assert.fail(answer.body);
  assert.deepEqual(
    tokens.map(({ hostnames }: { hostnames: string[] }) => hostnames),
    [[SERVED]],
  );
  assert.equal((await product.get(SERVED, '/mcp', on(mallory))).status, 404);
});

test('incident 25: after a restart an id is still of its owner only; after DELETE or revocation it is of nobody', async () => {
  const session = await openSession(product, alice);
  const short = await grant(product, { bundle: 'viewer' });
  const doomed = await openSession(product, short.secret);
  await product.kill();
  product = await product.restart();
  await isUseless(session, mallory);
  assert.equal(
    (await callTool(product, alice, { name: 'echo', args: { message: 'still' }, session })).status,
    200,
  );
  assert.equal((await at('DELETE', alice, session)).status, 200);
  await isUseless(session, alice);
  assert.equal((await product.api('DELETE', `/v1/tokens/${short.id}`)).status, 200);
  assert.equal((await post(short.secret, doomed)).status, 401);
  for (const token of [alice, product.adminToken]) await isUseless(doomed, token);
});
