/**
 * The suite's scenarios for authorization servers, against the product: it prints where a person has to go, and a
 * browser goes there, signs in and agrees.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { openChromium, withoutChromium } from '../support/chromium.ts';
import { freePort } from '../support/free-port.ts';
import { type Product, startProduct } from '../support/product.ts';
import { PASSWORD } from '../support/visitor.ts';

const suite = join(import.meta.dirname, '../../node_modules/@modelcontextprotocol/conformance/dist/index.js');
const TIMEOUT_MS = 60_000;
const SCENARIOS = 2;

/** True when every scenario passed. */
export async function conformanceOfAuthorization(print: (line: string) => void): Promise<boolean> {
  if (withoutChromium !== false) {
    print(`conformance authorization: skipped, ${withoutChromium}`);
    return true;
  }
  await using product = await startProduct();
  const browser = await openChromium();
  try {
    const port = await freePort();
    const issuer = `http://localhost:${product.httpPort}`;
    const clientId = await register(issuer, `http://127.0.0.1:${port}/callback`);
    const options = ['--url', issuer, '--client-id', clientId, '--resource', `${issuer}/mcp`];
    const child = spawn(process.execPath, [suite, 'authorization', ...options, '-p', String(port)], {
      timeout: TIMEOUT_MS,
    });
    const output = await follow(child, (url) => agree(browser, url, product));
    const passed = output.match(/^.*✓.*$/gm)?.length ?? 0;
    const isSound = child.exitCode === 0 && passed >= SCENARIOS && !output.includes('✗');
    print(`conformance authorization: ${isSound ? 'passed' : 'FAILED'} (${passed} passed)`);
    if (!isSound) print(output);
    return isSound;
  } finally {
    await browser.close();
  }
}

/** All that it prints; each URL of an authorization request on a line of its own is visited. */
async function follow(child: ChildProcess, visit: (url: string) => Promise<void>): Promise<string> {
  if (!child.stdout || !child.stderr) throw new Error('the suite has no output');
  const lines: string[] = [];
  const visits: Promise<void>[] = [];
  child.stderr.on('data', (chunk: Buffer) => lines.push(chunk.toString()));
  createInterface(child.stdout).on('line', (line) => {
    lines.push(line);
    if (/^https?:\/\/\S+\/oauth\/authorize\?/.test(line)) visits.push(visit(line));
  });
  await once(child, 'close');
  await Promise.all(visits);
  return lines.join('\n');
}

async function agree(browser: Browser, url: string, { adminToken }: Product): Promise<void> {
  const page = await browser.newPage();
  await page.goto(url);
  await page.fill('#token', adminToken);
  await page.click('button.first');
  await page.fill('#username', 'root');
  await page.fill('#password', PASSWORD);
  await page.click('button.first');
  await page.click('button[value="allow"]');
  await page.waitForURL(/\/callback\?/);
}

async function register(issuer: string, redirectUri: string): Promise<string> {
  const response = await fetch(`${issuer}/oauth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_name: 'Conformance', redirect_uris: [redirectUri] }),
  });
  return ((await response.json()) as { client_id: string }).client_id;
}
