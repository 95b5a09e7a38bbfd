import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request, type RequestListener } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import { ManualClock, SECOND, systemClock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { LogRecord } from '../core/record.ts';
import { silentLog } from '../core/record.ts';
import { openBroker } from './broker.server.ts';
import { verbs } from './broker.verbs.ts';
import { createBrokerEngine } from './engine.broker.ts';
import { engineContract, refusedAs } from './engine.contract.ts';
import { createMemoryEngine } from './engine.memory.ts';
import type { ContainerEngine } from './engine.ts';
import { guard } from './guard.ts';
import { policySchema } from './policy.ts';

const IMAGE = 'contract/image:test';
const policy = policySchema.parse({ images: ['docker.io/contract/*'] });

interface Setting {
  group?: number;
  before?: (verb: string) => void;
  events?: (...given: Parameters<ContainerEngine['events']>) => ReturnType<ContainerEngine['events']>;
}

async function setUp(options: Setting = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-broker-'));
  const socket = join(folder, 'broker.sock');
  const records: LogRecord[] = [];
  const log = { enabled: () => true, write: (record: LogRecord) => void records.push(record) };
  const driver = createMemoryEngine({
    clock: systemClock,
    images: [IMAGE],
    registry: ['contract/pulled:1'],
    ...(options.before && { before: options.before }),
  });
  const { events } = options;
  const engine = {
    ...guard(driver, { policy, sockets: [], local: true }),
    ...(events && { events }),
  };
  const broker = await openBroker({ engine, socket, group: options.group, clock: systemClock, log });
  return {
    driver,
    socket,
    records,
    engine: createBrokerEngine({ socket, clock: systemClock, log: silentLog }),
    async close() {
      await broker[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function started(t: TestContext, options: Setting = {}) {
  const parts = await setUp(options);
  t.after(() => parts.close());
  return parts;
}

interface Raw {
  path: string;
  body?: string | Buffer;
  method?: string;
  type?: string;
}

async function raw(socket: string, { path, body = '[]', method = 'POST', type = 'application/json' }: Raw) {
  const asking = request({
    socketPath: socket,
    path,
    method,
    agent: false,
    headers: { 'content-type': type },
  });
  asking.on('error', () => undefined);
  asking.end(body);
  const [response] = await once(asking, 'response');
  return { status: response.statusCode as number, text: await text(response) };
}

const shared = setUp();
test.after(async () => (await shared).close());
engineContract('engine.broker before the fake', async () => {
  const { engine, driver } = await shared;
  return {
    engine,
    image: IMAGE,
    pullable: 'contract/pulled:1',
    networks: true,
    addForeign: async (name) => void driver.addForeign({ name, image: IMAGE, labels: { secret: 'canary' } }),
  };
});

test('what is no verb, no POST, no JSON or too large is refused, and nothing is done', async (t) => {
  const { socket, driver } = await started(t);
  const spec = JSON.stringify([{ name: 'web', image: IMAGE }]);
  const asked: [Raw, number, RegExp][] = [
    [{ path: '/v1/exec' }, 404, /NOT_FOUND/],
    [{ path: '/containers/json' }, 404, /NOT_FOUND/],
    [{ path: '/v1/constructor' }, 404, /NOT_FOUND/],
    [{ path: '/v1/__proto__' }, 404, /NOT_FOUND/],
    [{ path: '/v1/create/../create', body: spec }, 404, /NOT_FOUND/],
    [{ path: '/v1/create?x=1', body: spec }, 404, /NOT_FOUND/],
    [{ path: '/v1/create', method: 'PUT', body: spec }, 400, /POST only/],
    [{ path: '/v1/create', type: 'text/plain', body: spec }, 400, /application\/json/],
    [{ path: '/v1/create', body: '{' }, 400, /no JSON/],
    [{ path: '/v1/create', body: Buffer.from([0x22, 0xff, 0x22]) }, 400, /no JSON/],
    [{ path: '/v1/create', body: '{}' }, 400, /INVALID_INPUT/],
    [{ path: '/v1/create', body: `[${spec.slice(1, -1)},{}]` }, 400, /INVALID_INPUT/],
    [{ path: '/v1/remove', body: '["../../x",{}]' }, 400, /letters, digits/],
    [{ path: '/v1/list', body: '[{"all":true,"filters":{}}]' }, 400, /filters/],
    [{ path: '/v1/create', body: `["${'x'.repeat(2 * 1024 * 1024)}"]` }, 413, /1048576 bytes/],
  ];
  for (const [given, status, words] of asked) {
    const answer = await raw(socket, given);
    assert.equal(answer.status, status, JSON.stringify([given.path, answer]));
    assert.match(answer.text, words);
  }
  assert.deepEqual(await driver.list({ all: true }), []);
});

test('every member that the schema does not know is refused, in Docker\u2019s words too', async (t) => {
  const { socket, driver } = await started(t);
  const members = [
    'HostConfig',
    'Binds',
    'Privileged',
    'privileged',
    'devices',
    'pidMode',
    'network_mode',
    '__proto__',
    'constructor',
    'securityOpt',
    'capAdd',
    'sysctls',
    'links',
    'volumesFrom',
    'runtime',
  ];
  for (const member of members) {
    const body = `[{"name":"web","image":"${IMAGE}",${JSON.stringify(member)}:{"Privileged":true}}]`;
    const { status, text: found } = await raw(socket, { path: '/v1/create', body });
    assert.equal(status, 400, `${member}: ${found}`);
    const nested = `[{"name":"web","image":"${IMAGE}","restart":{"policy":"no",${JSON.stringify(member)}:1}}]`;
    assert.equal((await raw(socket, { path: '/v1/create', body: nested })).status, 400, member);
  }
  assert.deepEqual(await driver.list({ all: true }), []);
});

test('property: whatever JSON is sent to any verb, the broker answers in its own words and goes on', async (t) => {
  const { socket, engine } = await started(t);
  const body = fc.oneof(
    fc.json(),
    fc.array(fc.jsonValue(), { maxLength: 3 }).map((value) => JSON.stringify(value)),
  );
  const unary = Object.entries(verbs).flatMap(([name, verb]) => ('isStream' in verb ? [] : [name]));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...unary), body, async (name, given) => {
      const { status, text: found } = await raw(socket, { path: `/v1/${name}`, body: given });
      assert.ok([200, 400, 403, 404, 409].includes(status), `${name} ${given}: ${status} ${found}`);
      assert.equal(typeof JSON.parse(found), 'object');
    }),
    { numRuns: 300 },
  );
  assert.ok((await engine.ping()).connected);
});

test('faults come over with code, words and details; of our own faults nothing is told', async (t) => {
  const { engine } = await started(t, {
    before(verb) {
      if (verb === 'stats') throw new AppError('UPSTREAM_FAILED', 'bad \u001b[31m news');
      if (verb === 'listVolumes') throw new Error('canary of the inside');
      if (verb === 'pullImage') throw new AppError('NOT_FOUND', 'not in the registry', { isQuoting: true });
    },
  });
  const { id } = await engine.create({ name: 'web', image: IMAGE, command: ['sleep'] });
  await engine.start(id);
  await assert.rejects(engine.stats(id), refusedAs('UPSTREAM_FAILED', /bad \ufffd\[31m news/));
  await assert.rejects(engine.listVolumes(), (error: unknown) => {
    assert.ok(refusedAs('INTERNAL')(error));
    return !/canary/.test((error as Error).message);
  });
  const pull = engine.pullImage('contract/pulled:1')[Symbol.asyncIterator]();
  await assert.rejects(pull.next(), (error: AppError) => {
    assert.ok(refusedAs('NOT_FOUND', /not in the registry/)(error));
    return error.isQuoting;
  });
});

test('who leaves a stream ends it at the engine too', async (t) => {
  const ended = Promise.withResolvers<void>();
  const { engine } = await started(t, {
    async *events({ signal } = {}) {
      yield { time: 1, kind: 'container', action: 'start', containerId: 'x' };
      await once(signal ?? new AbortController().signal, 'abort');
      ended.resolve();
    },
  });
  for await (const { action } of engine.events()) {
    assert.equal(action, 'start');
    break;
  }
  await ended.promise;
});

test('who follows logs takes no room from the events', async (t) => {
  const { engine } = await started(t);
  const { id } = await engine.create({ name: 'web', image: IMAGE, command: ['echo here; sleep'] });
  await engine.start(id);
  const stop = new AbortController();
  const follow = () => engine.logs(id, { follow: true, signal: stop.signal })[Symbol.asyncIterator]();
  const followed = Array.from({ length: 64 }, follow);
  for (const logs of followed) assert.equal((await logs.next()).done, false);
  await assert.rejects(follow().next(), refusedAs('RATE_LIMITED', /64 streams/));
  const event = engine.events({ since: 0, signal: stop.signal })[Symbol.asyncIterator]().next();
  await engine.restart(id);
  assert.equal((await event).done, false);
  stop.abort();
});

test('changes are told with their target and outcome, reads are not', async (t) => {
  const { engine, records } = await started(t);
  await engine.create({ name: 'web', image: IMAGE, environment: { TOKEN: 'canary' } });
  await engine.list({ all: true });
  await assert.rejects(engine.create({ name: 'web', image: 'evil/image' }), refusedAs('INVALID_INPUT'));
  const told = records.map(({ message, level }) => `${level} ${message}`);
  assert.deepEqual(told, ['info create web: OK', 'warn create web: INVALID_INPUT']);
});

test('the socket is for its owner, or for a group that is named; what a broker left behind is replaced', async (t) => {
  const alone = await started(t);
  assert.equal(statSync(alone.socket).mode & 0o777, 0o600);
  const grouped = await started(t, { group: process.getgid?.() ?? 0 });
  assert.equal(statSync(grouped.socket).mode & 0o777, 0o660);
  const parts = { engine: alone.engine, clock: systemClock, log: silentLog };
  await assert.rejects(
    openBroker({ ...parts, socket: alone.socket }),
    refusedAs('CONFLICT', /another broker/),
  );
  const folder = mkdtempSync(join(tmpdir(), 'ohp-left-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'file');
  writeFileSync(file, 'precious');
  await assert.rejects(openBroker({ ...parts, socket: file }), refusedAs('PRECONDITION_FAILED', /no socket/));
  assert.ok(existsSync(file));
});

async function fakeBroker(t: TestContext, listener: RequestListener) {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-fake-'));
  const socket = join(folder, 'broker.sock');
  const clock = new ManualClock();
  const server = createServer(listener).listen(socket);
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { engine: createBrokerEngine({ socket, clock, log: silentLog }), clock, socket };
}

test('a broker that answers something else, or breaks off, is told so', async (t) => {
  const answers: [string, number][] = [
    ['<html>', 200],
    ['{}', 200],
    ['{"answer":{"connected":"yes"}}', 200],
    ['{"code":"NO_SUCH_CODE","message":"x"}', 500],
    ['oops', 500],
  ];
  for (const [body, status] of answers) {
    const { engine } = await fakeBroker(t, (_request, response) => response.writeHead(status).end(body));
    await assert.rejects(engine.ping(), refusedAs('UPSTREAM_FAILED', /one version/), body);
  }
  const { engine } = await fakeBroker(t, (_request, response) => response.end('{"answer":1}\n'));
  await assert.rejects(engine.events()[Symbol.asyncIterator]().next(), refusedAs('UPSTREAM_FAILED'));
  const cut = await fakeBroker(t, (_request, response) => response.end());
  await assert.rejects(
    cut.engine.events()[Symbol.asyncIterator]().next(),
    refusedAs('UNAVAILABLE', /middle/),
  );
});

test('without a broker nothing is connected, and the reason says how to start one', async (t) => {
  const away = createBrokerEngine({ socket: '/no/such/broker.sock', clock: systemClock, log: silentLog });
  const state = await away.ping();
  assert.ok(!state.connected);
  assert.match(state.reason, /\/no\/such\/broker\.sock.*ohp broker.*broker\.group/);
  await assert.rejects(away.list({ all: true }), refusedAs('UNAVAILABLE', /ohp broker/));
  const folder = mkdtempSync(join(tmpdir(), 'ohp-dead-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const socket = join(folder, 'dead.sock');
  // A socket file behind which nobody listens.
  const server = createSocketServer().listen(socket);
  await once(server, 'listening');
  chmodSync(socket, 0o600);
  const link = join(folder, 'left');
  writeFileSync(link, '');
  server.close();
  const dead = createBrokerEngine({ socket: link, clock: systemClock, log: silentLog });
  await assert.rejects(dead.ping(), refusedAs('UNAVAILABLE', /is ohp broker running/));
});

test('a broker that says nothing is UNAVAILABLE when the time is up', async (t) => {
  const asked = Promise.withResolvers<void>();
  const { engine, clock } = await fakeBroker(t, () => asked.resolve());
  const pending = assert.rejects(engine.list({ all: true }), refusedAs('UNAVAILABLE', /within 40000 ms/));
  await asked.promise;
  clock.advance(40 * SECOND);
  await pending;
});
