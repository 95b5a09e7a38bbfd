/**
 * What a bearer check costs: CPU of a request to a protected proxy with an access token (verified once, then known)
 * over one to a proxy that asks for nothing, in the same process, in alternating order. The claim is at most 10 %.
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
import { ADMINISTRATOR, LOAD_CORE, type MeasuredProduct, pin, startProduct } from './product.ts';

const ROUNDS = Number(process.argv[2] ?? 7);
const REQUESTS = Number(process.argv[3] ?? 8000);
const CLIENTS = 32;
const OPEN = 'open.localhost';
const PROTECTED = 'protected.localhost';
const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS });

const upstream = createServer((_request, response) => response.end('ok'));
upstream.listen(0, '127.0.0.1');
await once(upstream, 'listening');
pin(process.pid, LOAD_CORE);

await using product = await startProduct();
const target_url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
for (const hostname of [OPEN, PROTECTED])
  await product.ask('POST', '/v1/proxies', { hostname, target_url, redirect_to_https: false });
const token = await protect(product);

const cost: Record<string, number[]> = { [OPEN]: [], [PROTECTED]: [] };
await run(OPEN, REQUESTS);
await run(PROTECTED, REQUESTS);
for (let round = 0; round < ROUNDS; round++)
  for (const hostname of round % 2 === 0 ? [OPEN, PROTECTED] : [PROTECTED, OPEN]) {
    await product.settle();
    const before = await product.cpu();
    await run(hostname, REQUESTS);
    await product.settle();
    cost[hostname]?.push(((await product.cpu()) - before) / REQUESTS);
  }

const ratio = median(cost[PROTECTED] ?? []) / median(cost[OPEN] ?? []);
printTable([
  ['', 'CPU µs per request'],
  ['no policy', spread(cost[OPEN] ?? [], 1)],
  ['access token', spread(cost[PROTECTED] ?? [], 1)],
  ['over', `${((ratio - 1) * 100).toFixed(1)} %`],
]);
agent.destroy();
upstream.close();

/** A token for the URL as it is measured: over plain HTTP, on a name of loopback. */
async function protect(measured: MeasuredProduct): Promise<string> {
  const body = { mode: 'bearer', allow: { everyone: true } };
  await measured.ask('PUT', `/v1/proxies/${PROTECTED}/protection`, body);
  const ca = readFileSync(join(measured.dataDir, 'ca.pem'));
  const asked = { ...measured, ca, adminToken: ADMINISTRATOR };
  const { token: granted } = await accessTo(asked, `http://${PROTECTED}:${measured.httpPort}/`);
  return granted;
}

/** As fast as it goes, over connections that stay. @throws Error for any answer but 200. */
async function run(hostname: string, requests: number): Promise<void> {
  let left = requests;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const headers = {
        host: `${hostname}:${product.httpPort}`,
        ...(hostname === PROTECTED && { authorization: `Bearer ${token}` }),
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
