/**
 * mcp-remote, by which clients that know only programs reach a server: started as they start it, it signs in for real.
 * Only its browser is replaced, by a program that says which URL it was to open, and the person is scripted.
 */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { configFile, generous } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';
import { signInAs, Visitor } from '../support/visitor.ts';

const program = join(
  dirname(createRequire(import.meta.url).resolve('mcp-remote/package.json')),
  'dist/proxy.js',
);
/** Where it waits for the person to come back. */
const CALLBACK = /^http:\/\/(?:localhost|127\.0\.0\.1):\d+\/oauth\/callback\?/;

let product: Product;
let folder: string;
let opened: string;

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  folder = mkdtempSync(join(tmpdir(), 'ohp-mcp-remote-'));
  opened = join(folder, 'opened');
  const browser = join(folder, 'browser');
  writeFileSync(
    browser,
    `#!/bin/sh\nprintf '%s' "$1" > '${opened}.part' && mv '${opened}.part' '${opened}'\n`,
  );
  chmodSync(browser, 0o700);
});
after(async () => {
  await product[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** What the model's program does: starts it, and speaks over its input and output. */
async function listTools(whenOpened: Promise<unknown> | undefined): Promise<string[]> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [program, `https://localhost:${product.httpsPort}/mcp`],
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: folder,
      BROWSER: join(folder, 'browser'),
      MCP_REMOTE_CONFIG_DIR: join(folder, 'kept'),
      NODE_EXTRA_CA_CERTS: join(product.dataDir, 'ca.pem'),
    },
    stderr: 'ignore',
  });
  const client = new Client({ name: 'a program', version: '1.0.0' });
  // Its types are from before exactOptionalPropertyTypes.
  await Promise.all([client.connect(transport as any), whenOpened]);
  try {
    const result = await client.callTool({ name: 'list_proxies', arguments: {} });
    assert.notEqual(result.isError, true);
    return (await client.listTools()).tools.map(({ name }) => name);
  } finally {
    await client.close();
  }
}

/** Waits for the URL, signs in, agrees, and goes back to where the program listens. */
async function signIn(): Promise<void> {
  const url = await eventually(
    async () => (existsSync(opened) ? readFileSync(opened, 'utf8') : undefined),
    'the URL that it opens',
  );
  const callback = new URL(url).searchParams.get('redirect_uri') ?? '';
  const visitor = new Visitor(product, callback);
  let page = await signInAs(visitor, await visitor.open(url), product);
  page = await visitor.submit(page, { decision: 'allow' });
  assert.match(page.url.href, CALLBACK);
  assert.equal((await fetch(page.url)).status, 200);
}

const keptFile = (): string => {
  const [file = assert.fail('nothing is kept')] = globSync(join(folder, 'kept/**/*_tokens.json'));
  return file;
};
const kept = () => JSON.parse(readFileSync(keptFile(), 'utf8'));

/** So often it was asked for with success, and no more often. */
async function assertAsked(path: string, times: number): Promise<void> {
  const found = await eventually(async () => {
    const { body } = await product.api('GET', `/v1/logs?kind=access&path_prefix=${path}&lines=100`);
    const good = body.records.filter(({ status }: { status: number }) => status < 400);
    return good.length >= times ? good.length : undefined;
  }, `${times} records of ${path}`);
  assert.equal(found, times);
}

test('it registers, opens a browser, and serves the tools over stdio', async () => {
  const tools = await listTools(signIn());
  for (const name of ['list_proxies', 'get_logs', 'echo']) assert.ok(tools.includes(name), name);
  await assertAsked('/oauth/register', 1);
  await assertAsked('/oauth/token', 1);
});

test('a second start uses the token that is kept: no browser, no registration, no token', async () => {
  rmSync(opened);
  assert.ok((await listTools(undefined)).includes('list_proxies'));
  assert.equal(existsSync(opened), false);
  await assertAsked('/oauth/register', 1);
  await assertAsked('/oauth/token', 1);
});

test('when the token has expired it gets a new one without a person', async () => {
  const old = kept();
  writeFileSync(keptFile(), JSON.stringify({ ...old, expires_at: 1, expires_in: 0 }));
  assert.ok((await listTools(undefined)).includes('list_proxies'));
  assert.equal(existsSync(opened), false);
  await assertAsked('/oauth/token', 2);
  assert.notEqual(kept().access_token, old.access_token);
  assert.notEqual(kept().refresh_token, old.refresh_token);
});
