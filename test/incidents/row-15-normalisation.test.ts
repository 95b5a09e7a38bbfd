/**
 * One canonical form of host and path for match, authorise and forward: what a policy protects is reached by no other
 * spelling, what is forwarded is what was matched, and a real nginx with the same policy protects nothing that we open.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { configFile, generous } from '../support/callers.ts';
import { hasNginx, startNginx } from '../support/nginx.ts';
import { type Product, startProduct } from '../support/product.ts';
import {
  startStrictUpstream,
  type StrictUpstream,
  Wire,
  wireHttp,
  wireHttps,
  type WireReply,
} from '../support/wire.ts';

const SITE = 'site.example.com';
const PRIVATE = 'private.example.com';
const token = { kind: 'token', permission: 'proxies:read' };
/** Each is protected by a route with a policy of its own. */
const prefixes = ['/admin', '/a@b', '/deep/er'];
const EXACT = '/exact';

let product: Product;
let upstream: StrictUpstream;

before(async () => {
  upstream = await startStrictUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  const target_url = upstream.url;
  const proxies = [
    { hostname: SITE, redirect_to_https: false },
    { hostname: PRIVATE, redirect_to_https: false, auth: token },
    { hostname: '*.wild.example.com', redirect_to_https: false },
    { hostname: 'closed.wild.example.com', redirect_to_https: false, auth: token },
    { hostname: 'xn--bcher-kva.example.com', redirect_to_https: false, auth: token },
  ];
  for (const proxy of proxies) await create('/v1/proxies', { ...proxy, target_url });
  for (const path of prefixes) await create('/v1/routes', { hostname: SITE, path, target_url, auth: token });
  await create('/v1/routes', { hostname: SITE, path: EXACT, match: 'exact', target_url, auth: token });
});

after(async () => {
  await product?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

async function create(path: string, body: object): Promise<void> {
  const made = await product.api('POST', path, body);
  assert.equal(made.status, 201, JSON.stringify(made.body));
}

/** Keeps a connection as long as the other side does. */
class Asker implements Disposable {
  readonly #open: () => Promise<Wire>;
  #wire: Wire | undefined;

  constructor(open: () => Promise<Wire> = () => wireHttp(product)) {
    this.#open = open;
  }

  async ask(bytes: string): Promise<WireReply> {
    this.#wire ??= await this.#open();
    const reply = await this.#wire.write(bytes).reply();
    assert.ok(reply, `no reply to ${JSON.stringify(bytes.slice(0, 200))}`);
    if (reply.headers.connection === 'close') this[Symbol.dispose]();
    return reply;
  }

  get(target: string, host = SITE): Promise<WireReply> {
    return this.ask(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  }

  [Symbol.dispose](): void {
    this.#wire?.[Symbol.dispose]();
    this.#wire = undefined;
  }
}

/**
 * A path as the most lenient upstream might read it: decoded once, backslashes for slashes, parameters and a fragment
 * dropped, what stands behind a NUL dropped, slashes collapsed, dot segments resolved. A slash at the end stays.
 */
function leniently(path: string): string {
  const [plain = ''] = path.split(/[?#]/);
  const decoded = plain.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const kept: string[] = [];
  for (const segment of (decoded.split('\0')[0] ?? '').replaceAll('\\', '/').split('/')) {
    const bare = segment.replace(/;.*$/, '');
    if (bare === '..') kept.pop();
    else if (bare !== '' && bare !== '.') kept.push(bare);
  }
  return `/${kept.join('/')}${kept.length > 0 && /[/.]$/.test(decoded) ? '/' : ''}`;
}

const isProtected = (path: string): boolean =>
  path === EXACT || prefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}/`));

/** What reached the upstream since the last look. */
const arrived = (): string[] => upstream.seen.splice(0).map(({ target }) => target);

function assertClosed(spelling: string, { status }: WireReply): void {
  const reached = arrived();
  if (status === 200) assert.equal(reached.length, 1, spelling);
  else {
    assert.ok([400, 401, 404, 405, 421].includes(status), `${JSON.stringify(spelling)}: ${status}`);
    assert.deepEqual(reached, [], `${JSON.stringify(spelling)}: ${status}, but reached the upstream`);
  }
  for (const path of reached) {
    assert.ok(
      !isProtected(leniently(path)),
      `${JSON.stringify(spelling)} reached ${path} without a credential`,
    );
    // Canonical: whoever normalises it again finds nothing to do.
    assert.doesNotMatch(
      path.split('?')[0] ?? '',
      /\/\/|\/\.{1,2}(?:\/|$)|\\|#|%(?:[0-9A-F]?[a-f]|[01][0-9A-F]|2[EF]|5C)/,
      spelling,
    );
  }
}

const encoded = (text: string, hex: (code: number) => string): string =>
  text.replace(/[a-z@]/g, (letter) => `%${hex(letter.charCodeAt(0))}`);
const lower = (code: number) => code.toString(16);
const upper = (code: number) => code.toString(16).toUpperCase();

function spellings(path: string): string[] {
  const [, first = '', rest = ''] = /^\/([^/]+)(.*)$/.exec(path) ?? [];
  const names = [
    first,
    encoded(first, lower),
    encoded(first, upper),
    `%${lower(first.charCodeAt(0))}${first.slice(1)}`,
    `${first};`,
    `${first};x=1`,
    `${first}%3b`,
    `${first}%3Bx`,
    `${first}%00`,
    `${first}%20`,
    `${first}%09`,
    `${first}.`,
    `${first}%2e`,
    `${first}\t`,
    `${first}%0d%0a`,
    `${first}%c0%af`,
    first.toUpperCase(),
    encoded(first, lower).replaceAll('%', '%25'),
  ];
  const befores = [
    '/',
    '//',
    '///',
    '/./',
    '/.//',
    '/x/../',
    '/x/..//',
    '/x/y/../../',
    '/%2e/',
    '/%2E/',
    '/x/%2e%2e/',
    '/x/%2E%2e/',
    '/x/.%2e/',
    '/x/%2e./',
    '/;/',
    '/;x=1/',
    '/x/..;/',
    '/x/..;x=1/',
    '/x/%2e%2e;/',
    '/x/..%3b/',
    '\\',
    '/\\',
    '/x\\..\\',
    '/%5c',
    '/x%5c..%5c',
    '/%2f',
    '/x%2f..%2f',
    '/x/..%2f',
    '/x/%2e%2e%2f',
    '/%252e%252e/',
    '/x/%252e%252e/',
    '/x/..%c0%af',
    '/x/%c0%ae%c0%ae/',
    '/x/%e0%80%ae%e0%80%ae/',
    '/../',
    '/../../',
    '/%2e%2e/',
    '/x/../../',
    '/\x01',
    '/%00/',
    '/x/..%00/',
    '/x/..%09/',
    '/\t',
    '/%20/',
    '/.;/',
    '/..;/',
    '/./;/../',
    '/#/../',
    '/?/../',
    '/%23/../',
    '/%3f/../',
    '/x/../%2e/',
    '/%u002e%u002e/',
    '/％2e/',
    '/\xc0\xae\xc0\xae/',
    '/\xef\xbc\x8f',
  ];
  const behinds = [
    '',
    '/',
    '//',
    '/.',
    '/..',
    '/./',
    '/x/..',
    '/%2e',
    '/;',
    ';/',
    '?',
    '?x',
    '#',
    '#x',
    '%23',
    '%3f',
    '/%2e%2e/../',
    '.json',
    '%20',
    '\\',
    '%5c',
    '%2f',
    '/*',
    '~',
    '%7e',
    '%',
  ];
  return [
    ...names.flatMap((name) => behinds.map((behind) => `/${name}${rest}${behind}`)),
    ...befores.flatMap((start) => names.slice(0, 6).map((name) => `${start}${name}${rest}`)),
  ];
}

const otherForms = [...prefixes, EXACT].flatMap((path) => {
  const bare = path.slice(1);
  return [
    bare,
    `*`,
    `*${path}`,
    `.${path}`,
    `;${path}`,
    `@${SITE}${path}`,
    `//${SITE}${path}`,
    `///${SITE}${path}`,
    `\\\\${SITE}${path}`,
    `http:${path}`,
    `http:/${path}`,
    `http://${path}`,
    `http://${SITE}${path}`,
    `HTTP://${SITE.toUpperCase()}${path}`,
    `https://${SITE}${path}`,
    `http://${SITE}:80${path}`,
    `http://x@${SITE}${path}`,
    `http://x:y@${SITE}${path}`,
    `http://${SITE}/x/..${path}`,
    `http://${SITE}//${bare}`,
    `http://${SITE}\\${bare}`,
    `http://${SITE}?${path}`,
    `http://${SITE}#${path}`,
    `http://${SITE}%2f${bare}`,
    `http://other.example.com${path}`,
    `http://${SITE}.${path}`,
    `http://${SITE},other.example.com${path}`,
    `ftp://${SITE}${path}`,
    `file://${path}`,
    `ws://${SITE}${path}`,
    `javascript:${path}`,
    `http://[::1]${path}`,
    `http://127.0.0.1${path}`,
    `http://localhost${path}`,
  ];
});

test('incident 15: the policy of a path holds for every spelling of it', async () => {
  using asker = new Asker();
  for (const path of [...prefixes, EXACT, '/admin/users', '/a@b/c']) {
    assert.equal((await asker.get(path)).status, 401);
    for (const spelling of spellings(path)) assertClosed(spelling, await asker.get(spelling));
  }
});

test('incident 15: and over HTTPS, with other methods, and for absolute and other forms of the target', async () => {
  using https = new Asker(() => wireHttps(product, SITE));
  using http = new Asker();
  for (const form of otherForms) for (const asker of [http, https]) assertClosed(form, await asker.get(form));
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'PROPFIND', 'get', 'Get', 'GETT'])
    for (const path of ['/admin', '/x/%2e%2e/admin', '//admin', '/admin;x', '/exact']) {
      const reply = await http.ask(
        `${method} ${path} HTTP/1.1\r\nHost: ${SITE}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
      );
      http[Symbol.dispose]();
      assertClosed(`${method} ${path}`, reply);
    }
});

const piece = fc.constantFrom(
  '/',
  '/',
  '.',
  '..',
  '%2e',
  '%2E',
  '%2f',
  '%5c',
  '\\',
  ';',
  ';x',
  '?',
  '%00',
  '%25',
  '%',
  'a',
  'admin',
  '%61dmin',
  'adm%69n',
  'ADMIN',
  'exact',
  'a@b',
  'a%40b',
  'deep',
  'er',
  '%20',
  '+',
  ' ',
  '~',
  '%7E',
  '&',
  '=',
  ':',
  "'",
);
const target = fc.array(piece, { minLength: 1, maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);

test('incident 15: no path that can be put together reaches what is protected', async () => {
  using asker = new Asker();
  await fc.assert(
    fc.asyncProperty(target, async (path) => {
      assertClosed(path, await asker.get(path));
    }),
    { numRuns: 1500 },
  );
});

test('incident 15: test_route tells what happens: match, policy and forwarded path are those that serve', async () => {
  using asker = new Asker();
  const credential = `Authorization: Bearer ${product.adminToken}`;
  const api = new Asker(() => wireHttp(product));
  await fc.assert(
    fc.asyncProperty(target, async (path) => {
      fc.pre(!/[ #]/.test(path));
      const query = new URLSearchParams({ url: `http://${SITE}${path}` });
      const told = JSON.parse(
        (
          await api.ask(
            `GET /v1/route-test?${query.toString()} HTTP/1.1\r\nHost: localhost:${product.httpPort}\r\n${credential}\r\n\r\n`,
          )
        ).body,
      );
      const { status } = await asker.get(path);
      const [forwarded] = arrived();
      if (told.outcome === 'bad_request') assert.equal(status, 400, path);
      else
        assert.deepEqual([told.outcome, status], ['forward', told.auth.kind === 'token' ? 401 : 200], path);
      if (status === 200) assert.equal(forwarded, told.target_url.slice(upstream.url.length), path);
    }),
    { numRuns: 300 },
  );
  api[Symbol.dispose]();
});

test('incident 15: what a real nginx protects with the same policy, we protect too', {
  skip: hasNginx() ? false : 'nginx is not installed',
}, async () => {
  const locations = prefixes.map(
    (path) => `location = ${path} { return 401; } location ${path}/ { return 401; }`,
  );
  await using nginx = await startNginx(
    `merge_slashes on; ${locations.join(' ')} location = ${EXACT} { return 401; } location / { return 200; }`,
  );
  using theirs = new Asker(async () => new Wire(await nginx.connect()));
  using ours = new Asker();
  const compared = { protected: 0, open: 0 };
  const compare = async (path: string) => {
    // What it does not read as a request it answers in HTTP/0.9 or by closing.
    if (!/^[!-\xff]+$/.test(path)) return;
    const [nginxReply, reply] = [await theirs.get(path), await ours.get(path)];
    arrived();
    if (nginxReply.status === 401) {
      compared.protected++;
      assert.ok([400, 401].includes(reply.status), `nginx protects ${path}, we answer ${reply.status}`);
    } else if (reply.status === 200) compared.open++;
  };
  for (const path of [...prefixes, EXACT].flatMap(spellings)) await compare(path);
  await fc.assert(fc.asyncProperty(target, compare), { numRuns: 500 });
  assert.ok(compared.protected > 200 && compared.open > 200, JSON.stringify(compared));
});

test('incident 15: the policy of a host holds for every spelling of it, and what is no host is refused', async () => {
  using asker = new Asker();
  const same = [
    PRIVATE,
    PRIVATE.toUpperCase(),
    'pRiVaTe.ExAmPlE.cOm',
    `${PRIVATE}.`,
    `${PRIVATE}:80`,
    `${PRIVATE}:${product.httpPort}`,
    `${PRIVATE}.:80`,
    'BÜCHER.example.com',
    'xn--bcher-kva.example.com',
    'XN--BCHER-KVA.EXAMPLE.COM',
    'closed.wild.example.com',
    'CLOSED.wild.example.com.',
    'closed.WILD.example.com:80',
  ];
  for (const host of same) {
    const { status } = await asker.get('/', host);
    assert.ok(status === 401 || (status === 400 && host.includes('Ü')), `${host}: ${status}`);
  }
  const none = [
    `${PRIVATE}..`,
    `.${PRIVATE}`,
    `${PRIVATE}:`,
    `${PRIVATE}:0`,
    `${PRIVATE}:99999`,
    `${PRIVATE}:80:80`,
    `${PRIVATE}:+80`,
    `${PRIVATE}:080`,
    `x@${PRIVATE}`,
    `${SITE}@${PRIVATE}`,
    `${SITE}:80@${PRIVATE}`,
    `${PRIVATE}/`,
    `${PRIVATE}/x`,
    `${PRIVATE}#`,
    `${PRIVATE}?x`,
    `${PRIVATE}\\`,
    `${SITE},${PRIVATE}`,
    `${SITE}, ${PRIVATE}`,
    `${SITE} ${PRIVATE}`,
    `${PRIVATE}%00`,
    `${PRIVATE}%2e`,
    `private%2eexample.com`,
    `private_.example.com`,
    'private。example。com',
    'private．example．com',
    `-${PRIVATE}`,
    '127.1',
    '2130706433',
    '0x7f.1',
    '[::ffff:127.0.0.1',
    '[::1]x',
    '*',
    '*.example.com',
    '',
    ' ',
  ];
  for (const host of none) {
    const { status } = await asker.get('/', host);
    assert.ok([400, 421].includes(status), `${JSON.stringify(host)}: ${status}`);
  }
  assert.deepEqual(arrived(), []);
});

test('incident 15: two hosts in one request are refused, whichever would have been open', async () => {
  const heads = [
    `GET / HTTP/1.1\r\nHost: ${SITE}\r\nHost: ${PRIVATE}`,
    `GET / HTTP/1.1\r\nHost: ${PRIVATE}\r\nHost: ${SITE}`,
    `GET / HTTP/1.1\r\nHost: ${SITE}\r\nhost: ${SITE}`,
    `GET http://${PRIVATE}/ HTTP/1.1\r\nHost: ${SITE}`,
    `GET http://${SITE}/ HTTP/1.1\r\nHost: ${PRIVATE}`,
    `GET http://${SITE}:81/ HTTP/1.1\r\nHost: ${SITE}`,
    `GET / HTTP/1.1`,
    `GET / HTTP/1.1\r\nHost : ${SITE}`,
    `GET / HTTP/1.1\r\n Host: ${SITE}`,
    `GET / HTTP/1.1\r\nHost: ${SITE}\r\n ${PRIVATE}`,
    `GET / HTTP/1.1\r\nH\xf6st: ${SITE}`,
    `GET / HTTP/1.0`,
    `GET http:// HTTP/1.1\r\nHost: ${SITE}`,
  ];
  for (const head of heads) {
    using wire = await wireHttp(product);
    const [reply] = await wire.write(`${head}\r\nConnection: close\r\n\r\n`).replies();
    assert.ok([400, 421].includes(reply?.status ?? 0), `${head}: ${reply?.status}`);
  }
  assert.deepEqual(arrived(), []);
});

test('incident 15: the host that is forwarded is the one that was matched, in its canonical form', async () => {
  using asker = new Asker();
  for (const [host, expected] of [
    ['SITE.Example.COM.', SITE],
    [`${SITE}.:80`, SITE],
    ['A.Wild.Example.Com', 'a.wild.example.com'],
  ] as const) {
    assert.equal((await asker.get('/', host)).status, 200, host);
    const [seen] = upstream.seen.splice(0);
    assert.deepEqual(
      seen?.fields.filter(([name]) => /^(?:host|x-forwarded-host)$/i.test(name)).map(([, value]) => value),
      [expected, expected],
      host,
    );
  }
});

test('incident 15: with more than a hundred hosts, case and a dot at the end still do not matter', async () => {
  const target_url = upstream.url;
  const numbers = Array.from({ length: 110 }, (_, i) => i);
  for (const i of numbers)
    await create('/v1/proxies', {
      hostname: `many-${i}.example.org`,
      target_url,
      redirect_to_https: false,
      auth: token,
    });
  using asker = new Asker();
  for (const i of numbers)
    for (const host of [`many-${i}.example.org`, `MANY-${i}.Example.ORG.`])
      assert.equal((await asker.get('/', host)).status, 401, host);
  assert.deepEqual(arrived(), []);
});
