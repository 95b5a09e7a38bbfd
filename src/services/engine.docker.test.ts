import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import test, { after, before, suite, type TestContext } from 'node:test';
import Docker from 'dockerode';
import { ManualClock, SECOND, systemClock } from '../core/clock.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { silentLog } from '../core/record.ts';
import { engineContract } from './engine.contract.ts';
import { createDockerEngine } from './engine.docker.ts';

const DOCKERD = '/usr/sbin/dockerd';
const START_LIMIT_MS = 60 * SECOND;
const POLL_MS = 100;

const skip = reasonToSkip();
if (skip) test('a real Docker Engine', { skip }, () => {});
else suite('a real Docker Engine', { timeout: 2 * START_LIMIT_MS }, withRealEngine);

function reasonToSkip(): string | false {
  if (!existsSync(DOCKERD)) return `${DOCKERD} is not installed`;
  return process.getuid?.() === 0 ? false : 'starting an engine needs root';
}

/** An engine of its own in a temporary folder, without network. */
function withRealEngine(): void {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-docker-'));
  const socket = join(folder, 'docker.sock');
  const client = new Docker({ socketPath: socket });
  let daemon: ChildProcess | undefined;

  before(async () => {
    daemon = startDaemon(folder, socket);
    await untilAnswers(client, daemon);
    // An archive of nothing is enough of an image for containers that never start.
    const image = await client.importImage(Readable.from([Buffer.alloc(1024)]) as never, {
      repo: 'contract/image',
      tag: 'test',
    });
    await text(image);
  });
  after(async () => {
    if (daemon && daemon.exitCode === null && daemon.signalCode === null) {
      daemon.kill('SIGTERM');
      await once(daemon, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });

  engineContract('engine.docker', async () => ({
    engine: createDockerEngine({ socket, clock: systemClock, log: silentLog }),
    async create({ name, image, secret }) {
      await client.createContainer({
        name,
        Image: image,
        Labels: { secret },
        Env: [`SECRET=${secret}`],
        Cmd: ['/none', secret],
        HostConfig: { NetworkMode: 'none' },
      });
    },
  }));
}

function startDaemon(folder: string, socket: string): ChildProcess {
  const args = [
    ['--data-root', join(folder, 'data')],
    ['--exec-root', join(folder, 'exec')],
    ['--pidfile', join(folder, 'docker.pid')],
    ['-H', `unix://${socket}`],
    ['--storage-driver', 'vfs', '--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-masq=false'],
  ];
  return spawn(DOCKERD, args.flat(), { stdio: 'ignore' });
}

async function untilAnswers(client: Docker, daemon: ChildProcess): Promise<void> {
  for (let waited = 0; waited < START_LIMIT_MS; waited += POLL_MS) {
    assert.equal(daemon.exitCode, null, 'dockerd ended before it answered');
    const answers = await client.ping().then(
      () => true,
      () => false,
    );
    if (answers) return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  assert.fail('dockerd did not answer');
}

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
  return { engine: createDockerEngine({ socket, clock, log: silentLog }), clock, socket, server };
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

const refusedAs = (code: ErrorCode, message: RegExp) => (error: unknown) =>
  error instanceof AppError && error.code === code && message.test(error.message);

test('names, ports and times come over, and nothing else', async (t) => {
  const { engine } = await setUp(t, json([container]));
  const found = await engine.listContainers({ all: true });
  assert.deepEqual(found, [
    {
      id: 'f'.repeat(64),
      names: ['web', 'other/web'],
      image: 'example/web:1',
      state: 'running',
      status: 'Up 2 hours',
      createdAt: Date.UTC(2026, 0, 1),
      ports: [
        { containerPort: 8080, protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 18_081 },
        { containerPort: 9090, protocol: 'udp', hostAddress: undefined, hostPort: undefined },
      ],
    },
  ]);
});

test('a container without names or ports is listed all the same', async (t) => {
  const { engine } = await setUp(t, json([{ ...container, Names: null, Ports: null }]));
  assert.partialDeepStrictEqual(await engine.listContainers({ all: true }), [{ names: [], ports: [] }]);
});

test('without a socket nothing is connected, and the reason says how to connect an engine', async () => {
  const engine = createDockerEngine({
    socket: '/no/such/docker.sock',
    clock: new ManualClock(),
    log: silentLog,
  });
  const state = await engine.ping();
  assert.ok(!state.connected);
  assert.match(state.reason, /no \/no\/such\/docker\.sock; set OHP_DOCKER_SOCKET .* read and write it/);
  await assert.rejects(
    engine.listContainers({ all: true }),
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
      engine.listContainers({ all: true }),
      refusedAs('UNAVAILABLE', /did not answer within 5000 ms/),
    );
    await asked.promise;
    await new Promise(setImmediate);
    clock.advance(5 * SECOND);
    await pending;
  }
});

test('an answer that breaks off is UNAVAILABLE at the latest when the time is up', async (t) => {
  const broken = Promise.withResolvers<void>();
  const { engine, clock } = await setUp(t, (_request, response) => {
    response.once('close', () => broken.resolve());
    response.writeHead(200, { 'content-length': 100 }).write('[', () => response.destroy());
  });
  const pending = assert.rejects(engine.listContainers({ all: true }), refusedAs('UNAVAILABLE', /./));
  await broken.promise;
  await new Promise(setImmediate);
  clock.advance(5 * SECOND);
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
    await assert.rejects(engine.listContainers({ all: true }), refusedAs('UPSTREAM_FAILED', message));
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
    assert.equal((await engine.listContainers({ all: true })).length, 1, host);
  }
});

test('the engine is asked for a bounded number, of all or of those that run', async (t) => {
  const queries: unknown[] = [];
  const { engine } = await setUp(t, (request, response) => {
    queries.push(Object.fromEntries(new URL(request.url ?? '', 'http://engine').searchParams));
    response.end('[]');
  });
  await engine.listContainers({ all: true });
  await engine.listContainers({ all: false });
  assert.deepEqual(queries, [
    { all: 'true', limit: '5000' },
    { all: 'true', limit: '5000', filters: '{"status":["running","paused","restarting"]}' },
  ]);
});
