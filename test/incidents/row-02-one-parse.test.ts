/**
 * A gate that reads the message for itself, before the part that acts on it, can be told another story than that part
 * (nginx-ui's pre-parsing of MCP bodies). Whatever two readers of the same bytes could take differently is sent here
 * by callers who may not do what one of the readings asks for; nothing of it may happen.
 */
import assert from 'node:assert/strict';
import test, { after, afterEach } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  configFile,
  generous,
  grant,
  MODERN,
  modernHeaders,
  modernMeta,
  openSession,
  outcomeOf,
  postMcp,
  type Reply,
  send,
} from '../support/callers.ts';
import { startProduct } from '../support/product.ts';

const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
after(() => product[Symbol.asyncDispose]());

const VICTIM = 'victim.example.com';
const OWN = 'own.example.net';
const TARGET = 'http://localhost:1';
for (const hostname of [VICTIM, OWN])
  assert.equal((await product.api('POST', '/v1/proxies', { hostname, target_url: TARGET })).status, 201);
const viewer = (await grant(product, { bundle: 'viewer' })).secret;
const confined = (await grant(product, { bundle: 'admin', hostnames: [OWN, `*.${OWN}`] })).secret;

const proxies = async () =>
  (await product.api('GET', '/v1/proxies')).body.proxies.map(
    ({ hostname, version }: { hostname: string; version: number }) => `${hostname} ${version}`,
  );
const untouched = [`${OWN} 1`, `${VICTIM} 1`];
afterEach(async () => assert.deepEqual(await proxies(), untouched, 'nothing has changed'));

const json = { 'content-type': 'application/json' };
type Rest = [
  token: string,
  method: string,
  path: string,
  body: string | Buffer,
  headers?: Record<string, string>,
];
const rest = (...[token, method, path, body, headers = json]: Rest) =>
  send(product, { method, path, token, body, headers });

/** Two readings of one message: as the first and as the last of duplicates. */
const call = (name: string, args: string, more = '') =>
  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${name}","arguments":${args}${more}}}`;
const meta = `,"_meta":${JSON.stringify(modernMeta)}`;
const victim = `{"hostname":"${VICTIM}"}`;

const eras = {
  legacy: (body: string | Buffer, token = viewer) => postMcp(product, { token, body }),
  modern: (body: string | Buffer, token = viewer) =>
    postMcp(product, { token, body, headers: modernHeaders('tools/call', 'delete_proxy') }),
};
type Era = keyof typeof eras;
const eraNames = Object.keys(eras) as Era[];
const metaOf = (era: Era) => (era === 'modern' ? meta : '');
const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))));

function refused(reply: Reply, what: string): void {
  assert.notEqual(outcomeOf(reply), 'OK', `${what}: ${reply.status} ${reply.text}`);
  assert.ok(reply.status < 500, `${what}: ${reply.status} ${reply.text}`);
}

test('incident 02: REST: of duplicate names the last one counts, for the gate as for the change', async () => {
  const create = (first: string, last: string) =>
    rest(
      confined,
      'POST',
      '/v1/proxies',
      `{"hostname":"${first}","target_url":"${TARGET}","hostname":"${last}","enabled":false}`,
    );
  assert.equal((await create(`a.${OWN}`, 'a.example.com')).status, 403);
  const own = await create('a.example.com', `a.${OWN}`);
  assert.deepEqual([own.status, own.json.hostname], [201, `a.${OWN}`]);
  assert.equal((await product.api('DELETE', `/v1/proxies/a.${OWN}`)).status, 200);
});

test('incident 02: REST: neither body nor query nor header can change which resource the path names', async () => {
  const victimPath = `/v1/proxies/${VICTIM}`;
  const own = `/v1/proxies/${OWN}`;
  const body = `{"hostname":"${VICTIM}","enabled":true,"version":7}`;
  // The path names its own proxy, with a version that it does not have: refused for that reason, on that proxy.
  assert.equal((await rest(confined, 'PATCH', own, body)).status, 412);
  assert.equal(
    (await rest(confined, 'PATCH', victimPath, `{"hostname":"${OWN}","enabled":false}`)).status,
    404,
  );
  assert.equal((await rest(confined, 'PATCH', `${own}?hostname=${VICTIM}`, '{"enabled":false}')).status, 400);
  const overrides = ['x-http-method-override', 'x-http-method', 'x-method-override'];
  for (const name of overrides)
    for (const method of ['GET', 'POST'])
      assert.notEqual((await rest(confined, method, own, '', { [name]: 'DELETE' })).status, 500, name);
  for (const name of ['x-original-url', 'x-rewrite-url']) {
    const headers = { [name]: victimPath };
    assert.equal((await send(product, { path: own, token: confined, headers })).json.hostname, OWN, name);
  }
  // Who says that it was handed on is not local, and is sent to HTTPS: to the path that it asked for.
  const headers = { 'x-forwarded-prefix': victimPath };
  const handedOn = await send(product, { path: own, token: confined, headers });
  assert.deepEqual([handedOn.status, new URL(handedOn.headers.location ?? '').pathname], [308, own]);
});

/** Text that some reader takes for `delete VICTIM` or `disable VICTIM`. */
const oddBodies: Record<string, string | Buffer> = {
  'a byte order mark': bytes([0xef, 0xbb, 0xbf], '{"enabled":false}'),
  'UTF-16 with a byte order mark': Buffer.from('\ufeff{"enabled":false}', 'utf16le'),
  'UTF-16 without one': Buffer.from('{"enabled":false}', 'utf16le'),
  'bytes that are not UTF-8': bytes('{"enabled":false,"x', [0xff, 0xfe], '":1}'),
  'an overlong encoding of a quote': bytes('{"enabled":false,"', [0xc0, 0xa2], '":1}'),
  'a lone surrogate as a name': '{"enabled":false,"\\ud800":1}',
  'an array around it': '[{"enabled":false}]',
  'a name in another case': '{"Enabled":false}',
  'a name in full width': '{"\uff45nabled":false}',
  'a name with a zero byte': '{"enabled\\u0000":false}',
  __proto__: '{"__proto__":{"enabled":false}}',
  'constructor.prototype': '{"constructor":{"prototype":{"enabled":false}}}',
  'a comment': '{/*x*/"enabled":false}',
  'a trailing comma': '{"enabled":false,}',
  'single quotes': "{'enabled':false}",
  'two documents': '{}{"enabled":false}',
  'a document per line': '{}\n{"enabled":false}',
  NaN: '{"version":NaN,"enabled":false}',
  'a number beyond all': '{"version":1e400,"enabled":false}',
  'a number that no double holds': '{"version":9007199254740993,"enabled":false}',
  'a number as text': '{"version":"1","enabled":false}',
  'minus zero': '{"version":-0,"enabled":false}',
  'a fraction': '{"version":1.5,"enabled":false}',
  'text for a boolean': '{"enabled":"false"}',
  'a number for a boolean': '{"enabled":0}',
  'a form': 'enabled=false',
  'too deep': `{"enabled":false,"a":${'['.repeat(100)}${']'.repeat(100)}}`,
};

for (const [what, body] of Object.entries(oddBodies))
  test(`incident 02: REST refuses ${what}, from the administrator too`, async () => {
    const reply = await rest(product.adminToken, 'PATCH', `/v1/proxies/${OWN}`, body);
    assert.equal(reply.status, 400, reply.text);
  });

test('incident 02: REST reads no other encoding than it is told, and is told none but UTF-8', async () => {
  for (const type of [
    'application/json; charset=utf-7',
    'application/json; charset=utf-16',
    'application/json; charset=iso-8859-1',
    'application/json, text/plain',
    'text/json',
    'application/x-json',
    'application/json+x',
    'application/vnd.x+json',
  ])
    assert.equal(
      (
        await rest(product.adminToken, 'PATCH', `/v1/proxies/${OWN}`, '{"enabled":false}', {
          'content-type': type,
        })
      ).status,
      400,
      type,
    );
  const gzip = { ...json, 'content-encoding': 'gzip' };
  const zipped = gzipSync('{"enabled":false}');
  assert.equal((await rest(product.adminToken, 'PATCH', `/v1/proxies/${OWN}`, zipped, gzip)).status, 400);
});

test('incident 02: REST: an argument of a query that is given twice is refused', async () => {
  for (const query of ['limit=1&limit=2', 'limit=1&%6cimit=2', 'filter=a&filter=b'])
    assert.equal((await send(product, { path: `/v1/proxies?${query}`, token: viewer })).status, 400, query);
  for (const query of [
    'Limit=1',
    'limit%00=1',
    'limit[]=1',
    'limit=0x10',
    'limit=1e1',
    'limit=%2B1',
    'limit=%D9%A1',
  ])
    assert.equal((await send(product, { path: `/v1/proxies?${query}`, token: viewer })).status, 400, query);
});

for (const era of eraNames) {
  test(`incident 02: MCP, ${era}: of duplicate names the last one counts, for the gate as for the call`, async () => {
    const duplicates = {
      'the tool, allowed first': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"delete_proxy","arguments":${victim}${metaOf(era)}}}`,
      'the method, allowed first': `{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"delete_proxy","arguments":${victim}${metaOf(era)}}}`,
      'params, allowed first': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":""}${metaOf(era)}},"params":{"name":"delete_proxy","arguments":${victim}${metaOf(era)}}}`,
    };
    for (const [what, body] of Object.entries(duplicates)) refused(await eras[era](body), what);
    const hostnames = `{"hostname":"${OWN}","hostname":"${VICTIM}"}`;
    refused(
      await eras[era](call('delete_proxy', hostnames, metaOf(era)), confined),
      'the argument, own first',
    );
    // The other way round the last tool is a harmless one, and the first one is not run.
    const harmless = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_proxy","arguments":${victim},"name":"echo","arguments":{"message":"last"}${metaOf(era)}}}`;
    const headers = era === 'modern' ? modernHeaders('tools/call', 'echo') : {};
    const reply = await postMcp(product, { token: viewer, body: harmless, headers });
    assert.equal(reply.json.result.structuredContent.message, 'last', reply.text);
  });

  const wholes: Record<string, string | Buffer> = {
    'a byte order mark': bytes([0xef, 0xbb, 0xbf], call('delete_proxy', victim, metaOf(era))),
    'UTF-16': Buffer.from(call('delete_proxy', victim, metaOf(era)), 'utf16le'),
    'bytes that are not UTF-8': bytes(
      call('delete_proxy', victim, metaOf(era)).slice(0, -2),
      ',"x":"',
      [0xff],
      '"}}',
    ),
    'names in another case': call('delete_proxy', victim, metaOf(era)).replace('"method"', '"Method"'),
    'arguments in another case': call('delete_proxy', `{"Hostname":"${VICTIM}"}`, metaOf(era)),
    'a tool in another case': call('Delete_Proxy', victim, metaOf(era)),
    'a tool with a space': call('delete_proxy ', victim, metaOf(era)),
    'a tool with a zero byte': call('delete_proxy\\u0000', victim, metaOf(era)),
    'an inherited name as tool': call('__proto__', victim, metaOf(era)),
    'an inherited name as tool, again': call('constructor', victim, metaOf(era)),
    '__proto__ in the arguments': call('delete_proxy', `{"__proto__":${victim}}`, metaOf(era)),
    '__proto__ in params': call('delete_proxy', '{}', `,"__proto__":{"arguments":${victim}}${metaOf(era)}`),
    '__proto__ of the message': `{"__proto__":${call('delete_proxy', victim, metaOf(era))}}`,
    'arguments as text': call('delete_proxy', JSON.stringify(victim), metaOf(era)),
    'arguments as array': call('delete_proxy', `["${VICTIM}"]`, metaOf(era)),
    'a version beyond all': call('delete_proxy', `{"hostname":"${VICTIM}","version":1e400}`, metaOf(era)),
    'a version that no double holds': call(
      'delete_proxy',
      `{"hostname":"${VICTIM}","version":9007199254740993}`,
      metaOf(era),
    ),
    'too deep': call('delete_proxy', `${'{"a":'.repeat(80)}1${'}'.repeat(80)}`, metaOf(era)),
    'two documents': `${call('delete_proxy', victim, metaOf(era))}${call('delete_proxy', victim, metaOf(era))}`,
    'one call in call_operation': call(
      'call_operation',
      `{"name":"delete_proxy","arguments":${victim}}`,
      metaOf(era),
    ),
    'call_operation in call_operation': call(
      'call_operation',
      `{"name":"call_operation","arguments":{"name":"delete_proxy","arguments":${victim}}}`,
      metaOf(era),
    ),
    'a principal of its own making': call('delete_proxy', victim, metaOf(era)).replace(
      '"jsonrpc":"2.0"',
      '"jsonrpc":"2.0","principal":{"id":"system"},"authInfo":{"scopes":["proxies:write"]}',
    ),
  };
  for (const [what, body] of Object.entries(wholes))
    test(`incident 02: MCP, ${era}: ${what} opens nothing to a viewer`, async () => {
      refused(await eras[era](body), what);
    });

  test(`incident 02: MCP, ${era}: a batch is judged call by call`, async () => {
    const batch = `[${call('echo', '{"message":"in"}', metaOf(era))},${call('delete_proxy', victim, metaOf(era)).replace('"id":1', '"id":2')}]`;
    const reply = await eras[era](batch);
    const results: { id: number; result?: { isError?: boolean } }[] = Array.isArray(reply.json)
      ? reply.json
      : [];
    if (reply.status === 200)
      assert.equal(results.find(({ id }) => id === 2)?.result?.isError, true, reply.text);
    else assert.equal(reply.status, 400, reply.text);
  });
}

test('incident 02: MCP: a batch exists in 2025-03-26 only, and opens nothing there either', async () => {
  const batch = `[${call('delete_proxy', victim)},${call('create_proxy', `{"hostname":"b.example.com","target_url":"${TARGET}"}`).replace('"id":1', '"id":2')}]`;
  for (const version of ['2025-03-26', '2025-06-18', '2025-11-25']) {
    const session = await openSession(product, viewer, { version });
    const reply = await postMcp(product, { token: viewer, session, body: batch });
    if (version !== '2025-03-26') assert.equal(reply.status, 400, version);
    else assert.doesNotMatch(reply.text, /"isError":false|structuredContent/, reply.text);
  }
});

test('incident 02: MCP: what the headers say of a modern call has to be what the body says', async () => {
  const body = call('delete_proxy', victim, meta);
  const lies: Record<string, Record<string, string>> = {
    'another method': modernHeaders('tools/list'),
    'another tool': modernHeaders('tools/call', 'echo'),
    'no tool': modernHeaders('tools/call'),
    'no method': { 'mcp-protocol-version': MODERN, 'mcp-name': 'delete_proxy' },
    'another version': {
      ...modernHeaders('tools/call', 'delete_proxy'),
      'mcp-protocol-version': '2025-11-25',
    },
    'no version': { 'mcp-method': 'tools/call', 'mcp-name': 'delete_proxy' },
    'another tool in base64': modernHeaders(
      'tools/call',
      `=?base64?${Buffer.from('echo').toString('base64')}?=`,
    ),
  };
  for (const [what, headers] of Object.entries(lies)) {
    const reply = await postMcp(product, { token: viewer, body, headers });
    refused(reply, what);
    assert.equal(reply.status, 400, `${what}: ${reply.text}`);
  }
  // Tools that ask nobody take a shorter way through the program; what holds for one way holds for both.
  const plain = call('list_proxies', '{}', meta);
  for (const headers of [modernHeaders('tools/call', 'echo'), modernHeaders('tools/list', 'list_proxies')])
    assert.equal((await postMcp(product, { token: viewer, body: plain, headers })).status, 400);
});

test('incident 02: MCP: the narrowing of the URL can only take away', async () => {
  for (const query of [
    '?toolsets=proxies',
    '?read_only=false',
    '?read_only=0&read_only=false',
    '?toolsets=proxies,system',
  ])
    refused(await postMcp(product, { token: viewer, query, body: call('delete_proxy', victim) }), query);
  const asAdmin = (query: string, body: string) =>
    postMcp(product, { token: product.adminToken, query, body });
  const wrapped = call('call_operation', `{"name":"delete_proxy","arguments":${victim}}`);
  for (const query of ['?read_only=true', '?read_only', '?read_only=false&read_only=true', '?toolsets=logs'])
    for (const body of [call('delete_proxy', victim), wrapped]) refused(await asAdmin(query, body), query);
  const mistaken = ['?read_only=maybe', '?toolsets=Proxies', '?toolsets='];
  for (const query of [
    ...mistaken,
    '?readonly=1',
    '?readOnly=true',
    '?read-only',
    '?READ_ONLY=1',
    '?toolset=logs',
  ]) {
    refused(await asAdmin(query, call('delete_proxy', victim)), query);
    const headers = modernHeaders('tools/call', 'delete_proxy');
    const body = call('delete_proxy', victim, meta);
    refused(await postMcp(product, { token: product.adminToken, query, body, headers }), query);
    const begun = await asAdmin(query, '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}');
    assert.equal(begun.status, 400, `${query}: told when the client begins`);
  }
});
