/**
 * Request smuggling and hop-by-hop abuse: what two readers of the same bytes could take differently is refused with
 * the connection closed, the upstream only ever sees one well-framed request after another, and a neighbour on the
 * same upstream pool gets its own answer after every attack.
 */
import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { connectFrames, encode, flag, frame, headers as h2Headers } from '../support/h2-frames.ts';
import { type Product, startProduct } from '../support/product.ts';
import {
  reply200,
  type SeenRequest,
  startStrictUpstream,
  type StrictUpstream,
  type Wire,
  wireHttp,
  wireHttps,
} from '../support/wire.ts';

const HOST = 'app.example.com';
const H = `Host: ${HOST}\r\n`;
const SMUGGLED = `GET /smuggled HTTP/1.1\r\n${H}\r\n`;
const LAST = `GET /last HTTP/1.1\r\n${H}Connection: close\r\n\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked\r\n';

let product: Product;
let upstream: StrictUpstream;
let neighbour: Wire;
let turn = 0;
/** What the upstream sends instead, by path. */
const scripted = new Map<string, string | { bytes: string; end: true }>();

before(async () => {
  upstream = await startStrictUpstream(
    ({ target }) => scripted.get(target) ?? reply200(`answer to ${target}`),
  );
  product = await startProduct();
  const made = await product.api('POST', '/v1/proxies', {
    hostname: HOST,
    target_url: upstream.url,
    redirect_to_https: false,
    response_timeout_ms: 2000,
  });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  neighbour = await wireHttp(product);
});

after(async () => {
  neighbour?.[Symbol.dispose]();
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

/** The pool is as it was: the next request of somebody else gets its own answer, and nothing came through. */
async function assertUnpoisoned(attack: string): Promise<void> {
  for (let i = 0; i < 2; i++) {
    const path = `/neighbour-${++turn}`;
    neighbour.write(`GET ${path} HTTP/1.1\r\n${H}\r\n`);
    const reply = await neighbour.reply();
    assert.equal(reply?.body, `answer to ${path}`, `${attack}: the neighbour got another's answer`);
  }
  const [faults, seen] = [upstream.faults.splice(0), upstream.seen.splice(0)];
  latest = seen;
  assert.deepEqual(faults, [], `${attack}: the upstream was sent what is not HTTP`);
  const smuggled = seen.filter(({ target }) => target.includes('smuggled'));
  assert.deepEqual(
    smuggled.map(({ line }) => line),
    [],
    `${attack}: smuggled`,
  );
}

/** What reached the upstream before the last look at it, without the neighbour's own. */
let latest: SeenRequest[] = [];
const reached = (): string[] =>
  latest.map(({ line }) => line).filter((line) => !line.includes('/neighbour-'));

/** Every attack is tried; what went wrong is told together. */
async function tryAll<T extends readonly [name: string, ...rest: unknown[]]>(
  attacks: Iterable<T>,
  attempt: (attack: T) => Promise<void>,
): Promise<void> {
  const faults: string[] = [];
  for (const attack of attacks)
    await attempt(attack).catch((error: unknown) => {
      faults.push(`${attack[0]}: ${error instanceof Error ? error.message : String(error)}`);
    });
  assert.equal(faults.length, 0, faults.join('\n'));
}

const kinds: [kind: string, open: () => Promise<Wire>][] = [
  ['plain HTTP', () => wireHttp(product)],
  ['HTTPS', () => wireHttps(product, HOST)],
];

type Attack = readonly [name: string, bytes: string];

async function assertRefused(attacks: readonly Attack[]): Promise<void> {
  await overEach(attacks, async (attack, wire, bytes) => {
    const replies = await wire.write(bytes).replies();
    assert.ok(replies.length <= 1, `${attack}: ${replies.length} replies to one request`);
    const [reply] = replies;
    const refused = reply === undefined || [400, 405, 413, 417, 431, 501, 505].includes(reply.status);
    assert.ok(refused, `${attack}: answered with ${reply?.status} ${reply?.body}`);
    await assertUnpoisoned(attack);
    assert.deepEqual(reached(), [], `${attack}: reached the upstream`);
  });
}

/** The head was fine, so it may have been forwarded before the body broke; then the upstream's request is cut. */
async function assertRefusedOrBroken(attacks: readonly Attack[]): Promise<void> {
  await overEach(attacks, async (attack, wire, bytes) => {
    const replies = await wire.write(bytes).replies();
    assert.ok(replies.length <= 1, `${attack}: ${replies.length} replies to one request`);
    assert.ok((replies[0]?.status ?? 400) >= 400, `${attack}: answered with ${replies[0]?.status}`);
    await assertUnpoisoned(attack);
    assert.deepEqual(reached(), [], `${attack}: the upstream took it for a whole request`);
  });
}

async function overEach(
  attacks: readonly Attack[],
  attempt: (attack: string, wire: Wire, bytes: string) => Promise<void>,
): Promise<void> {
  const all = kinds.flatMap(([kind, open]) =>
    attacks.map(([name, bytes]) => [`${name} over ${kind}`, open, bytes] as const),
  );
  await tryAll(all, async ([attack, open, bytes]) => {
    using wire = await open();
    await attempt(attack, wire, bytes);
  });
}

const post = (fields: string, body: string): string => `POST /x HTTP/1.1\r\n${H}${fields}\r\n${body}`;

test('incident 16: a request with two lengths is refused and its connection closed', async () => {
  const chunks = `0\r\n\r\n${SMUGGLED}`;
  await assertRefused([
    ['Content-Length before Transfer-Encoding', post(`Content-Length: 5\r\n${CHUNKED}`, chunks)],
    ['Transfer-Encoding before Content-Length', post(`${CHUNKED}Content-Length: 5\r\n`, chunks)],
    ['Content-Length: 0 with Transfer-Encoding', post(`Content-Length: 0\r\n${CHUNKED}`, chunks)],
    ['GET with both', `GET /x HTTP/1.1\r\n${H}Content-Length: 5\r\n${CHUNKED}\r\n${chunks}`],
    ['two lengths that differ', post('Content-Length: 0\r\nContent-Length: 5\r\n', SMUGGLED)],
    ['two lengths in one field', post('Content-Length: 0, 5\r\n', SMUGGLED)],
    ['two equal lengths in one field', post('Content-Length: 5, 5\r\n', `hello${SMUGGLED}`)],
    ['two lengths of other case', post('content-length: 0\r\nCONTENT-LENGTH: 5\r\n', SMUGGLED)],
    ['Transfer-Encoding in HTTP/1.0', `POST /x HTTP/1.0\r\n${H}${CHUNKED}\r\n${chunks}`],
  ]);
});

test('incident 16: a length that is not one decimal number is refused and its connection closed', async () => {
  const values = [
    '+5',
    '-5',
    '0x5',
    '5 5',
    '5,',
    ',5',
    '"5"',
    '5;',
    '5.0',
    '1e1',
    '',
    '99999999999999999999999',
    '5\x00',
    '\x0b5',
    '5_0',
  ];
  await assertRefused(
    values.map((value) => [
      `Content-Length: ${JSON.stringify(value)}`,
      post(`Content-Length: ${value}\r\n`, SMUGGLED),
    ]),
  );
});

test('incident 16: a transfer coding that is not exactly "chunked" once is refused and its connection closed', async () => {
  const fields = [
    'Transfer-Encoding: chunked, identity',
    'Transfer-Encoding: identity, chunked',
    'Transfer-Encoding: chunked, chunked',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
    'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: xchunked',
    'Transfer-Encoding: chunkedx',
    'Transfer-Encoding: "chunked"',
    'Transfer-Encoding: chunked;q=1',
    'Transfer-Encoding: \x0bchunked',
    'Transfer-Encoding: chunked\x0b',
    'Transfer-Encoding: chunked\x00',
    'Transfer-Encoding: gzip',
    'Transfer-Encoding: identity',
    'Transfer-Encoding:',
    'Transfer-Encoding: , chunked',
    'Transfer-Encoding: cow\r\nContent-Length: 5',
    'Transfer-Encoding : chunked',
    'Transfer-Encoding\t: chunked',
    ' Transfer-Encoding: chunked',
    'X: y\rTransfer-Encoding: chunked',
    'X: y\nTransfer-Encoding: chunked',
    'X:\r Transfer-Encoding: chunked',
    'Transfer-Encoding:\r\n chunked',
    'Content-Length : 5',
    'Content-Length\x00: 5',
    'Content-Length:\r\n 5',
    'Content-Length: 5\r\n 0',
  ];
  await assertRefused(
    fields.map((field) => [JSON.stringify(field), post(`${field}\r\n`, `0\r\n\r\n${SMUGGLED}`)]),
  );
});

test('incident 16: lines that end otherwise than with CRLF, and folded fields, are refused', async () => {
  await assertRefused([
    ['request line ends with LF', `GET /x HTTP/1.1\n${H}\r\n${SMUGGLED}`],
    ['field ends with LF', `GET /x HTTP/1.1\r\nHost: ${HOST}\n\r\n${SMUGGLED}`],
    ['field ends with CR', `GET /x HTTP/1.1\r\nHost: ${HOST}\rX: y\r\n\r\n${SMUGGLED}`],
    ['head ends with LF LF', `GET /x HTTP/1.1\r\nHost: ${HOST}\n\n${SMUGGLED}`],
    ['head ends with CRLF LF', `GET /x HTTP/1.1\r\n${H}\n${SMUGGLED}`],
    ['head ends with CR CR', `GET /x HTTP/1.1\r\nHost: ${HOST}\r\r${SMUGGLED}`],
    ['folded field', `GET /x HTTP/1.1\r\n${H}X-Note: a\r\n b\r\n\r\n${SMUGGLED}`],
    ['folded with a tab', `GET /x HTTP/1.1\r\n${H}X-Note: a\r\n\tb\r\n\r\n${SMUGGLED}`],
    ['first field folded', `GET /x HTTP/1.1\r\n X: y\r\n${H}\r\n${SMUGGLED}`],
    ['NUL in a value', `GET /x HTTP/1.1\r\n${H}X: a\x00b\r\n\r\n${SMUGGLED}`],
    ['NUL in a name', `GET /x HTTP/1.1\r\n${H}X\x00Y: b\r\n\r\n${SMUGGLED}`],
    ['a name with a space', `GET /x HTTP/1.1\r\n${H}X Y: b\r\n\r\n${SMUGGLED}`],
    ['a field without a colon', `GET /x HTTP/1.1\r\n${H}Nothing\r\n\r\n${SMUGGLED}`],
    ['an empty name', `GET /x HTTP/1.1\r\n${H}: b\r\n\r\n${SMUGGLED}`],
    ['a space in the target', `GET /x y HTTP/1.1\r\n${H}\r\n${SMUGGLED}`],
    ['a tab in the target', `GET /x\ty HTTP/1.1\r\n${H}\r\n${SMUGGLED}`],
    ['CR in the target', `GET /x\ry HTTP/1.1\r\n${H}\r\n${SMUGGLED}`],
    ['another version', `GET /x HTTP/1.2\r\n${H}\r\n${SMUGGLED}`],
    ['HTTP/0.9', `GET /x\r\n${SMUGGLED}`],
    ['the preface of HTTP/2', `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${SMUGGLED}`],
  ]);
});

test('incident 16: a chunked body that strict and lenient readers take differently is refused', async () => {
  const chunked = (body: string) => post(CHUNKED, `${body}${SMUGGLED}`);
  await assertRefusedOrBroken([
    ['size with 0x', chunked('0x5\r\nhello\r\n0\r\n\r\n')],
    ['size with a sign', chunked('+5\r\nhello\r\n0\r\n\r\n')],
    ['negative size', chunked('-1\r\nhello\r\n0\r\n\r\n')],
    ['size with a space before', chunked(' 5\r\nhello\r\n0\r\n\r\n')],
    ['size with an underscore', chunked('1_0\r\nhello\r\n0\r\n\r\n')],
    ['empty size', chunked('\r\nhello\r\n0\r\n\r\n')],
    ['size too large for any number', chunked('fffffffffffffffff\r\nhello\r\n0\r\n\r\n')],
    ['size line ends with LF', chunked('5\nhello\r\n0\r\n\r\n')],
    ['extension ends with LF', chunked('5;x\nhello\r\n0\r\n\r\n')],
    ['extension holds CR', chunked('5;x\ry\r\nhello\r\n0\r\n\r\n')],
    ['chunk longer than its size', chunked('5\r\nhello world\r\n0\r\n\r\n')],
    ['two bytes in the place of CRLF', chunked('5\r\nhelloXX0\r\n\r\n')],
    ['LF after a chunk', chunked('5\r\nhello\n0\r\n\r\n')],
    ['last chunk ends with LF', chunked('0\n\n')],
    ['a flood of extensions', chunked(`5;${'x'.repeat(64 * 1024)}\r\nhello\r\n0\r\n\r\n`)],
    ['a trailer with a space before its colon', chunked('0\r\nX : y\r\n\r\n')],
  ]);
});

test('incident 16: what only looks like a length is not one: the body is one request to everybody', async () => {
  const size = SMUGGLED.length;
  const harmless: [name: string, bytes: string][] = [
    [
      'underscores',
      `POST /x HTTP/1.1\r\n${H}Content_Length: ${size}\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello`,
    ],
    ['dots', `POST /x HTTP/1.1\r\n${H}Content.Length: ${size}\r\nContent-Length: 5\r\n\r\nhello`],
    [
      'GET with a body that is a request',
      `GET /x HTTP/1.1\r\n${H}Content-Length: ${size}\r\n\r\n${SMUGGLED}`,
    ],
    [
      'DELETE with a chunked body that is a request',
      `DELETE /x HTTP/1.1\r\n${H}${CHUNKED}\r\n${size.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ],
    [
      'OPTIONS with a body that is a request',
      `OPTIONS /x HTTP/1.1\r\n${H}Content-Length: ${size}\r\n\r\n${SMUGGLED}`,
    ],
    [
      'Connection names the length',
      `POST /x HTTP/1.1\r\n${H}Connection: Content-Length, Host\r\nContent-Length: ${size}\r\n\r\n${SMUGGLED}`,
    ],
    [
      'Connection names the coding',
      `POST /x HTTP/1.1\r\n${H}Connection: Transfer-Encoding\r\n${CHUNKED}\r\n${size.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ],
    [
      'a length with zeros before it',
      `POST /x HTTP/1.1\r\n${H}Content-Length: 0000${size}\r\n\r\n${SMUGGLED}`,
    ],
    [
      'a small extension',
      `POST /x HTTP/1.1\r\n${H}${CHUNKED}\r\n${size.toString(16)};a=b\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ],
    [
      'Expect with a body that is a request',
      `POST /x HTTP/1.1\r\n${H}Expect: 100-continue\r\nContent-Length: ${size}\r\n\r\n${SMUGGLED}`,
    ],
    [
      'a coding in capitals',
      `POST /x HTTP/1.1\r\n${H}TRANSFER-ENCODING: CHUNKED\r\n\r\n${size.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
    ],
    [
      'many small extensions',
      `POST /x HTTP/1.1\r\n${H}${CHUNKED}\r\n${'hello'
        .split('')
        .map((letter) => `1;${'y'.repeat(200)}\r\n${letter}\r\n`)
        .join('')}0\r\n\r\n`,
    ],
  ];
  await overEach(harmless, async (attack, wire, bytes) => {
    const replies = await wire.write(bytes + LAST).replies();
    await assertUnpoisoned(attack);
    assert.deepEqual(
      replies.map(({ body }) => body),
      ['answer to /x', 'answer to /last'],
      attack,
    );
    const seen = latest.filter(({ target }) => !target.startsWith('/neighbour-'));
    assert.deepEqual(
      seen.map(({ target }) => target),
      ['/x', '/last'],
      attack,
    );
    const body = seen.find(({ target }) => target === '/x')?.body ?? '';
    assert.ok(['hello', SMUGGLED].includes(body), `${attack}: the body became ${body}`);
  });
});

test('incident 16: what follows an upgrade that is not made is read from where the request ended', async () => {
  const head = `Host: ${HOST}\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n`;
  // The second part stands in the middle of a field for whoever counts from the end of the request before.
  const behind = `GET /behind HTTP/1.1\r\n${H}X-Note: `;
  const attacks = [
    ['h2c with a body', `POST /x HTTP/1.1\r\n${head}Upgrade: h2c\r\nContent-Length: 5\r\n\r\nhello${behind}`],
    ['h2c without a body', `GET /x HTTP/1.1\r\n${head}Upgrade: h2c\r\n\r\n${behind}`],
    [
      'websocket by POST',
      `POST /x HTTP/1.1\r\n${head}Upgrade: websocket\r\nContent-Length: 5\r\n\r\nhello${behind}`,
    ],
  ] as const;
  await overEach(attacks, async (attack, wire, bytes) => {
    wire.write(bytes);
    const first = await wire.reply();
    assert.equal(first?.body, 'answer to /x', attack);
    const next = await wire.write(SMUGGLED).reply();
    await assertUnpoisoned(attack);
    assert.ok(
      next === undefined || next.body === 'answer to /behind',
      `${attack}: ${next?.status} ${next?.body}`,
    );
  });
});

test('incident 16: no upgrade that would carry further requests is offered to the upstream, wherever it stands in the list', async () => {
  const lists = [
    'h2c',
    'x, h2c',
    'websocket,H2C',
    'x ,\th2c , y',
    'h2',
    'x, HTTP/2.0',
    'TLS/1.0, HTTP/1.1',
    'x\r\nUpgrade: h2c',
  ];
  for (const list of lists) {
    using wire = await wireHttps(product, HOST);
    wire.write(`GET /offer HTTP/1.1\r\nHost: ${HOST}\r\nConnection: Upgrade\r\nUpgrade: ${list}\r\n\r\n`);
    assert.equal((await wire.reply())?.body, 'answer to /offer', list);
    const { target, fields } = upstream.seen.at(-1) ?? assert.fail();
    assert.equal(target, '/offer');
    assert.deepEqual(
      fields
        .filter(([name]) => /^(?:upgrade|connection)$/i.test(name))
        .map(([, value]) => value.toLowerCase()),
      fields.some(([name]) => /^connection$/i.test(name)) ? ['keep-alive'] : [],
      list,
    );
  }
});

test('incident 16: fields that Connection names stay here, and Connection can not take away what the gateway writes', async () => {
  using wire = await wireHttps(product, HOST);
  const named =
    'X-Gone, Authorization, X-Forwarded-For, X-Forwarded-Proto, Forwarded, Host, Cookie, CDN-Loop, close';
  wire.write(
    `GET /hop HTTP/1.1\r\n${H}Connection: ${named}\r\nX-Gone: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authorization: x\r\nTE: gzip\r\nX-Stays: 1\r\n\r\n`,
  );
  assert.equal((await wire.reply())?.status, 200);
  const seen = upstream.seen.findLast(({ target }) => target === '/hop');
  const fields = new Map(seen?.fields.map(([name, value]) => [name.toLowerCase(), value]));
  for (const gone of ['x-gone', 'keep-alive', 'proxy-authorization', 'te', 'upgrade'])
    assert.ok(!fields.has(gone), gone);
  assert.equal(fields.get('x-stays'), '1');
  assert.equal(fields.get('x-forwarded-for'), '127.0.0.1');
  assert.equal(fields.get('x-forwarded-proto'), 'https');
  assert.match(fields.get('forwarded') ?? '', /^for=127\.0\.0\.1;/);
  assert.equal(fields.get('host'), HOST);
  assert.ok(fields.has('cdn-loop'));
});

test('incident 16: trailers bring no framing, no routing and no identity to the upstream', async () => {
  const send = async (trailers: readonly string[]) => {
    using wire = await wireHttps(product, HOST);
    wire.write(
      `POST /trailers HTTP/1.1\r\n${H}${CHUNKED}Trailer: X-Checksum, Host\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n${trailers.join('\r\n')}\r\n\r\n`,
    );
    const replies = await wire.replies();
    return replies.map(({ status }) => status);
  };
  assert.deepEqual(await send(['Content-Length: 5']), [400]);
  assert.deepEqual(await send(['Transfer-Encoding: chunked']), [400]);
  await assertUnpoisoned('framing in trailers');
  assert.ok(!reached().some((line) => line.includes('/trailers')));
  const trailers = [
    'Host: other.example.com',
    'X-Auth-User: root',
    'X_Forwarded_For: 1.2.3.4',
    'X-Real-IP: 1.2.3.4',
    'Authorization: Bearer x',
    'Cookie: a=b',
    'X-Checksum: fine',
  ];
  assert.deepEqual(await send(trailers), [200]);
  await assertUnpoisoned('trailers');
  assert.deepEqual(
    latest.filter(({ target }) => target === '/trailers').map(({ body }) => body),
    ['hello'],
  );
  const raw = upstream.seenTrailers.at(-1) ?? '';
  assert.match(raw, /X-Checksum: fine/i);
  assert.doesNotMatch(raw, /content-length|transfer-encoding|host|auth|forwarded|real-ip|cookie/i);
});

test('incident 16: an upgrade that the upstream does not make is no tunnel: what follows never reaches it', async () => {
  const upgrade = (path: string, more = '') =>
    `GET ${path} HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;
  scripted.set('/refused', reply200('not upgraded'));
  scripted.set(
    '/fourzerozero',
    'HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nContent-Length: 0\r\n\r\n',
  );
  const attacks = ['/refused', '/fourzerozero'].map((path) => [path, upgrade(path) + SMUGGLED] as const);
  await overEach(attacks, async (attack, wire, bytes) => {
    const replies = await wire.write(bytes).replies();
    await assertUnpoisoned(`upgrade ${attack}`);
    assert.equal(replies.length, 1, `${attack}: the connection ends after the refusal`);
    assert.ok([200, 426].includes(replies[0]?.status ?? 0), `${attack}: ${replies[0]?.status}`);
  });
});

test('incident 16: leaving HTTP behind a request that is not answered yet ends that connection, and nothing else', async () => {
  const first = `GET /first HTTP/1.1\r\n${H}\r\n`;
  const leave = (method: string) =>
    `${method} HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
  const attacks = [
    ['an upgrade', first + leave('GET /ws') + SMUGGLED],
    ['two upgrades', leave('GET /ws') + leave('GET /ws')],
    ['CONNECT', `${first}CONNECT ${HOST}:80 HTTP/1.1\r\n${H}\r\n${SMUGGLED}`],
    [
      'an upgrade behind a body',
      `POST /first HTTP/1.1\r\n${H}Content-Length: 2\r\n\r\nxx${leave('GET /ws')}${SMUGGLED}`,
    ],
    ['an upgrade behind a broken request', `GET /%2f HTTP/1.1\r\n${H}\r\n${leave('GET /ws')}`],
  ] as const;
  await overEach(attacks, async (attack, wire, bytes) => {
    const replies = await wire.write(bytes).replies();
    assert.equal(product.child.exitCode, null, `${attack}: the process ended`);
    await assertUnpoisoned(attack);
    assert.ok(replies.length <= 2, attack);
  });
});

test('incident 16: requests behind each other are answered in order, and begun one after the other', async () => {
  const paths = Array.from({ length: 50 }, (_, i) => `/ordered-${i}`);
  await overEach(
    [
      [
        'many',
        paths.map((path, i) => `${i % 3 === 0 ? 'DELETE' : 'GET'} ${path} HTTP/1.1\r\n${H}\r\n`).join('') +
          LAST,
      ],
    ],
    async (attack, wire, bytes) => {
      const replies = await wire.write(bytes).replies();
      await assertUnpoisoned(attack);
      assert.deepEqual(
        replies.map(({ body }) => body),
        [...paths, '/last'].map((path) => `answer to ${path}`),
        attack,
      );
      // RFC 9112 §9.3.2: only safe methods may run side by side.
      const order = latest.map(({ target }) => target).filter((target) => !target.startsWith('/neighbour-'));
      assert.deepEqual(order, [...paths, '/last'], attack);
    },
  );
});

test('incident 16: a request that wants to upgrade and has a body is not half a request to the upstream', async () => {
  const head = `GET /upgrade-body HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n`;
  const size = SMUGGLED.length;
  const attacks = [
    ['upgrade with a length', `${head}Content-Length: ${size}\r\n\r\n${SMUGGLED}`],
    ['upgrade with chunks', `${head}${CHUNKED}\r\n${size.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`],
  ] as const;
  await overEach(attacks, async (attack, wire, bytes) => {
    const replies = await wire.write(bytes).replies();
    await assertUnpoisoned(attack);
    assert.equal(replies.length, 1, attack);
    const seen = latest.filter(({ target }) => target === '/upgrade-body');
    const status = replies[0]?.status ?? 0;
    // Refused, or forwarded whole: never a length without its bytes, which the upstream would wait for.
    if (status === 200) assert.deepEqual(seen[0]?.body, SMUGGLED, attack);
    else assert.ok([400, 501].includes(status) && seen.length === 0, `${attack}: ${status}`);
  });
});

test('incident 16: an upstream that switches protocols unasked gets no tunnel and the client a 502', async () => {
  scripted.set(
    '/unasked',
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned',
  );
  using wire = await wireHttps(product, HOST);
  wire.write(`GET /unasked HTTP/1.1\r\n${H}\r\n`);
  assert.equal((await wire.reply())?.status, 502);
  await assertUnpoisoned('101 unasked');
});

test("incident 16: an upstream's ambiguous or split reply becomes a 502, and its surplus is nobody's answer", async () => {
  const poison = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-Poison: 1\r\n\r\npoisoned';
  const heads: [name: string, bytes: string][] = [
    [
      'two lengths',
      `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`,
    ],
    [
      'both lengths',
      `HTTP/1.1 200 OK\r\nContent-Length: ${poison.length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${poison}`,
    ],
    ['a length with a sign', `HTTP/1.1 200 OK\r\nContent-Length: +0\r\n\r\n${poison}`],
    ['a bare LF', `HTTP/1.1 200 OK\nContent-Length: 0\n\n${poison}`],
    ['a bare CR in a value', `HTTP/1.1 200 OK\r\nX-A: b\rX-Poison: 1\r\nContent-Length: 2\r\n\r\nok`],
    ['NUL in a value', `HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\nok`],
    ['a folded field', `HTTP/1.1 200 OK\r\nX-A: b\r\n X-Poison: 1\r\nContent-Length: 2\r\n\r\nok`],
    ['a space before a colon', `HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n${poison}`],
    ['a chunk size with 0x', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n${poison}`],
    ['not HTTP at all', `SSH-2.0-Example\r\n\r\n`],
  ];
  await tryAll(heads, async ([name, bytes]) => {
    scripted.set('/bad', bytes);
    using wire = await wireHttps(product, HOST);
    wire.write(`GET /bad HTTP/1.1\r\n${H}\r\n`);
    const reply = await wire.reply();
    // A head that was already passed on can only be cut short.
    assert.ok(reply === undefined || reply.status === 502, `${name}: ${reply?.status} ${reply?.body}`);
    assert.equal(reply?.headers['x-poison'], undefined, name);
    await assertUnpoisoned(name);
  });
});

test('incident 16: bytes behind a reply, of whatever kind, never answer the next request', async () => {
  const poison = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-Poison: 1\r\n\r\npoisoned';
  const surplus: [name: string, request: string, bytes: string, status: number][] = [
    ['behind a length', 'GET', reply200('ok') + poison, 200],
    [
      'behind the last chunk',
      'GET',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${poison}`,
      200,
    ],
    ['behind 204', 'GET', `HTTP/1.1 204 No Content\r\n\r\n${poison}`, 204],
    ['behind 304', 'GET', `HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n${poison}`, 304],
    ['behind HEAD', 'HEAD', reply200(poison), 200],
    ['two replies at once', 'GET', poison + poison, 200],
    [
      'interim replies first',
      'GET',
      `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n${reply200('ok')}${poison}`,
      200,
    ],
  ];
  await tryAll(surplus, async ([name, method, bytes, status]) => {
    scripted.set('/surplus', bytes);
    using wire = await wireHttps(product, HOST, { head: method === 'HEAD' });
    wire.write(`${method} /surplus HTTP/1.1\r\n${H}\r\n`);
    assert.equal((await wire.reply())?.status, status, name);
    await assertUnpoisoned(name);
    wire.write(LAST.replace('GET', method));
    const replies = await wire.replies();
    assert.deepEqual(
      replies.map(({ headers }) => headers['x-poison']),
      [undefined],
      name,
    );
    if (method !== 'HEAD') assert.equal(replies[0]?.body, 'answer to /last', name);
  });
});

test('incident 16: an HTTP/2 body of another length than declared never becomes a whole request upstream', async () => {
  const bodies = [
    ['50', 'short'],
    ['5', `hello${SMUGGLED}`],
    ['0', SMUGGLED],
  ] as const;
  await tryAll(bodies, async ([declared, body]) => {
    const session = http2.connect(`https://${HOST}:${product.httpsPort}`, {
      ca: product.ca,
      lookup: (_name, options, done) =>
        options.all === true ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
    });
    session.on('error', () => {});
    const stream = session.request({
      ':method': 'POST',
      ':path': '/h2-length',
      ':authority': `${HOST}:${product.httpsPort}`,
      'content-length': declared,
    });
    let status = 0;
    stream.on('response', (fields) => (status = fields[':status'] ?? 0)).on('error', () => {});
    stream.resume().end(body);
    await once(stream, 'close').catch(() => {});
    session.destroy();
    assert.ok(status === 0 || status >= 400, `${declared} declared: answered with ${status}`);
    await assertUnpoisoned(`h2 length ${declared}`);
    assert.ok(!reached().some((line) => line.includes('/h2-length')), `${declared} declared`);
  });
});

test('incident 16: fields of HTTP/2 can not write lines of HTTP/1.1', async () => {
  const { httpsPort } = product;
  const usual = {
    ':method': 'GET',
    ':scheme': 'https',
    ':authority': `${HOST}:${httpsPort}`,
    ':path': '/h2',
  };
  const evil = ` HTTP/1.1\r\n${H}\r\n${SMUGGLED}`;
  const attacks: [name: string, fields: [string, string][]][] = [
    ['CRLF in a value', [...Object.entries(usual), ['x-a', `b\r\n\r\n${SMUGGLED}`]]],
    ['LF in a value', [...Object.entries(usual), ['x-a', 'b\nx-auth-user: root']]],
    ['NUL in a value', [...Object.entries(usual), ['x-a', 'b\x00c']]],
    ['CRLF in a name', [...Object.entries(usual), ['x-a: b\r\nx-c', 'd']]],
    ['a colon in a name', [...Object.entries(usual), ['x-a: b', 'c']]],
    ['capitals in a name', [...Object.entries(usual), ['X-Auth-User', 'root']]],
    ['a space in a name', [...Object.entries(usual), ['x a', 'b']]],
    ['transfer-encoding', [...Object.entries(usual), ['transfer-encoding', 'chunked']]],
    ['connection', [...Object.entries(usual), ['connection', 'x-forwarded-for']]],
    ['upgrade', [...Object.entries(usual), ['upgrade', 'websocket']]],
    ['two lengths', [...Object.entries(usual), ['content-length', '0'], ['content-length', '5']]],
    ['a path that is a request', Object.entries({ ...usual, ':path': `/x${evil}` })],
    ['a path with a space', Object.entries({ ...usual, ':path': '/x HTTP/1.1' })],
    ['a method that is a request', Object.entries({ ...usual, ':method': `GET /smuggled${evil}` })],
    ['a method with a space', Object.entries({ ...usual, ':method': 'GET /smuggled' })],
    ['an authority with a line', Object.entries({ ...usual, ':authority': `${HOST}\r\nX-Auth-User: root` })],
    ['an authority with user information', Object.entries({ ...usual, ':authority': `x@${HOST}` })],
    ['two authorities', [...Object.entries(usual), [':authority', 'other.example.com']]],
    ['two paths', [...Object.entries(usual), [':path', '/smuggled']]],
    ['host that differs', [...Object.entries(usual), ['host', 'other.example.com']]],
    ['an unknown pseudo field', [...Object.entries(usual), [':smuggled', 'x']]],
    ['a pseudo field after the others', [['x-a', 'b'], ...Object.entries(usual)]],
    [
      'CONNECT',
      [
        [':method', 'CONNECT'],
        [':authority', '127.0.0.1:22'],
      ],
    ],
  ];
  await tryAll(attacks, async ([name, fields]) => {
    using client = await connectFrames(product, HOST);
    client.write(h2Headers(1, fields));
    // HEADERS, RST_STREAM or GOAWAY: the request was answered in one way or another.
    await client.until(
      ({ type }) => type === frame.HEADERS || type === frame.RST_STREAM || type === frame.GOAWAY,
    );
    await assertUnpoisoned(`h2 ${name}`);
    // A field that breaks the rules may be left out, or the request refused: what it says is nowhere.
    const fieldNames = latest
      .filter(({ target }) => !target.startsWith('/neighbour-'))
      .map(({ target, fields }) => [target, ...fields.flat()].join('\n'));
    assert.doesNotMatch(
      fieldNames.join('\n'),
      /x-a\b|x-c\b|x a|root|smuggled|other\.example|transfer-encoding|upgrade/i,
      `h2 ${name}`,
    );
  });
});

test('incident 16: data behind the end of an HTTP/2 request reaches nobody', async () => {
  using client = await connectFrames(product, HOST);
  const usual = [
    [':method', 'POST'],
    [':scheme', 'https'],
    [':authority', `${HOST}:${product.httpsPort}`],
    [':path', '/h2-end'],
  ] as const;
  client.write(h2Headers(1, usual), encode(frame.DATA, flag.END_STREAM, 1, Buffer.from(SMUGGLED)));
  await client.until(
    ({ type }) => type === frame.RST_STREAM || type === frame.GOAWAY || type === frame.HEADERS,
  );
  await assertUnpoisoned('h2 data after the end');
});
