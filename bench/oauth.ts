/**
 * How many refreshes the token endpoint answers: the grant that clients use all day. Each is one signature, two
 * durable writes (the old token is used, the new one kept) and two reads. Prints refreshes per second and CPU of each.
 *
 *   node tools/run.mjs bench/oauth.ts [rounds] [refreshes of a round]
 *
 * Core 0 has the product, core 1 the load. Loopback only, plain HTTP; what the disk takes is in the figure per second
 * and not in the one of CPU.
 */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Person } from '../test/support/oauth.ts';
import { printTable, spread } from './measure.ts';
import { ADMINISTRATOR, LOAD_CORE, type MeasuredProduct, pin, startProduct } from './product.ts';

const DEFAULT_ROUNDS = 5;
const DEFAULT_REFRESHES = 1000;
const ROUNDS = Number(process.argv[2] ?? DEFAULT_ROUNDS);
const REFRESHES = Number(process.argv[3] ?? DEFAULT_REFRESHES);
const CLIENTS = 16;
const MS_PER_SECOND = 1000;
const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS });

pin(process.pid, LOAD_CORE);
await using product = await startProduct({ mcp: { calls_per_minute_per_address: 10_000_000 } });
const families = await openFamilies(product);
await refreshAll();

const [perSecond, cost]: [number[], number[]] = [[], []];
for (let round = 0; round < ROUNDS; round++) {
  await product.settle();
  const [began, before] = [performance.now(), await product.cpu()];
  await refreshAll();
  perSecond.push((REFRESHES * MS_PER_SECOND) / (performance.now() - began));
  await product.settle();
  cost.push(((await product.cpu()) - before) / REFRESHES);
}
agent.destroy();
printTable([
  ['', 'refresh'],
  ['per second', spread(perSecond, 0)],
  ['CPU µs', spread(cost, 0)],
]);

interface Family {
  readonly clientId: string;
  token: string;
}

/** Clients of their own, as those of different people are. */
async function openFamilies({ httpsPort, dataDir }: MeasuredProduct): Promise<Family[]> {
  const ca = readFileSync(join(dataDir, 'ca.pem'));
  const person = new Person({ ca, httpsPort, adminToken: ADMINISTRATOR });
  const opened: Family[] = [];
  for (let i = 0; i < CLIENTS; i++) {
    const client = await person.client();
    const { refresh_token: token = '' } = await client.signIn();
    opened.push({ clientId: client.client.client_id, token });
  }
  return opened;
}

/** Each client one after the other, all clients at once. */
async function refreshAll(): Promise<void> {
  let left = REFRESHES;
  await Promise.all(
    families.map(async (family) => {
      while (left-- > 0) family.token = await refreshed(family);
    }),
  );
}

/** @throws Error for any answer but 200. */
async function refreshed({ clientId, token }: Family): Promise<string> {
  const body = new URLSearchParams({
    grant_type: 'refresh_token',
    refresh_token: token,
    client_id: clientId,
  }).toString();
  const answer = await new Promise<{ status: number; body: string }>((resolve, reject) => {
    const asked = request(
      {
        host: 'localhost',
        port: product.httpPort,
        path: '/oauth/token',
        method: 'POST',
        agent,
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        text(response).then((read) => resolve({ status: response.statusCode ?? 0, body: read }), reject);
      },
    );
    asked.on('error', reject);
    asked.end(body);
  });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body}`);
  return (JSON.parse(answer.body) as { refresh_token: string }).refresh_token;
}
