/** What the driver tells a swarm that a real one does not tell again. Real ones: test/engines/swarm.test.ts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { containerSpecSchema } from './engine.schema.ts';
import { createSwarmDriver } from './engine.swarm.ts';
import { decide, policySchema } from './policy.ts';
import { createRegistryAuth } from './registry-auth.ts';

const HOST = 'registry.example.com';
const NO_CREDENTIALS = {};

const service = {
  ID: 'service',
  Version: { Index: 1 },
  Spec: {
    Labels: {},
    TaskTemplate: { ContainerSpec: { Labels: {} } },
    Mode: { Replicated: { Replicas: 1 } },
  },
};

const answerTo = (url: string): object => {
  if (url.includes('/version') || url.includes('/info'))
    return { ApiVersion: '1.45', Version: '1', ServerVersion: '1', Swarm: { NodeID: 'node' } };
  if (url.includes('/images/')) return { Id: `sha256:${'a'.repeat(64)}`, Size: 1, Created: null };
  if (url.endsWith('/services/service')) return service;
  return url.endsWith('/create') ? { ID: 'made' } : [];
};

async function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-swarm-'));
  const [socket, file] = [join(folder, 'engine.sock'), join(folder, 'password')];
  const sent: { url: string; auth: unknown }[] = [];
  const listener: RequestListener = (request, response) => {
    const { url = '', method, headers } = request;
    const header = headers['x-registry-auth'];
    const auth =
      typeof header === 'string' ? JSON.parse(Buffer.from(header, 'base64url').toString()) : undefined;
    if (method === 'POST') sent.push({ url, auth });
    request.resume();
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify(answerTo(url.split('?')[0] ?? '')));
  };
  const server = createServer(listener).listen(socket);
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    rmSync(folder, { recursive: true, force: true });
  });
  writeFileSync(file, 'canary-password\n');
  const policy = policySchema.parse({
    orchestrator: 'swarm',
    nodes_hardened: true,
    images: [`${HOST}/**`, 'other.example.com/**'],
    registries: { [HOST]: { username: 'ann', password_file: file } },
  });
  const driver = createSwarmDriver({
    target: { socket },
    registryAuth: createRegistryAuth(policy),
    installation: policy.installation,
    clock: new ManualClock(),
    log: silentLog,
  });
  const planOf = (image: string) => {
    const spec = containerSpecSchema.parse({ name: 'blog.1', image, networks: ['ohp-net'] });
    const decision = decide(policy, spec, {
      folders: [],
      volumes: new Set(),
      networks: new Set(['ohp-net']),
    });
    assert.ok('plan' in decision, JSON.stringify(decision));
    return decision.plan;
  };
  return { driver, planOf, sent };
}

test('nodes get the credentials of the registry that the image is of, and of no other, also when the version before had some', async (t) => {
  const { driver, planOf, sent } = await setUp(t);
  const credentials = { username: 'ann', password: 'canary-password', serveraddress: HOST };
  for (const [image, auth] of [
    [`${HOST}/team/app:1`, credentials],
    ['other.example.com/team/app:1', NO_CREDENTIALS],
  ] as const) {
    sent.length = 0;
    await driver.create(planOf(image));
    await driver.roll?.('service', planOf(image));
    assert.deepEqual(
      sent.map((one) => [one.url.replace(/^\/v[\d.]+|\?.*/g, ''), one.auth]),
      [
        ['/services/create', auth],
        ['/services/service/update', auth],
      ],
    );
  }
});
