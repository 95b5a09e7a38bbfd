/** docs/guides/connect-a-client.md: its commands and snippets, as they stand there, against the product. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import packageJson from '../../package.json' with { type: 'json' };
import { configFile, generous } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const guide = new Guide('connect-a-client');
const isThere = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
const withoutCurl = isThere('curl') ? false : 'curl is not installed here';

let product: Product;
let upstream: Upstream;
let home: string;

before(async () => {
  upstream = await startUpstream();
  product = await startProduct({ env: { OHP_CONFIG: configFile(generous) } });
  home = mkdtempSync(join(tmpdir(), 'ohp-guide-'));
  const made = { hostname: 'app.example.com', target_url: upstream.url };
  assert.equal((await product.api('POST', '/v1/proxies', made)).status, 201);
});
after(async () => {
  for (const one of [product, upstream]) await one[Symbol.asyncDispose]();
  rmSync(home, { recursive: true, force: true });
});

/** The guide's ports and name of the control host, by those of this machine. */
const here = (block: string): string =>
  block
    .replaceAll('localhost:8080', `localhost:${product.httpPort}`)
    .replaceAll('https://proxy.example.com', `http://localhost:${product.httpPort}`);

test('the token is read without being shown, and every Claude Code command names a URL and header that work', async () => {
  const read = guide.block('bash', 'read -rs OHP_TOKEN');
  const added = guide.blocks('bash').filter((block) => block.startsWith('claude mcp add'));
  assert.equal(added.length, 2);
  for (const block of added) {
    const { code, out, err } = await runShell(`${read}\n${here(block)}`, {
      input: `${product.adminToken}\n`,
    });
    assert.equal(code, 0, err);
    const words = out.trimEnd().split('\n');
    assert.deepEqual(words.slice(0, 5), ['mcp', 'add', '--transport', 'http', 'ohp']);
    const url = new URL(words[5] ?? '');
    if (words.length === 6) {
      // Nothing but the URL: it is refused so that a sign-in can begin.
      const refused = await fetch(url, { method: 'POST' });
      assert.equal(refused.status, 401);
      assert.match(refused.headers.get('www-authenticate') ?? '', /resource_metadata="http/);
      continue;
    }
    const [name = '', value = ''] = (words[7] ?? '').split(': ');
    const client = new Client({ name: 'guide', version: '1.0.0' });
    await client.connect(
      new StreamableHTTPClientTransport(url, { requestInit: { headers: { [name]: value } } }),
    );
    assert.ok((await client.listTools()).tools.length > 0);
    await client.close();
  }
});

test('the Inspector is named in the version that is printed at the start, with a URL and a header that work', async () => {
  const [, version, url, header] =
    /npx @modelcontextprotocol\/inspector@(\S+) --transport http --server-url (\S+) --header "(.*)"/.exec(
      here(guide.block('bash', 'inspector')),
    ) ?? [];
  assert.ok(product.output().includes(`inspector@${version ?? '?'} `));
  const [name = '', value = ''] = (header ?? '').replace('$OHP_TOKEN', product.adminToken).split(': ');
  const { status } = await fetch(url ?? '', {
    method: 'POST',
    headers: {
      [name]: value,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
  });
  assert.equal(status, 200);
});

async function runModule(code: string): Promise<string> {
  const child = spawn(process.execPath, ['--input-type=module'], {
    cwd: join(import.meta.dirname, '../..'),
    env: { PATH: process.env['PATH'], OHP_TOKEN: product.adminToken },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  // The snippet of a person's program, which goes on; here it ends.
  child.stdin.end(`${code}\nprocess.exit(0);`);
  const [out, [status]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  assert.equal(status, 0);
  return out;
}

test('the snippet of the TypeScript SDK calls a tool, and so it does with the imports of 1.x', async () => {
  const snippet = here(guide.block('ts', 'StreamableHTTPClientTransport'));
  assert.match(await runModule(snippet), /app\.example\.com/);
  const [, client, transport] = /imports `([^`]+)` and\n`([^`]+)`/.exec(guide.text) ?? [];
  const [, both = ''] = /^(import .*)$/m.exec(snippet) ?? [];
  const old = snippet.replace(
    both,
    `import { Client } from '${client}';\nimport { StreamableHTTPClientTransport } from '${transport}';`,
  );
  assert.match(await runModule(old), /app\.example\.com/);
});

test('the curl commands work as printed', { skip: withoutCurl }, async () => {
  const env = { OHP_TOKEN: product.adminToken };
  const { code, out, err } = await runShell(here(guide.block('bash', '"method":"initialize"')), { env });
  assert.equal(code, 0, err);
  assert.match(out, /"protocolVersion":"2025-06-18"/);
  const [, rest = ''] = /\*\*REST\*\*: `(curl [^`]+)`/.exec(guide.text) ?? [];
  const listed = await runShell(here(rest), { env });
  assert.match(listed.out, /"hostname":"app\.example\.com"/);
});

test('the command line signs in, keeps its token to its owner, lists, and completes', async () => {
  const block = here(guide.block('bash', 'npx ohp login'));
  assert.match(block, /\nnpx ohp list proxies\n/);
  const { code, out, err } = await runShell(block, {
    env: { HOME: home },
    input: `${product.adminToken}\n`,
    cwd: home,
  });
  assert.equal(code, 0, err);
  assert.match(out, /app\.example\.com/);
});

test('a token for each client: no wider than its work, and gone when it is revoked', async () => {
  const [create = '', revoke = ''] = guide.block('bash', 'create token').trimEnd().split('\n');
  const env = asAdministrator(product);
  const made = await runShell(`${create} --json`, { env });
  assert.equal(made.code, 0, made.err);
  const { id, secret } = JSON.parse(made.out);
  const list = await product.api('GET', '/v1/proxies', undefined, { authorization: `Bearer ${secret}` });
  assert.deepEqual(list.body.proxies, [], 'what it may not touch does not exist for it');
  // Somebody at a terminal is asked; here nobody is, and it says what to add.
  const typed = revoke.replace('tok_…', id);
  const asked = await runShell(typed, { env });
  assert.match(asked.err, /Revoke the token .* repeat with --yes/s);
  const ended = await runShell(typed.replace(id, `${id} --yes`), { env });
  assert.equal(ended.code, 0, ended.err);
  const again = await fetch(`http://localhost:${product.httpPort}/v1/proxies`, {
    headers: { authorization: `Bearer ${secret}` },
  });
  assert.equal(again.status, 401);
});

test('a URL can narrow what a client is given; one that looks like it and is not is refused', async () => {
  const listed = async (query: string) => {
    const response = await fetch(`http://localhost:${product.httpPort}/mcp${query}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${product.adminToken}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    });
    return { status: response.status, text: await response.text() };
  };
  const [narrow, readOnly, ...wrong] = [...guide.text.matchAll(/`(\?[a-zA-Z_]+=[^`]*)`/g)].map(
    ([, query = '']) => query,
  );
  const some = await listed(narrow ?? '');
  assert.match(some.text, /"create_proxy"/);
  assert.doesNotMatch(some.text, /"create_token"/);
  assert.doesNotMatch((await listed(readOnly ?? '')).text, /"create_proxy"/);
  assert.equal(wrong.length, 2);
  for (const query of wrong) assert.equal((await listed(query)).status, 400, query);
});

test('diagnose_connector, as it is typed', async () => {
  const block = guide.block('bash', 'diagnose connector');
  const url = `https://app.example.com:${product.httpsPort}/mcp`;
  const lines = block.trimEnd().replaceAll('https://app.example.com/mcp', url).split('\n');
  assert.equal(lines.length, 2);
  for (const line of lines) {
    const { code, out, err } = await runShell(`${line} --json`, { env: asAdministrator(product) });
    assert.equal(code, 0, err);
    const { clients, summary } = JSON.parse(out);
    assert.equal(clients.length, line.includes('--client') ? 1 : 5);
    assert.match(summary, line.includes('--since 2h') ? /in the last 2h/ : /in the last 24h/);
  }
});

test('mcp-remote is named in the version that the tests run', () => {
  const { mcpServers } = JSON.parse(guide.block('json', 'mcp-remote'));
  assert.equal(mcpServers.ohp.args[0], `mcp-remote@${packageJson.devDependencies['mcp-remote']}`);
});

test('the answers of the table are those that the product gives', async () => {
  const at = (path: string, headers: Record<string, string> = {}) =>
    fetch(`http://localhost:${product.httpPort}${path}`, { headers });
  assert.equal((await at('/mcp', { authorization: 'Bearer nothing' })).status, 401);
  const foreign = await at('/mcp', { origin: 'https://elsewhere.example' });
  assert.equal(foreign.status, 403);
  assert.match(await foreign.text(), /origin/);
  const lost = await product.get('localhost', '/mcp', {
    method: 'POST',
    headers: {
      authorization: `Bearer ${product.adminToken}`,
      'mcp-session-id': 'gone',
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}',
  });
  assert.equal(lost.status, 404);
  const unknown = await product.get('localhost', '/mcp', { headers: { host: 'nowhere.example.com' } });
  assert.equal(unknown.status, 421);
  await assert.rejects(product.get('nowhere.example.com', '/'));
  const trace = lost.headers['x-trace-id'];
  const { body } = await eventually(async () => {
    const found = await product.api('GET', `/v1/logs?trace_id=${String(trace)}`);
    return found.body.records.length > 0 ? found : undefined;
  }, 'the records of the trace id');
  assert.equal(body.records[0].path, '/mcp');
});
