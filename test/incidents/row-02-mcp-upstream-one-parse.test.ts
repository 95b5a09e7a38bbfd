/**
 * The same attack on rules for the tools of somebody else's MCP server (`mcp` of `protect_proxy`): a message that the
 * rules read in one way and the server in another. The server here is the most lenient there could be: it answers at
 * every path and to every method, and has run the tool as soon as some reader could find its name in what it got.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import test, { after, afterEach } from 'node:test';
import { brotliCompressSync, deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import {
  configFile,
  generous,
  grant,
  MODERN,
  modernHeaders,
  modernMeta,
  raw,
  send,
} from '../support/callers.ts';
import { startProduct } from '../support/product.ts';

const HOST = 'mcp.example.com';
const VICTIM = 'victim';

/** All that has come, in every form that a reader might make of it. */
const seen: string[] = [];
const upstream = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const bytes = Buffer.concat(chunks);
    const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
    const forms = [
      bytes.toString('utf8'),
      bytes.toString('utf16le'),
      isGzip ? gunzipSync(bytes).toString() : '',
    ];
    seen.push(
      [request.url ?? '', JSON.stringify([request.rawHeaders, request.rawTrailers]), ...forms].join('\n'),
    );
    response.setHeader('content-type', 'application/json');
    response.end('{"jsonrpc":"2.0","id":1,"result":{"content":[]}}');
  });
}).listen(0, '127.0.0.1');
await once(upstream, 'listening');
const product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
after(async () => {
  upstream.closeAllConnections();
  upstream.close();
  await product[Symbol.asyncDispose]();
});

const may = await grant(product, { bundle: 'viewer', name: 'may' });
const mayNot = await grant(product, { bundle: 'viewer', name: 'may not' });
const proxy = {
  hostname: HOST,
  target_url: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
  redirect_to_https: false,
  serve_mcp: false,
};
assert.equal((await product.api('POST', '/v1/proxies', proxy)).status, 201);
const policy = {
  mode: 'bearer',
  allow: { clients: [may.id, mayNot.id] },
  mcp: { path: '/mcp', default: 'allow', tools: [{ name: `${VICTIM}*`, allow: { clients: [may.id] } }] },
};
const set = await product.api('PUT', `/v1/proxies/${HOST}/protection`, policy);
assert.equal(set.status, 200, JSON.stringify(set.body));

const ran = (from: number) => seen.slice(from).filter((text) => /victim/i.test(text.normalize('NFKC')));
let before = 0;
afterEach(() => {
  assert.deepEqual(ran(before), [], 'the tool was never within reach');
  before = seen.length;
});

interface Odd {
  body?: string | Buffer;
  headers?: Record<string, string | string[]>;
  method?: string;
  path?: string;
}
const json = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
const sent = (token: string, { headers = {}, ...rest }: Odd) =>
  send(product, {
    method: 'POST',
    path: '/mcp',
    token,
    ...rest,
    headers: { host: HOST, ...json, ...headers },
  });

const call = (params: string) => `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${params}}`;
const plain = call(`{"name":"${VICTIM}","arguments":{}}`);
const harmless = call('{"name":"harmless","arguments":{}}');
const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))));

const bodies: Record<string, string | Buffer> = {
  'the call itself': plain,
  'its prefix rule': call('{"name":"victim_of_a_rule"}'),
  'the name twice, the first counts': call(`{"name":"${VICTIM}","name":"harmless"}`),
  'the name twice, the last counts': call(`{"name":"harmless","name":"${VICTIM}"}`),
  'the name twice, escaped once': call(`{"name":"harmless","n\\u0061me":"${VICTIM}"}`),
  'the name twice, in another case': call(`{"name":"harmless","Name":"${VICTIM}"}`),
  'the name twice, in full width': call(`{"name":"harmless","\uff4eame":"${VICTIM}"}`),
  'params twice': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"harmless"},"params":{"name":"${VICTIM}"}}`,
  'params in another case': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"harmless"},"Params":{"name":"${VICTIM}"}}`,
  'params with a Kelvin sign and a long s': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"harmless"},"param\u017f":{"name":"${VICTIM}"}}`,
  'the method twice': `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"${VICTIM}"}}`,
  'the method in another case': `{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call","params":{"name":"${VICTIM}"}}`,
  'a method that some compare loosely': plain.replace('tools/call', 'Tools/Call'),
  'a method with a space': plain.replace('tools/call', 'tools/call '),
  'a method that a reader of C ends at NUL': plain.replace('tools/call', 'tools/call\\u0000x'),
  'a method with half a surrogate': plain.replace('tools/call', 'tools/call\\ud800'),
  'a method with a zero width space': plain.replace('tools/call', 'tools\u200b/call'),
  'the name twice, the first ends at NUL': call(`{"name\\u0000":"${VICTIM}","name":"harmless"}`),
  'the name twice, with a zero width space': call(`{"na\u200bme":"${VICTIM}","name":"harmless"}`),
  'the name twice, with half a surrogate': call(`{"name\\udc00":"${VICTIM}","name":"harmless"}`),
  'a name with a space': call(`{"name":" ${VICTIM}"}`),
  'a name in another case': call('{"name":"VICTIM"}').replace('VICTIM', 'victim\\u0000'),
  'a name in full width': call('{"name":"\uff56\uff49\uff43\uff54\uff49\uff4d"}'),
  'a name with a zero width space': call('{"name":"vic\u200btim"}').replace('vic', 'victim'),
  'a name that is a list': call(`{"name":["${VICTIM}"]}`),
  'params that are a list': call(`["${VICTIM}"]`),
  'a response beside a request': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${VICTIM}"},"result":{}}`,
  'a notification': `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"${VICTIM}"}}`,
  'an id that is none': plain.replace('"id":1', '"id":{}'),
  'a huge id': plain.replace('"id":1', '"id":1e400'),
  'another version of JSON-RPC': plain.replace('"2.0"', '"1.0"'),
  'no version of JSON-RPC': plain.replace('"jsonrpc":"2.0",', ''),
  'a batch': `[${harmless},${plain}]`,
  'a batch in a batch': `[${harmless},[${plain}]]`,
  'two documents': harmless + plain,
  'lines of documents': `${harmless}\n${plain}`,
  'a comment': `${harmless}//${plain}`,
  'a trailing comma': plain.replace('{}', '{},'),
  'single quotes': plain.replaceAll('"', "'"),
  'a byte order mark': bytes([0xef, 0xbb, 0xbf], plain),
  'UTF-16': Buffer.from(plain, 'utf16le'),
  'UTF-16 with a mark': Buffer.from(`\ufeff${plain}`, 'utf16le'),
  'bytes that are not UTF-8': bytes(plain.slice(0, -1), ',"x":"', [0xff], '"}'),
  'an overlong quote': bytes(harmless.slice(0, -2), ',"x', [0xc0, 0xa2], `:"${VICTIM}"}}`),
  'a NUL behind it': bytes(harmless, [0], plain),
  'gzip that nobody tells of': gzipSync(plain),
  'nesting without end': `${'['.repeat(100)}${plain}${']'.repeat(100)}`,
  'a form': `message=${encodeURIComponent(plain)}&x=${VICTIM}`,
};

for (const [what, body] of Object.entries(bodies))
  test(`incident 02: behind a proxy: ${what}`, async () => {
    const { status, text } = await sent(mayNot.secret, { body });
    assert.ok(status < 500, `${status} ${text}`);
    assert.match(text, /"error"/);
  });

const other: Record<string, Odd> = {
  'another content type': { headers: { 'content-type': 'text/plain' } },
  'two content types': {
    headers: { 'content-type': ['application/json', 'application/x-www-form-urlencoded'] },
  },
  'a content type in another spelling': { headers: { content_type: 'application/x-www-form-urlencoded' } },
  'a charset': { headers: { 'content-type': 'application/json; charset=utf-7' } },
  'a multipart body': { headers: { 'content-type': 'multipart/form-data; boundary=x' } },
  gzip: { body: gzipSync(plain), headers: { 'content-encoding': 'gzip' } },
  deflate: { body: deflateSync(plain), headers: { 'content-encoding': 'deflate' } },
  brotli: { body: brotliCompressSync(plain), headers: { 'content-encoding': 'br' } },
  'an encoding in another spelling': { body: gzipSync(plain), headers: { content_encoding: 'gzip' } },
  'an encoding that is not used': { headers: { 'content-encoding': 'gzip' } },
  'a name of another tool in the header': { headers: { 'mcp-method': 'tools/call', 'mcp-name': 'harmless' } },
  'a method of another kind in the header': { headers: { 'mcp-method': 'ping' } },
  ...Object.fromEntries(
    ['PUT', 'PATCH', 'DELETE', 'GET', 'OPTIONS', 'QUERY'].map((method) => [
      `${method} with the body`,
      { method },
    ]),
  ),
  ...Object.fromEntries(
    ['x-http-method-override', 'x-http-method', 'x-method-override'].map((name) => [
      `a GET with ${name}`,
      { method: 'GET', headers: { [name]: 'POST' } },
    ]),
  ),
  ...Object.fromEntries(
    [
      '/mcp/',
      '//mcp',
      '/%6dcp',
      '/%4Dcp',
      '/MCP',
      '/mcp/x',
      '/a/../mcp',
      '/./mcp',
      '/mcp;v=1',
      '/mcp?a=/other',
      '/MCP/%2e/',
    ].map((path) => [`the path ${path}`, { path }]),
  ),
};

for (const [what, odd] of Object.entries(other))
  test(`incident 02: behind a proxy: ${what}`, async () => {
    const { status, text } = await sent(mayNot.secret, { body: plain, ...odd });
    assert.ok(status < 500, `${status} ${text}`);
  });

test('incident 02: behind a proxy: the header of 2026-07-28 says one thing and the body another, either way around', async () => {
  const modern = (name: string) =>
    JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, _meta: modernMeta } });
  const base64 = (text: string) => `=?base64?${Buffer.from(text).toString('base64')}?=`;
  for (const named of ['harmless', base64('harmless'), base64(VICTIM), VICTIM, '=?BASE64?x?=']) {
    const headers = modernHeaders('tools/call', named);
    await sent(mayNot.secret, { body: modern(VICTIM), headers });
    if (/harmless|aGFybWxlc3M/.test(named)) continue;
    assert.equal((await sent(mayNot.secret, { body: modern('harmless'), headers })).status, 400, named);
  }
  const twice = { ...modernHeaders('tools/call'), 'mcp-name': ['harmless', VICTIM] };
  assert.equal((await sent(mayNot.secret, { body: modern('harmless'), headers: twice })).status, 400);
  assert.equal(
    (await sent(mayNot.secret, { body: harmless, headers: { 'mcp-protocol-version': MODERN } })).status,
    400,
  );
});

test('incident 02: behind a proxy: no route leads around the rules, whatever it is called and wherever below the target it goes', async () => {
  const { secret } = await grant(product, { permissions: ['routes:write', 'proxies:read'] });
  for (const [path, more, asked] of [
    ['/around', { strip_prefix: true }, '/around/mcp'],
    ['/deep/around', { strip_prefix: true }, '/deep/around/MCP/'],
    ['/direct', { strip_prefix: true, target_url: `${proxy.target_url}/mcp` }, '/direct'],
    ['/below', { target_url: `${proxy.target_url}/mcp` }, '/below'],
  ] as const) {
    const route = { hostname: HOST, path, target_url: proxy.target_url, ...more };
    const made = await send(product, { method: 'POST', path: '/v1/routes', token: secret, body: route });
    assert.equal(made.status, 201, made.text);
    const { status, text } = await sent(mayNot.secret, { body: plain, path: asked });
    assert.equal(status, 200, text);
    assert.match(text, /Unknown tool/, asked);
  }
});

test('incident 02: behind a proxy: what follows on the connection is never taken for the rest of a body', async () => {
  const head = (more: string) =>
    `POST /mcp HTTP/1.1\r\nhost: ${HOST}\r\nauthorization: Bearer ${mayNot.secret}\r\ncontent-type: application/json\r\n${more}\r\n\r\n`;
  const smuggled = [
    `${head(`content-length: ${harmless.length}`)}${harmless}${head(`connection: close\r\ncontent-length: ${plain.length}`)}${plain}`,
    `${head(`transfer-encoding: chunked\r\ncontent-length: ${harmless.length}`)}${harmless}${plain}`,
    `${head('transfer-encoding: chunked\r\nconnection: close')}${harmless.length.toString(16)}\r\n${harmless}\r\n0\r\nx-tool: ${VICTIM}\r\n\r\n`,
  ];
  for (const text of smuggled) await raw(product, text);
});

test('incident 02: behind a proxy: who may use the tool does, and what others send beside it passes untouched', async () => {
  assert.equal((await sent(mayNot.secret, { body: harmless })).status, 200);
  const asArgument = call('{"name":"harmless","arguments":{"tool":"other","Name":1,"params":{"name":"x"}}}');
  const count = seen.length;
  assert.equal((await sent(mayNot.secret, { body: asArgument })).status, 200);
  assert.ok(seen[count]?.includes(asArgument), 'to the byte');
  assert.equal((await sent(may.secret, { body: plain })).status, 200);
  assert.equal(ran(before).length, 1);
  before = seen.length;
});
