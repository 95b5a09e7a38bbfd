/** What the driver makes of answers that no real engine gives on demand. Real ones: test/engines/. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { ManualClock, SECOND } from '../core/clock.ts';
import { silentLog } from '../core/record.ts';
import { refusedAs } from './engine.contract.ts';
import { createDockerDriver } from './engine.docker.ts';
import { policySchema } from './policy.ts';
import { createRegistryAuth } from './registry-auth.ts';

const container = {
  Id: 'f'.repeat(64),
  Names: ['/web', '/other/web'],
  Image: 'example/web:1',
  Command: 'web --password=canary',
  Created: 1_767_225_600,
  Labels: { token: 'canary' },
  State: 'running',
  Status: 'Up 2 hours',
  Ports: [
    { IP: '127.0.0.1', PrivatePort: 8080, PublicPort: 18081, Type: 'tcp' },
    { PrivatePort: 9090, Type: 'udp' },
  ],
};

const json =
  (value: unknown, status = 200): RequestListener =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  };

/** Something that answers at the socket as the test wants it. */
async function setUp(t: TestContext, listener: RequestListener) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-engine-'));
  const socket = join(folder, 'engine.sock');
  const clock = new ManualClock();
  const server: Server = createServer(listener).listen(socket);
  await once(server, 'listening');
  t.after(async () => {
    if (server.listening) await close(server);
    rmSync(folder, { recursive: true, force: true });
  });
  return { engine: createDockerDriver({ target: { socket }, clock, log: silentLog }), clock, socket, server };
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

test('names, ports and times come over, and nothing else', async (t) => {
  const { engine } = await setUp(t, json([container]));
  const found = await engine.list({ all: true });
  assert.deepEqual(found, [
    {
      id: 'f'.repeat(64),
      names: ['web', 'other/web'],
      image: 'example/web:1',
      state: 'running',
      status: 'Up 2 hours',
      imageId: '',
      createdAt: Date.UTC(2026, 0, 1),
      labels: { token: 'canary' },
      ports: [
        { containerPort: 8080, protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 18_081 },
        { containerPort: 9090, protocol: 'udp', hostAddress: undefined, hostPort: undefined },
      ],
    },
  ]);
});

test('a container without names or ports is listed all the same', async (t) => {
  const { engine } = await setUp(t, json([{ ...container, Names: null, Ports: null }]));
  assert.partialDeepStrictEqual(await engine.list({ all: true }), [{ names: [], ports: [] }]);
});

test('without a socket nothing is connected, and the reason says how to connect an engine', async () => {
  const engine = createDockerDriver({
    target: { socket: '/no/such/docker.sock' },
    clock: new ManualClock(),
    log: silentLog,
  });
  const state = await engine.ping();
  assert.ok(!state.connected);
  assert.match(state.reason, /no \/no\/such\/docker\.sock; set OHP_DOCKER_SOCKET .* read and write it/);
  await assert.rejects(
    engine.list({ all: true }),
    refusedAs('UNAVAILABLE', /no container engine is connected.*OHP_DOCKER_SOCKET/),
  );
});

test('a socket behind which nobody listens is UNAVAILABLE', async (t) => {
  const { engine, socket, server } = await setUp(t, json([]));
  await close(server);
  writeFileSync(socket, ''); // As a killed engine leaves it: the file is there, nobody listens.
  await assert.rejects(engine.ping(), refusedAs('UNAVAILABLE', /does not answer; set OHP_DOCKER_SOCKET/));
});

test('an engine that does not answer in time, or stops in the middle, is UNAVAILABLE', async (t) => {
  for (const beginning of ['', '[{"Id":']) {
    const asked = Promise.withResolvers<void>();
    const { engine, clock } = await setUp(t, (_request, response) => {
      if (beginning !== '') response.writeHead(200).write(beginning);
      asked.resolve();
    });
    const pending = assert.rejects(
      engine.list({ all: true }),
      refusedAs('UNAVAILABLE', /did not answer within 15000 ms/),
    );
    await asked.promise;
    await new Promise(setImmediate);
    clock.advance(15 * SECOND);
    await pending;
  }
});

test('an answer that breaks off is UNAVAILABLE at the latest when the time is up', async (t) => {
  const broken = Promise.withResolvers<void>();
  const { engine, clock } = await setUp(t, (_request, response) => {
    response.once('close', () => broken.resolve());
    response.writeHead(200, { 'content-length': 100 }).write('[', () => response.destroy());
  });
  const pending = assert.rejects(engine.list({ all: true }), refusedAs('UNAVAILABLE', /./));
  await broken.promise;
  await new Promise(setImmediate);
  clock.advance(15 * SECOND);
  await pending;
});

test('an answer that is not understood, or an error, is UPSTREAM_FAILED with cleaned words', async (t) => {
  const answers: [RequestListener, RegExp][] = [
    [json({ not: 'a list' }), /does not know/],
    [json([{ Id: 1 }]), /does not know/],
    [(_request, response) => void response.end('<html>'), /does not know/],
    [(_request, response) => void response.end(''), /does not know/],
    [json({ message: 'bad \u001b[31m' }, 500), /refused: .*bad \ufffd\[31m/],
    [json({ message: 'gone' }, 404), /refused: .*gone/],
  ];
  for (const [listener, message] of answers) {
    const { engine } = await setUp(t, listener);
    await assert.rejects(engine.list({ all: true }), refusedAs('UPSTREAM_FAILED', message));
  }
});

test('only the configured socket is asked, whatever DOCKER_HOST says', async (t) => {
  const before = process.env.DOCKER_HOST;
  t.after(() => {
    if (before === undefined) delete process.env.DOCKER_HOST;
    else process.env.DOCKER_HOST = before;
  });
  for (const host of [
    'tcp://127.0.0.1:1',
    'https://127.0.0.1:2376',
    'ssh://root@127.0.0.1',
    'unix:///no/such',
  ]) {
    process.env.DOCKER_HOST = host;
    const { engine } = await setUp(t, json([container]));
    assert.equal((await engine.list({ all: true })).length, 1, host);
  }
});

test('the engine is asked for a bounded number, in words that Docker and Podman know', async (t) => {
  const queries: unknown[] = [];
  const { engine } = await setUp(t, (request, response) => {
    queries.push(Object.fromEntries(new URL(request.url ?? '', 'http://engine').searchParams));
    response.end('[]');
  });
  await engine.list({ all: true });
  await engine.list({ all: false });
  assert.deepEqual(queries, [
    { all: 'true', limit: '5000' },
    { all: 'true', limit: '5000' },
  ]);
});

test('credentials of a registry go with images of that very registry and no other, and are read at each pull', async (t) => {
  const sent: (string | string[] | undefined)[] = [];
  const { socket, clock } = await setUp(t, (request, response) => {
    if (request.url?.includes('/images/create')) sent.push(request.headers['x-registry-auth']);
    json({ status: 'Pull complete', ApiVersion: '1.45', Version: '1' })(request, response);
  });
  const folder = mkdtempSync(join(tmpdir(), 'ohp-registry-auth-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'password');
  const { registries } = policySchema.parse({
    registries: { 'registry.example.com': { username: 'ann', password_file: file } },
  });
  const registryAuth = createRegistryAuth({ registries });
  const engine = createDockerDriver({ target: { socket }, registryAuth, clock, log: silentLog });
  const pull = async (reference: string) => {
    for await (const _ of engine.pullImage(reference, {}));
    return sent.at(-1);
  };
  const decoded = (header: unknown) => JSON.parse(Buffer.from(String(header), 'base64url').toString());
  for (const password of ['canary-one', 'canary-two']) {
    writeFileSync(file, `${password}\n`);
    assert.deepEqual(decoded(await pull('registry.example.com/team/app:1')), {
      username: 'ann',
      password,
      serveraddress: 'registry.example.com',
    });
  }
  for (const other of [
    'docker.io/library/registry.example.com:1',
    'registry.example.com.evil.test/team/app:1',
    'registry.example.com:5000/team/app:1',
    'evil.test/registry.example.com/app:1',
    'docker.io/constructor/x:1',
  ])
    assert.equal(await pull(other), undefined, other);
  rmSync(file);
  const pulls = sent.length;
  await assert.rejects(
    pull('registry.example.com/team/app:1'),
    refusedAs('PRECONDITION_FAILED', /registry\.example\.com .*password_file\) can't be read/),
  );
  assert.equal(sent.length, pulls, 'the engine was not asked');
});

test('a registry of the settings is written as images name it', () => {
  const entry = { username: 'ann', password_file: '/x' };
  for (const host of ['https://ghcr.io', 'ghcr.io/owner', 'GHCR.io', 'index.docker.io', 'ghcr', ''])
    assert.equal(policySchema.safeParse({ registries: { [host]: entry } }).success, false, host);
});
