/**
 * What a bearer check costs: CPU of a request with an access token (verified once, then known) to a protected proxy over
 * the same request to a proxy that asks for nothing, in the same process, in alternating order. The claim is at most 10 %.
 *
 *   node tools/run.mjs bench/bearer.ts [rounds] [requests of a round]
 *
 * Core 0 has the product, core 1 the load and the upstream. Loopback only.
 */
import { Agent, createServer, request as plainRequest } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { accessTo } from '../test/support/agent.ts';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { median, printTable, spread } from './measure.ts';
import { ADMINISTRATOR, LOAD_CORE, pin, startProduct } from './product.ts';

const ROUNDS = Number(process.argv[2] ?? 7);
const REQUESTS = Number(process.argv[3] ?? 8000);
const CLIENTS = 32;
const OPEN = 'open.localhost';
const CHECKED = 'checked.localhost';
const TOLD = 'told.localhost';
const hosts = [OPEN, CHECKED, TOLD];
const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS });

const upstream = createServer((_request, response) => response.end('ok'));
upstream.listen(0, '127.0.0.1');
await once(upstream, 'listening');
pin(process.pid, LOAD_CORE);

await using product = await startProduct();
const target_url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
for (const hostname of hosts)
  await product.ask('POST', '/v1/proxies', { hostname, target_url, redirect_to_https: false });
const tokens: Record<string, string> = {
  [CHECKED]: await protect(CHECKED, { kind: 'none' }),
  [TOLD]: await protect(TOLD, { kind: 'headers' }),
};
tokens[OPEN] = tokens[CHECKED] ?? '';

const cost: Record<string, number[]> = { [OPEN]: [], [CHECKED]: [], [TOLD]: [] };
for (const hostname of hosts) await run(hostname, REQUESTS);
for (let round = 0; round < ROUNDS; round++)
  for (const hostname of round % 2 === 0 ? hosts : hosts.toReversed()) {
    await product.settle();
    // What the run before left behind is collected on its own account.
    await product.memory();
    const before = await product.cpu();
    await run(hostname, REQUESTS);
    await product.settle();
    cost[hostname]?.push(((await product.cpu()) - before) / REQUESTS);
  }

const over = (hostname: string) => {
  const ratio = median(cost[hostname] ?? []) / median(cost[OPEN] ?? []);
  return `${((ratio - 1) * 100).toFixed(1)} %`;
};
printTable([
  ['', 'CPU µs per request', 'over no policy'],
  ['no policy', spread(cost[OPEN] ?? [], 1), ''],
  ['access token', spread(cost[CHECKED] ?? [], 1), over(CHECKED)],
  ['access token, target told who it is', spread(cost[TOLD] ?? [], 1), over(TOLD)],
]);
agent.destroy();
upstream.close();

/** A token for the URL as it is measured: over plain HTTP, on a name of loopback. */
async function protect(hostname: string, identity: object): Promise<string> {
  const body = { mode: 'bearer', allow: { everyone: true }, identity };
  await product.ask('PUT', `/v1/proxies/${hostname}/protection`, body);
  const ca = readFileSync(join(product.dataDir, 'ca.pem'));
  const asked = { ...product, ca, adminToken: ADMINISTRATOR };
  const { token: granted } = await accessTo(asked, `http://${hostname}:${product.httpPort}/`);
  return granted;
}

/** As fast as it goes, over connections that stay. @throws Error for any answer but 200. */
async function run(hostname: string, requests: number): Promise<void> {
  let left = requests;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const headers = {
        host: `${hostname}:${product.httpPort}`,
        authorization: `Bearer ${tokens[hostname]}`,
      };
      const request = plainRequest({ host: '127.0.0.1', port: product.httpPort, agent, headers });
      request.on('error', reject);
      request.on('response', (response) => {
        response.resume().on('end', resolve);
        if (response.statusCode !== 200) reject(new Error(`${hostname}: ${response.statusCode}`));
      });
      request.end();
    });
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (left-- > 0) await one();
    }),
  );
}
