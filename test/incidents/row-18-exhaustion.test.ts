/**
 * Slow, many and endless: what one client can hold or spend is bounded, and neighbours are answered meanwhile. Limits
 * are set low, so that the test reaches them; the patience of the test is what bounds it, never a duration.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { configFile, generous, openSession, postMcp, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { block, connectFrames, encode, flag, frame, headers as h2Headers } from '../support/h2-frames.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';
import { Wire, wireHttp, wireHttps } from '../support/wire.ts';

const HOST = 'app.example.com';
const H = `Host: ${HOST}\r\n`;
const MAX_STREAMS = 8;
const MAX_HEADERS = 50;
const MAX_HEAD_BYTES = 8192;
const MAX_PER_ADDRESS = 150;
/** What all of these attacks together may add to the memory of the process. */
const MAX_GROWTH_KIB = 200 * 1024;
const settings = {
  gateway: {
    header_timeout_ms: 3000,
    body_timeout_ms: 3000,
    keep_alive_timeout_ms: 5000,
    max_headers: MAX_HEADERS,
    max_header_bytes: MAX_HEAD_BYTES,
    max_connections_per_address: MAX_PER_ADDRESS,
    max_streams_per_connection: 32,
  },
  mcp: { ...generous.mcp, max_event_streams: MAX_STREAMS },
};
/** Loopback has many addresses: attackers and neighbours are told apart by them. */
const ATTACKER = '127.0.0.66';

let product: Product;
let upstream: Upstream;
let rssBefore: number;
let turn = 0;
let sentByUpstream = 0;

before(async () => {
  upstream = await startUpstream((request, response) => {
    if (request.url === '/endless') {
      const chunk = Buffer.alloc(64 * 1024, 'x');
      const more = () => {
        do sentByUpstream += chunk.length;
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', more);
      more();
    } else if (request.url !== '/slow') response.end(`upstream saw ${request.url}`);
  });
  product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
  const made = await product.api('POST', '/v1/proxies', {
    hostname: HOST,
    target_url: upstream.url,
    redirect_to_https: false,
  });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  await assertNeighbour();
  rssBefore = rss();
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

function rss(): number {
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${product.child.pid}/status`, 'utf8')) ?? [];
  return Number(kib);
}

/** Somebody else, on new connections: HTTPS, REST and MCP. */
async function assertNeighbour(): Promise<void> {
  const path = `/neighbour-${++turn}`;
  const [proxied, rest, mcp] = await Promise.all([
    product.get(HOST, path),
    send(product, { path: '/v1/proxies', token: product.adminToken }),
    postMcp(product, {
      token: product.adminToken,
      body: {
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'echo', arguments: { message: path } },
      },
    }),
  ]);
  assert.deepEqual([proxied.body, rest.status, mcp.status], [`upstream saw ${path}`, 200, 200]);
  assert.ok(mcp.text.includes(path), mcp.text);
}

afterEach(async () => {
  await assertNeighbour();
  assert.equal(product.child.exitCode, null);
});

const many = <T>(count: number, make: (i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, i) => make(i)));

async function tcp(port: number, localAddress = ATTACKER): Promise<Socket> {
  const socket = connectTcp({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

test('incident 18: heads that never end are cut, with 408, while others are answered', async () => {
  const wires = await many(40, async (i) =>
    new Wire(await tcp(product.httpPort)).write(i % 2 === 0 ? '' : `GET / HTTP/1.1\r\n${H}X-Slow: a`),
  );
  await assertNeighbour();
  const replies = await Promise.all(wires.map((wire) => wire.replies()));
  for (const [i, reply] of replies.entries())
    if (i % 2 === 1)
      assert.deepEqual(
        reply.map(({ status }) => status),
        [408],
      );
});

test('incident 18: a head that drips byte by byte is cut as well', async () => {
  const wire = new Wire(await tcp(product.httpPort));
  const drip = setInterval(() => wire.write('x'), 50);
  wire.write(`GET / HTTP/1.1\r\n${H}X-Slow: `);
  const replies = await wire.replies().finally(() => clearInterval(drip));
  assert.deepEqual(
    replies.map(({ status }) => status),
    [408],
  );
});

test('incident 18: TLS handshakes that do not go on are cut', async () => {
  // The first bytes of a ClientHello of 512 bytes, and nothing at all.
  const sockets = await many(30, async (i) => {
    const socket = await tcp(product.httpsPort);
    if (i % 2 === 0) socket.write(Buffer.from('16030102000100', 'hex'));
    return new Wire(socket);
  });
  await assertNeighbour();
  await Promise.all(sockets.map((wire) => wire.ended()));
});

test('incident 18: bodies that never come are cut, of every surface, and their upstream requests with them', async () => {
  const credential = `Authorization: Bearer ${product.adminToken}\r\n`;
  const json = `Host: localhost:${product.httpPort}\r\n${credential}Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n`;
  const heads = [
    `POST /slow HTTP/1.1\r\n${H}Content-Length: 1000\r\n\r\nsome`,
    `POST /slow HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
    `POST /slow HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\nff`,
    `POST /v1/proxies HTTP/1.1\r\n${json}Content-Length: 1000\r\n\r\n{"hostname"`,
    `POST /mcp HTTP/1.1\r\n${json}Content-Length: 1000\r\n\r\n{"jsonrpc"`,
    `POST /unknown HTTP/1.1\r\nHost: unknown.example.com\r\nContent-Length: 1000\r\n\r\nsome`,
  ];
  const wires = await many(heads.length * 5, async (i) =>
    new Wire(await tcp(product.httpPort, i < heads.length ? '127.0.0.1' : ATTACKER)).write(
      heads[i % heads.length] ?? '',
    ),
  );
  await assertNeighbour();
  const replies = await Promise.all(wires.map((wire) => wire.replies()));
  for (const [i, reply] of replies.entries())
    assert.ok(
      reply.every(({ status }) => status >= 400),
      `${heads[i % heads.length]}: ${reply[0]?.status}`,
    );
  await eventually(
    async () => ((await connectionsOf(upstream)) <= 4 ? true : undefined),
    'the end of the upstream requests',
  );
});

const connectionsOf = ({ server }: Upstream) =>
  new Promise<number>((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  );

test('incident 18: a client that does not read is cut, and no more is asked of the upstream than was read', async () => {
  const socket = await tcp(product.httpPort);
  socket.pause();
  const gone = once(upstream.server, 'request').then(([, response]) => once(response, 'close'));
  socket.write(`GET /endless HTTP/1.1\r\n${H}\r\n`);
  await gone;
  // Buffers of four sockets, at most; the upstream would have sent without end.
  assert.ok(sentByUpstream < 64 * 1024 * 1024, `${sentByUpstream} bytes were taken from the upstream`);
  socket.destroy();
});

test('incident 18: a flood of header fields is answered with 431, over both protocols', async () => {
  const heads = [
    Array.from({ length: MAX_HEADERS + 1 }, (_, i) => `X-${i}: y\r\n`).join(''),
    Array.from({ length: 5000 }, (_, i) => `X-${i}: y\r\n`).join(''),
    `X-Long: ${'y'.repeat(MAX_HEAD_BYTES + 1)}\r\n`,
    `${'X'.repeat(MAX_HEAD_BYTES + 1)}: y\r\n`,
    `Cookie: ${'a=b; '.repeat(MAX_HEAD_BYTES)}\r\n`,
  ];
  for (const open of [() => wireHttp(product), () => wireHttps(product, HOST)])
    for (const head of heads) {
      using wire = await open();
      const [reply] = await wire
        .write(`GET /flood HTTP/1.1\r\n${H}${head}Connection: close\r\n\r\n`)
        .replies();
      assert.equal(reply?.status, 431, head.slice(0, 40));
    }
  const usual = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', HOST],
    [':path', '/flood'],
  ] as const;
  for (const more of [
    Array.from({ length: 500 }, (_, i) => [`x-${i}`, 'y'] as const),
    [['x-long', 'y'.repeat(12_000)] as const],
  ]) {
    using client = await connectFrames(product, HOST);
    client.write(h2Headers(1, [...usual, ...more]));
    await client.until(
      ({ type, stream }) =>
        type === frame.GOAWAY || (stream === 1 && (type === frame.HEADERS || type === frame.RST_STREAM)),
    );
  }
  assert.ok(!upstream.requests.some(({ url }) => url === '/flood'));
});

test('incident 18: a head of HTTP/2 that never ends (CONTINUATION) closes its connection', async () => {
  using client = await connectFrames(product, HOST);
  client.write(
    encode(
      frame.HEADERS,
      flag.END_STREAM,
      1,
      block([
        [':method', 'GET'],
        [':scheme', 'https'],
        [':authority', HOST],
        [':path', '/continued'],
      ]),
    ),
  );
  const part = encode(frame.CONTINUATION, 0, 1, block([['x-more', 'y'.repeat(4000)]]));
  while (!client.isEnded) {
    client.write(part);
    await new Promise(setImmediate);
  }
  assert.ok(!upstream.requests.some(({ url }) => url === '/continued'));
});

test('incident 18: streams that are opened and reset without end close their connection, and few reach the upstream', async () => {
  const before = upstream.requests.length;
  using client = await connectFrames(product, HOST);
  const usual = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', HOST],
    [':path', '/reset'],
  ] as const;
  const cancel = Buffer.from([0, 0, 0, 8]);
  let stream = 1;
  while (!client.isEnded && stream < 100_000) {
    const frames: Buffer[] = [];
    for (let i = 0; i < 50; i++, stream += 2)
      frames.push(h2Headers(stream, usual), encode(frame.RST_STREAM, 0, stream, cancel));
    client.write(...frames);
    await new Promise(setImmediate);
  }
  assert.ok(client.isEnded, `${stream} streams were opened and reset on one connection`);
  assert.ok(
    upstream.requests.length - before < 1000,
    `${upstream.requests.length - before} requests reached the upstream`,
  );
});

test('incident 18: floods of PING and SETTINGS, and windows that stay shut, do not grow memory', async () => {
  using client = await connectFrames(product, HOST);
  const pings = Buffer.concat(Array.from({ length: 500 }, () => encode(frame.PING, 0, 0, Buffer.alloc(8))));
  const settingsFlood = Buffer.concat(Array.from({ length: 500 }, () => encode(frame.SETTINGS, 0, 0)));
  client.socket.pause();
  for (let i = 0; i < 20; i++) client.write(pings, settingsFlood);
  // A window of nothing: what is to be sent has to wait.
  const noWindow = encode(frame.SETTINGS, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
  client.write(noWindow);
  for (let stream = 1; stream < 60; stream += 2)
    client.write(
      h2Headers(stream, [
        [':method', 'GET'],
        [':scheme', 'https'],
        [':authority', HOST],
        [':path', '/endless'],
      ]),
    );
  await assertNeighbour();
  assert.ok(rss() - rssBefore < MAX_GROWTH_KIB, `${rss() - rssBefore} KiB more`);
});

test('incident 18: JSON that nests or goes on without end, is too large or is no JSON costs a refusal, on REST and MCP', async () => {
  const deep = 10_000;
  const wide = new Set(['items', 'members', 'icons of a client']);
  const initialize = (icons: string) =>
    `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1","icons":${icons}}}}`;
  const bodies = {
    arrays: '['.repeat(deep) + ']'.repeat(deep),
    objects: `${'{"a":'.repeat(deep)}1${'}'.repeat(deep)}`,
    'arguments of a call': `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":${'['.repeat(deep)}${']'.repeat(deep)}}}}`,
    unclosed: '{"a":['.repeat(150_000),
    items: `[${'1,'.repeat(400_000)}1]`,
    members: `{${Array.from({ length: 80_000 }, (_, i) => `"${i}":1`).join()}}`,
    'icons of a client': initialize(`[${'1,'.repeat(400_000)}1]`),
    'a long number': `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":${'9'.repeat(900_000)}}}x`,
    quotes: `${'"\\"'.repeat(300_000)}`,
  };
  for (const [name, body] of Object.entries(bodies)) {
    const headers = { 'content-type': 'application/json' };
    const rest = await send(product, {
      method: 'POST',
      path: '/v1/proxies',
      token: product.adminToken,
      headers,
      body,
    });
    const mcp = await postMcp(product, { token: product.adminToken, headers, body });
    assert.deepEqual([rest.status, mcp.status], [400, 400], name);
    if (wide.has(name)) for (const { text } of [rest, mcp]) assert.match(text, /more than \d+ values/, name);
    const nobody = await send(product, { method: 'POST', path: '/v1/proxies', headers, body });
    assert.equal(nobody.status, 401, `${name}: not looked at for a stranger`);
  }
  const large = Buffer.alloc(2 * 1024 * 1024, ' ');
  for (const path of ['/v1/proxies', '/mcp']) {
    const head = `POST ${path} HTTP/1.1\r\nHost: localhost:${product.httpPort}\r\nAuthorization: Bearer ${product.adminToken}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\n`;
    for (const framing of [
      `Content-Length: ${large.length}\r\n\r\n`,
      `Transfer-Encoding: chunked\r\n\r\n${large.length.toString(16)}\r\n`,
    ]) {
      using wire = await wireHttp(product);
      const reply = await wire
        .write(head + framing)
        .write(large)
        .reply();
      assert.equal(reply?.status, 413, `${path} ${framing}`);
    }
  }
  const batch = `[${Array.from({ length: 5000 }, (_, i) => `{"jsonrpc":"2.0","id":${i},"method":"ping"}`).join()}]`;
  const batched = await postMcp(product, {
    token: product.adminToken,
    headers: { 'content-type': 'application/json' },
    body: batch,
  });
  assert.equal(batched.status, 400, 'a batch of 5,000');
});

test('incident 18: text made to keep regular expressions busy costs a refusal', async () => {
  const n = 60_000;
  const pem = '-----BEGIN CERTIFICATE-----';
  const calls: [path: string, body: object][] = [
    ['/v1/proxies', { hostname: 'a-'.repeat(n), target_url: 'http://localhost:1' }],
    ['/v1/proxies', { hostname: 'x.example.com', target_url: `http://${'a.'.repeat(n)}` }],
    [
      '/v1/proxies',
      { hostname: 'x.example.com', target_url: 'http://localhost:1', upstream_ca_pem: pem.repeat(2000) },
    ],
    [
      '/v1/certificates',
      {
        certificate_pem: `${pem}\n`.repeat(2000),
        private_key_pem: `${'-----BEGIN PRIVATE KEY-----\n'.repeat(2000)}`,
      },
    ],
    [
      '/v1/certificates',
      {
        certificate_pem: `${pem}${' \n'.repeat(20_000)}`,
        private_key_pem: `-----BEGIN PRIVATE KEY-----${'A\n'.repeat(20_000)}`,
      },
    ],
    ['/v1/tokens', { name: ' '.repeat(n), permissions: ['proxies:read'] }],
    ['/v1/tokens', { name: 'x', permissions: ['proxies:read'], expires_in: '1d'.repeat(n) }],
    ['/v1/routes', { hostname: null, path: '/%2'.repeat(n), target_url: 'http://localhost:1' }],
    ['/v1/commands', { command: `${"'".repeat(n)}` }],
  ];
  for (const [path, body] of calls) {
    const { status } = await send(product, { method: 'POST', path, token: product.adminToken, body });
    assert.ok(status >= 400 && status < 500, `${path}: ${status}`);
  }
  const targets = [
    `/${'%2e/'.repeat(2000)}`,
    `/${'..;/'.repeat(1500)}`,
    `/${'a;'.repeat(3000)}`,
    `/?${'%'.repeat(7000)}`,
    `/${'/'.repeat(7000)}`,
  ];
  const fields = [
    `Authorization: Bearer ${' '.repeat(7000)}x y`,
    `Authorization: Bearer ${'='.repeat(7000)} x`,
    `Accept: ${'text/html;q=0.1,'.repeat(400)}`,
    `User-Agent: ${'\xff'.repeat(7000)}`,
    `TE: ${', '.repeat(3000)}`,
    `Connection: ${'a,'.repeat(3500)}`,
    `traceparent: ${'0'.repeat(7000)}`,
  ];
  for (const head of [
    ...targets.map((target) => `GET ${target} HTTP/1.1\r\n${H}`),
    ...fields.map((field) => `GET /regex HTTP/1.1\r\n${H}${field}\r\n`),
  ]) {
    using wire = await wireHttp(product);
    assert.ok(await wire.write(`${head}\r\n`).reply(), head.slice(0, 60));
  }
});

test('incident 18: event streams beyond mcp.max_event_streams are refused; one that ends makes room', async () => {
  const { adminToken: token } = product;
  const open = async (): Promise<{ wire: Wire; status: number }> => {
    const session = await openSession(product, token);
    const socket = await tcp(product.httpPort, '127.0.0.1');
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.write(
      `GET /mcp HTTP/1.1\r\nHost: localhost:${product.httpPort}\r\nAuthorization: Bearer ${token}\r\nAccept: text/event-stream\r\nMcp-Session-Id: ${session}\r\n\r\n`,
    );
    while (!Buffer.concat(chunks).includes('\r\n\r\n')) await once(socket, 'data');
    return { wire: new Wire(socket), status: Number(Buffer.concat(chunks).toString().split(' ')[1]) };
  };
  const streams: Wire[] = [];
  for (let i = 0; i < MAX_STREAMS; i++) {
    const { wire, status } = await open();
    assert.equal(status, 200, `stream ${i}`);
    streams.push(wire);
  }
  for (let i = 0; i < 3; i++) {
    const { wire, status } = await open();
    wire[Symbol.dispose]();
    assert.equal(status, 503);
  }
  await assertNeighbour();
  streams.pop()?.[Symbol.dispose]();
  const again = await eventually(async () => {
    const { wire, status } = await open();
    if (status === 200) return wire;
    wire[Symbol.dispose]();
    return undefined;
  }, 'room for a stream');
  for (const wire of [...streams, again]) wire[Symbol.dispose]();
});

test('incident 18: one address can not take all connections; another address is served', async () => {
  const sockets = await many(MAX_PER_ADDRESS + 60, () => tcp(product.httpPort));
  const closed = () => sockets.filter((socket) => socket.closed || socket.destroyed).length;
  for (const socket of sockets) socket.resume();
  await eventually(
    async () => (closed() >= 60 ? true : undefined),
    'connections beyond the limit to be closed',
  );
  await assertNeighbour();
  using other = new Wire(await tcp(product.httpPort, '127.0.0.77'));
  assert.equal((await other.write(`GET /other HTTP/1.1\r\n${H}\r\n`).reply())?.status, 200);
  for (const socket of sockets) socket.destroy();
});

test('incident 18: requests behind each other without end cost one at a time, whether the client reads or not', async () => {
  const before = upstream.requests.length;
  // Those of the attacks before are kept for a while.
  const kept = await connectionsOf(upstream);
  const requests = Buffer.from(`GET /pipelined HTTP/1.1\r\n${H}\r\n`.repeat(20_000));
  const sockets = await many(4, async (i) => {
    const socket = await tcp(product.httpPort);
    if (i % 2 === 0) socket.pause();
    else socket.resume();
    socket.write(requests);
    return socket;
  });
  await assertNeighbour();
  const connections = (await connectionsOf(upstream)) - kept;
  assert.ok(connections < 50, `${connections} connections to the upstream for ${sockets.length} of clients`);
  for (const socket of sockets) socket.destroy();
  assert.ok(upstream.requests.length - before <= 80_000);
});

test('incident 18: after all of it the memory of the process is what it was, within a bound', () => {
  assert.ok(rss() - rssBefore < MAX_GROWTH_KIB, `${rss() - rssBefore} KiB more than ${rssBefore}`);
});
