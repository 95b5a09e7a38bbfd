/** docs/guides/forward-auth.md: its snippets, as they stand there, in the real nginx and the real Caddy. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { leafFor, caPem } from '../support/gateway.ts';
import { parse } from 'yaml';
import { configFile, generous } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { Guide } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';
import { signInAs, Visitor } from '../support/visitor.ts';

const HOST = 'app.example.com';
const guide = new Guide('forward-auth');
const snippet = (language: string): string => guide.block(language, '');
const isThere = (program: string): boolean =>
  spawnSync(program, ['-h'], { stdio: 'ignore' }).error === undefined;

interface Parts {
  folder: string;
  port: number;
  /** The guide's ports, by those that are free here. */
  here: (text: string) => string;
}

const nginx = ({ folder, port, here }: Parts): ChildProcess => {
  const inside = here(snippet('nginx')).replace(
    'listen 443 ssl;',
    `listen 127.0.0.1:${port} ssl; ssl_certificate ${folder}/cert.pem; ssl_certificate_key ${folder}/key.pem;`,
  );
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log; events {}
     http { access_log off; ${temporary.join(' ')} ${inside} }`,
  );
  return spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' });
};

const caddy = ({ folder, port, here }: Parts): ChildProcess => {
  const inside = here(snippet('caddyfile')).replace(
    `${HOST} {`,
    `https://${HOST}:${port} {\n  bind 127.0.0.1\n  tls ${folder}/cert.pem ${folder}/key.pem`,
  );
  writeFileSync(join(folder, 'Caddyfile'), `{\n  admin off\n  auto_https off\n}\n${inside}`);
  return spawn('caddy', ['run', '--config', join(folder, 'Caddyfile'), '--adapter', 'caddyfile'], {
    stdio: 'ignore',
    env: { PATH: process.env.PATH, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
  });
};

const listens = (port: number): Promise<true | undefined> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', servername: HOST, rejectUnauthorized: false }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(undefined));
  });

/** As the guide has it. */
const front = parse(/`(gateway: \{ trusted_proxies: .*\})`/.exec(guide.text)?.[1] ?? assert.fail()) as object;

test('the snippet for Traefik is YAML, names the endpoint that the others ask, and keeps tokens from the target', () => {
  const { http } = parse(snippet('yaml'));
  assert.equal(http.middlewares.ohp.forwardAuth.address, 'http://localhost:8080/auth/verify');
  const { middlewares } = http.routers.app;
  assert.deepEqual(middlewares, ['ohp', 'no-token'], 'asked first, taken off afterwards');
  assert.deepEqual(http.middlewares['no-token'].headers.customRequestHeaders, { Authorization: '' });
  assert.match(http.routers['app-sign-in'].rule, /PathPrefix\(`\/\.ohp\/`\)/);
});

/** The front and this system show certificates of two authorities. */
class Browser extends Visitor {
  constructor(product: Product) {
    super({ ca: Buffer.concat([product.ca, Buffer.from(caPem)]), httpsPort: product.httpsPort });
  }
}

for (const [name, start] of Object.entries({ nginx, caddy }))
  test(`${name} asks for each request, signs browsers in, and lets nobody say who they are`, {
    skip: isThere(name) ? false : `${name} is not installed here`,
  }, async (t) => {
    await using upstream = await startUpstream();
    await using product = await startProduct({ env: { OHP_CONFIG: configFile({ ...generous, ...front }) } });
    const folder = mkdtempSync(join(tmpdir(), `ohp-${name}-`));
    const port = await freePort();
    const { cert, key } = await leafFor(HOST);
    writeFileSync(join(folder, 'cert.pem'), cert);
    writeFileSync(join(folder, 'key.pem'), key);
    const here = (text: string) =>
      text
        .replaceAll('127.0.0.1:8080', `127.0.0.1:${product.httpPort}`)
        .replaceAll('127.0.0.1:3000', `127.0.0.1:${upstream.port}`);
    const child = start({ folder, port, here });
    const gone = once(child, 'exit');
    t.after(async () => {
      child.kill('SIGKILL');
      await gone;
      rmSync(folder, { recursive: true, force: true });
    });
    await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url });
    const body = { allow: { everyone: true }, public_paths: ['/assets'] };
    assert.equal((await product.api('PUT', `/v1/proxies/${HOST}/protection`, body)).status, 200);
    await eventually(() => listens(port), `${name} listens`);

    const at = (path: string) => new URL(`https://${HOST}:${port}${path}`);
    const visitor = new Browser(product);
    const forged = { 'X-Auth-User': 'root', 'X-Auth-Groups': 'admins', 'X-Auth-Scopes': 'all' };
    const open = await visitor.request(at('/assets/logo.png'), { headers: forged });
    assert.equal(open.status, 200, open.body);
    const saidOf = (which: number) => upstream.requests[which]?.headers ?? {};
    assert.equal(saidOf(0)['x-auth-user'] ?? '', '', 'nobody is named on a public path');

    const refused = await visitor.request(at('/api'), { headers: { accept: 'application/json' } });
    assert.ok([401, 302].includes(refused.status), String(refused.status));
    assert.equal(upstream.requests.length, 1);

    const page = await visitor.open(at('/report?year=2026&x=1'));
    assert.equal(page.url.hostname, 'localhost', `${page.status} ${page.body}`);
    const back = await signInAs(visitor, page, product);
    assert.equal(back.url.href, at('/report?year=2026&x=1').href, back.body);
    assert.equal(saidOf(1)['x-auth-user'], 'root');

    const again = await visitor.request(at('/x'), {
      headers: { ...forged, cookie: `a=1; __Host-ohp=${visitor.cookie(HOST, '__Host-ohp')}; b=2` },
    });
    assert.equal(again.status, 200);
    const { cookie, authorization, ...said } = saidOf(2);
    assert.deepEqual(
      [said['x-auth-user'], said['x-auth-groups'] ?? '', said['x-auth-scopes'] ?? ''],
      ['root', '', ''],
    );
    assert.doesNotMatch(String(cookie), /ohp/);
    assert.match(String(cookie), /a=1.*b=2/);
    assert.equal(authorization, undefined);
  });
