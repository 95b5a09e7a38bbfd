/** What a stranger does with an address takes nothing from those who have a credential, nor from other addresses. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { wireHttp, type WireReply } from '../support/wire.ts';

const FAILURES = 5;
const PER_PRINCIPAL = 3;
const TOTAL = 8;
/** Loopback has many addresses: strangers are told apart by them. */
const STRANGER = '127.0.0.66';
const NEIGHBOUR = '127.0.0.77';

let product: Product;

before(async () => {
  const mcp = {
    access: 'public',
    failures_per_minute_per_address: FAILURES,
    max_sessions_per_principal: PER_PRINCIPAL,
    max_sessions: TOTAL,
  };
  product = await startProduct({ env: { OHP_CONFIG: configFile({ mcp }) } });
});

after(() => product?.[Symbol.asyncDispose]());

interface From {
  address: string;
  token?: string;
  session?: string | undefined;
}

async function post({ address, token, session }: From, message: object): Promise<WireReply> {
  const body = JSON.stringify(Array.isArray(message) ? message : { jsonrpc: '2.0', id: 1, ...message });
  using wire = await wireHttp(product, { localAddress: address });
  wire.write(
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n` +
      'Accept: application/json, text/event-stream\r\n' +
      (token === undefined ? '' : `Authorization: Bearer ${token}\r\n`) +
      (session === undefined ? '' : `Mcp-Session-Id: ${session}\r\n`) +
      `Connection: close\r\n\r\n${body}`,
  );
  const reply = await wire.reply();
  assert.ok(reply);
  return reply;
}

const open = async (from: From): Promise<string> => {
  const { headers, body } = await post(from, { method: 'initialize', params: {} });
  return headers['mcp-session-id'] ?? assert.fail(body);
};
const ping = async (from: From): Promise<number> => (await post(from, { method: 'ping' })).status;

test('incident 18: whoever guesses credentials is held off, and nobody else at the same address is', async () => {
  const address = STRANGER;
  const statuses: number[] = [];
  for (let i = 0; i <= FAILURES; i++) statuses.push(await ping({ address, token: `wrong-${i}` }));
  assert.deepEqual(statuses, [...Array(FAILURES).fill(401), 429]);
  assert.equal(await ping({ address, token: product.adminToken }), 200);
  assert.equal(
    await ping({ address, token: 'wrong' }),
    429,
    'and a good one does not make the bad ones good',
  );
});

test('incident 18: sessions of callers without a credential make room for those of their own network only', async () => {
  const victim = { address: NEIGHBOUR, session: await open({ address: NEIGHBOUR }) };
  const mine: string[] = [];
  for (let i = 0; i <= PER_PRINCIPAL; i++) mine.push(await open({ address: STRANGER }));
  assert.equal(await ping(victim), 200);
  const statuses = await Promise.all(mine.map((session) => ping({ address: STRANGER, session })));
  assert.deepEqual(statuses, [404, ...Array(PER_PRINCIPAL).fill(200)]);
  assert.equal(await ping({ ...victim, address: STRANGER }), 200, 'a client may come from another network');
});

test('incident 18: however many networks strangers have, a session with a credential outlives theirs', async () => {
  const own = { address: NEIGHBOUR, token: product.adminToken };
  const session = await open(own);
  for (let i = 0; i <= TOTAL; i++) await open({ address: `127.0.1.${i + 1}` });
  assert.equal(await ping({ ...own, session }), 200);
});

test('incident 18: what strangers send wrongly is in the log and not on the screen of the operator', async () => {
  const printed = product.output();
  const from = { address: STRANGER };
  const malformed = [
    { method: 7 },
    { method: 'tools/call', params: [] },
    { method: 'tools/list', params: { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } } },
    { method: 'tools/list', params: { _meta: { 'io.modelcontextprotocol/protocolVersion': 'x' } } },
    { method: 'tools/call', params: { name: 7 } },
    { method: 'subscriptions/listen', params: 7 },
    { id: {}, method: 'ping' },
    { id: 77, result: {}, method: undefined },
    { method: 'notifications/progress', id: undefined, params: { progressToken: 'x', progress: 1 } },
    [1, { method: 'ping' }],
    {},
  ];
  for (const message of malformed) await post(from, message);
  const { records } = await eventually(async () => {
    const { body } = await product.api('GET', `/v1/logs?kind=mcp&client_address=${STRANGER}&lines=100`);
    return body.records.length >= malformed.length ? body : undefined;
  }, 'records of what was malformed');
  assert.ok(records.some(({ outcome }: { outcome: string }) => outcome === 'INVALID_INPUT'));
  assert.equal(product.output(), printed);
});

test("incident 25: a session of one without a credential is nobody's who has one, and the other way round", async () => {
  const nobodys = await open({ address: NEIGHBOUR });
  const own = await open({ address: NEIGHBOUR, token: product.adminToken });
  assert.equal(await ping({ address: NEIGHBOUR, token: product.adminToken, session: nobodys }), 404);
  assert.equal(await ping({ address: NEIGHBOUR, session: own }), 404);
});
