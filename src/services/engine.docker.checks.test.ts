/** Health checks that nobody else runs, as an engine answers. A real Podman: test/engines/podman.test.ts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { createDockerDriver } from './engine.docker.ts';

const NS_PER_SECOND = 1_000_000_000;

/** A container with a check every 10 s; one that is run finds it healthy. */
async function setUp(
  t: TestContext,
  { name = 'Podman Engine', labels = { 'ohp.managed': 'ohp' } as object } = {},
) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-checks-'));
  const socket = join(folder, 'engine.sock');
  const clock = new ManualClock();
  const began = clock.now();
  let checks = 0;
  let health: object = { Status: 'starting', Log: null };
  const server = createServer(({ url = '' }, response) => {
    if (url.includes('/libpod/containers/web/healthcheck')) {
      checks++;
      health = { Status: 'healthy', Log: [{ Output: 'fine', End: new Date(clock.now()).toISOString() }] };
    }
    const details = {
      Id: 'web',
      Name: '/web',
      Created: null,
      Image: `sha256:${'a'.repeat(64)}`,
      RestartCount: 0,
      State: { Status: 'running', Running: true, StartedAt: new Date(began).toISOString(), Health: health },
      Config: { Image: 'web:1', Labels: labels, Healthcheck: { Interval: 10 * NS_PER_SECOND } },
      HostConfig: {},
      NetworkSettings: {},
    };
    const answer = url.includes('/version') ? { Version: '4', Components: [{ Name: name }] } : details;
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  }).listen(socket);
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    rmSync(folder, { recursive: true, force: true });
  });
  const driver = createDockerDriver({ target: { socket }, clock, log: silentLog });
  return { clock, look: async () => [(await driver.inspect('web')).health, checks] };
}

test('a check that is late is run by who looks, and what it finds is told', async (t) => {
  const { clock, look } = await setUp(t);
  clock.advance(11 * SECOND);
  assert.deepEqual(await look(), ['starting', 0], 'a timer may still come');
  clock.advance(1);
  assert.deepEqual(await look(), ['healthy', 1]);
  clock.advance(11 * SECOND);
  assert.deepEqual(await look(), ['healthy', 1], 'the next is not due');
  clock.advance(1);
  assert.deepEqual(await look(), ['healthy', 2]);
});

test('no check is run at an engine that runs its own, nor of what others made', async (t) => {
  for (const other of [{ name: 'Engine' }, { labels: {} }]) {
    const { clock, look } = await setUp(t, other);
    clock.advance(60 * SECOND);
    assert.deepEqual(await look(), ['starting', 0]);
  }
});
