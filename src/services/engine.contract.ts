/**
 * What every container engine has to do, with the policy in front of it. Run on Docker, on Podman, through the broker, and on
 * the fake that other tests use.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import test, { suite, type TestContext } from 'node:test';
import { eventually } from '../../test/support/eventually.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import type { ContainerEngine, ContainerSpec, EngineEvent } from './engine.ts';

export interface EngineUnderTest {
  engine: ContainerEngine;
  /** Here already, with a shell, `sleep` and `echo`; the policy allows it. */
  image: string;
  /** Of a registry; undefined when there is none in this run. */
  pullable: string | undefined;
  /** Makes a container with the engine's own words, which does not run: nothing of this system is in it. */
  addForeign: (name: string) => Promise<void>;
  /** Whether networks of one's own can be made where the engine runs. */
  networks: boolean;
  /** Its containers have to join a network, which is there; they are reached by ports alone, and have short ids. */
  swarm?: { network: string };
}

/** Prints out and err, then stays. Ends at once when it is asked to. */
export const SPEAKS = [
  '/bin/sh',
  '-c',
  "trap 'exit 0' TERM; echo out-1; echo err-1 >&2; echo out-2; while :; do sleep 1 & wait; done",
];
const ENDS = ['/bin/sh', '-c', 'echo bye; exit 3'];

export const refusedAs =
  (code: ErrorCode, message = /./) =>
  (error: unknown) =>
    error instanceof AppError && error.code === code && message.test(error.message);

export function engineContract(adapter: string, open: () => Promise<EngineUnderTest>): void {
  // Independent of each other, and an engine is waited for most of the time.
  suite(`${adapter} is a container engine`, { concurrency: 6 }, () => {
    pingContract(open);
    lifeContract(open);
    rollContract(open);
    logContract(open);
    ownershipContract(open);
    imageContract(open);
    thingContract(open);
    eventContract(open);
  });
}

type Open = () => Promise<EngineUnderTest>;

const fresh = (): string => `ohp-contract-${randomBytes(4).toString('hex')}`;

const joining = ({ swarm }: EngineUnderTest): Partial<ContainerSpec> =>
  swarm ? { networks: [swarm.network] } : {};

/** A container that is gone after the test. */
async function made(t: TestContext, under: EngineUnderTest, changes: Partial<ContainerSpec> = {}) {
  const { engine, image } = under;
  const name = fresh();
  const { id } = await engine.create({ name, image, command: SPEAKS, ...joining(under), ...changes });
  t.after(() => engine.remove(id, { force: true, volumes: true }).catch(ignoreMissing));
  return { name, id };
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof AppError && error.code === 'NOT_FOUND')) throw error;
}

const ended = ({ engine }: EngineUnderTest, id: string) =>
  eventually(async () => {
    const found = await engine.inspect(id);
    return found.running || found.state === 'created' ? undefined : found;
  }, 'the end of the container');

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

function pingContract(open: Open): void {
  test('a ping tells its version', async () => {
    const { engine } = await open();
    const state = await engine.ping();
    assert.ok(state.connected);
    assert.match(state.version, /^\d+\./);
  });
}

function lifeContract(open: Open): void {
  test('a container is made, listed, started, stopped, restarted and removed', async (t) => {
    const under = await open();
    const { engine, image } = under;
    const { name, id } = await made(t, under, { labels: { 'service.id': 'svc_1' } });
    assert.match(id, under.swarm ? /^[0-9a-z]{25}$/ : /^[0-9a-f]{64}$/);
    const listed = async (all: boolean) => (await engine.list({ all })).find((found) => found.id === id);
    const found = await listed(true);
    assert.partialDeepStrictEqual(found, {
      names: [name],
      state: 'created',
      ports: [],
      managed: true,
      changeable: true,
      labels: { 'service.id': 'svc_1' },
    });
    assert.ok(found!.image.endsWith(image), found!.image);
    assert.ok(found!.createdAt > Date.UTC(2020, 0, 1) && found!.createdAt % 1000 === 0);
    assert.equal(await listed(false), undefined, 'what does not run is listed only when all are asked for');
    await engine.start(name);
    await engine.start(name);
    assert.equal((await listed(false))?.state, 'running');
    assert.partialDeepStrictEqual(await engine.inspect(name), { id, running: true, state: 'running' });
    await assert.rejects(engine.remove(name), refusedAs('CONFLICT', /runs; stop it first/));
    await engine.stop(name, { timeoutMs: 5000 });
    await engine.stop(name, { timeoutMs: 5000 });
    const stopped = await engine.inspect(name);
    assert.equal(stopped.running, false);
    assert.ok(stopped.finishedAt !== undefined && stopped.startedAt !== undefined);
    await engine.restart(name, { timeoutMs: 5000 });
    assert.equal((await engine.inspect(name)).running, true);
    await engine.remove(name, { force: true });
    await assert.rejects(engine.inspect(name), refusedAs('NOT_FOUND', /no container/));
  });

  test('limits and hardening are those of the plan, and environment values never come back', async (t) => {
    const under = await open();
    const { id } = await made(t, under, {
      environment: { PASSWORD: 'canary-7d1e', EMPTY: '' },
      memoryBytes: 64 * 1024 * 1024,
      cpus: 0.5,
      pids: 50,
      readOnlyRoot: true,
      temporary: ['/scratch'],
      user: '1000:1000',
      restart: { policy: 'on-failure', maxRetries: 3 },
    });
    const found = await under.engine.inspect(id);
    assert.partialDeepStrictEqual(found, {
      memoryBytes: 64 * 1024 * 1024,
      cpus: 0.5,
      pids: 50,
      readOnlyRoot: true,
      user: '1000:1000',
      restart: 'on-failure',
    });
    assert.ok(found.mounts.some(({ kind, target }) => kind === 'temporary' && target === '/scratch'));
    assert.ok(found.environmentNames.includes('PASSWORD') && found.environmentNames.includes('EMPTY'));
    assert.doesNotMatch(JSON.stringify([found, await under.engine.list({ all: true })]), /canary/);
  });

  test('one that ends by itself says with what', async (t) => {
    const under = await open();
    const { id } = await made(t, under, { command: ENDS });
    await under.engine.start(id);
    assert.equal((await ended(under, id)).exitCode, 3);
    await assert.rejects(under.engine.stats(id), refusedAs('CONFLICT', /does not run/));
  });

  test('what a container uses is told while it runs', async (t) => {
    const under = await open();
    const { id } = await made(t, under);
    await under.engine.start(id);
    const stats = await under.engine.stats(id);
    assert.ok(stats.cpuPercent >= 0 && stats.memoryBytes >= 0 && stats.pids >= 0, JSON.stringify(stats));
  });

  test('a name that is taken, and an image that is not here, are told apart', async (t) => {
    const under = await open();
    const { engine, image } = under;
    const { name } = await made(t, under);
    await assert.rejects(engine.create({ name, image, ...joining(under) }), refusedAs('CONFLICT', /already/));
    await assert.rejects(
      engine.create({ name: fresh(), image: `${image.split(':')[0]}:nowhere`, ...joining(under) }),
      refusedAs('NOT_FOUND', /image/),
    );
  });

  test('what has to be of one image is made of that one only', async (t) => {
    const under = await open();
    const { engine, image } = under;
    const { imageId } = await engine.inspect((await made(t, under)).id);
    // A swarm does not tell it.
    if (imageId === '') return;
    await made(t, under, { imageId });
    const other = { name: fresh(), image, imageId: `sha256:${'0'.repeat(64)}` };
    await assert.rejects(engine.create(other), refusedAs('CONFLICT', /another image/));
    await assert.rejects(engine.inspect(other.name), refusedAs('NOT_FOUND'));
  });

  test('what is not there is NOT_FOUND for every verb', async () => {
    const { engine } = await open();
    const name = fresh();
    const asked = [
      () => engine.inspect(name),
      () => engine.start(name),
      () => engine.stop(name),
      () => engine.restart(name),
      () => engine.remove(name),
      () => engine.stats(name),
      () => collect(engine.logs(name)),
      () => engine.removeVolume(name),
      () => engine.removeNetwork(name),
    ];
    for (const one of asked) await assert.rejects(one(), refusedAs('NOT_FOUND'));
  });
}

function rollContract(open: Open): void {
  test('a swarm goes back to what was there before, as it was; an engine that is none says so', async (t) => {
    const under = await open();
    const { engine, image, swarm } = under;
    const [before, after] = [{ generation: '1' }, { generation: '2' }];
    const { id, name } = await made(t, under, { labels: before, environment: { FIRST: 'canary-first' } });
    const next = { name, image, command: SPEAKS, ...joining(under), labels: after };
    if (!swarm) {
      await assert.rejects(engine.roll(id, next), refusedAs('CONFLICT', /only a swarm/));
      await assert.rejects(engine.rollBack(id, before), refusedAs('CONFLICT', /only a swarm/));
      return;
    }
    const labelled = async () => {
      const { labels, environmentNames } = await engine.inspect(id);
      return [labels, environmentNames];
    };
    await engine.roll(id, { ...next, environment: { SECOND: 'canary-second' } });
    assert.deepEqual(await labelled(), [after, ['SECOND']]);
    assert.equal(await engine.rollBack(id, { generation: '0' }), false);
    assert.equal(await engine.rollBack(id, after), true, 'it is that already');
    assert.deepEqual(await labelled(), [after, ['SECOND']]);
    assert.equal(await engine.rollBack(id, before), true);
    assert.deepEqual(await labelled(), [before, ['FIRST']]);
    await assert.rejects(engine.rollBack('nobody', before), refusedAs('NOT_FOUND'));
  });
}

function logContract(open: Open): void {
  test('logs come by stream, from the end, and with their time', async (t) => {
    const under = await open();
    const { engine } = under;
    const { id } = await made(t, under);
    await engine.start(id);
    const all = await eventually(async () => {
      const lines = await collect(engine.logs(id));
      return lines.length === 3 ? lines : undefined;
    }, 'three lines');
    const texts = (lines: typeof all) => lines.map(({ stream, text }) => `${stream} ${text}`).sort();
    assert.deepEqual(texts(all), ['stderr err-1', 'stdout out-1', 'stdout out-2']);
    assert.ok(all.every(({ time }) => time !== undefined && time > Date.UTC(2020, 0, 1)));
    assert.deepEqual(texts(await collect(engine.logs(id, { stdout: false }))), ['stderr err-1']);
    assert.equal((await collect(engine.logs(id, { tail: 1 }))).length, 1);
    const later = Math.max(...all.map(({ time }) => time!)) + 60_000;
    assert.deepEqual(await collect(engine.logs(id, { since: later })), []);
  });

  test('logs are followed until the container ends, or until nobody wants them', async (t) => {
    const under = await open();
    const { engine } = under;
    const { id } = await made(t, under);
    await engine.start(id);
    const cancel = new AbortController();
    const seen: string[] = [];
    for await (const { text } of engine.logs(id, { follow: true, signal: cancel.signal })) {
      seen.push(text);
      if (seen.length === 3) cancel.abort();
    }
    assert.equal(seen.length, 3);
    const following = collect(engine.logs(id, { follow: true }));
    await engine.stop(id, { timeoutMs: 5000 });
    assert.ok((await following).length >= 3);
  });
}

function ownershipContract(open: Open): void {
  test('what was not made here can be looked at, without environment, command and labels, and not changed', async () => {
    const { engine, addForeign } = await open();
    const name = fresh();
    await addForeign(name);
    const [listed] = (await engine.list({ all: true })).filter(({ names }) => names.includes(name));
    const found = await engine.inspect(name);
    assert.doesNotMatch(JSON.stringify([listed, found]), /canary/);
    assert.partialDeepStrictEqual(listed, { managed: false, changeable: false, labels: {} });
    for (const change of [
      () => engine.start(name),
      () => engine.stop(name),
      () => engine.restart(name),
      () => engine.remove(name, { force: true }),
    ])
      await assert.rejects(change(), refusedAs('FORBIDDEN', /was not made here/));
    assert.equal((await engine.inspect(name)).state, 'created');
  });

  test('a specification that the policy does not allow is refused with all that is wrong in it', async () => {
    const { engine } = await open();
    const spec = {
      name: fresh(),
      image: 'registry.invalid/evil',
      memoryBytes: 2 ** 50,
      addCapabilities: ['SYS_ADMIN'],
      mounts: [{ kind: 'folder', source: '/etc', target: '/etc' }],
      networks: ['host'],
    } as const;
    await assert.rejects(engine.create(spec as never), (error: unknown) => {
      assert.ok(refusedAs('INVALID_INPUT', /policy of services/)(error));
      const { faults } = (error as AppError).details as { faults: { where: string }[] };
      assert.deepEqual(faults.map(({ where }) => where).sort(), [
        'addCapabilities[0]',
        'image',
        'memoryBytes',
        'mounts[0].source',
        'networks[0]',
      ]);
      return true;
    });
    await assert.rejects(
      engine.create({ ...spec, privileged: true } as never),
      refusedAs('INVALID_INPUT', /privileged/),
    );
  });
}

function imageContract(open: Open): void {
  test('images are listed and told of', async () => {
    const { engine, image } = await open();
    const found = await engine.inspectImage(image);
    assert.match(found.id, /^sha256:[0-9a-f]{64}$/);
    assert.ok((await engine.listImages()).some(({ id }) => id === found.id));
    await assert.rejects(engine.inspectImage('example/no-such-image:1'), refusedAs('NOT_FOUND', /image/));
  });

  test('an image is pulled layer by layer, and removed when nothing uses it', async (t) => {
    const under = await open();
    const { engine, pullable } = under;
    if (pullable === undefined) return t.skip('there is no registry in this run');
    const steps = await collect(engine.pullImage(pullable));
    assert.ok(
      steps.some(({ layer }) => layer !== undefined),
      JSON.stringify(steps),
    );
    const { id } = await engine.inspectImage(pullable);
    assert.match(id, /^sha256:/);
    const { id: container } = await engine.create({ name: fresh(), image: pullable, ...joining(under) });
    await assert.rejects(engine.removeImage(pullable), refusedAs('CONFLICT'));
    await engine.remove(container);
    await engine.removeImage(pullable);
    await assert.rejects(engine.inspectImage(pullable), refusedAs('NOT_FOUND'));
    await assert.rejects(
      collect(engine.pullImage(`${pullable.slice(0, pullable.lastIndexOf(':'))}:none`)),
      refusedAs('NOT_FOUND', /contract\/pulled:none/),
    );
  });

  test('an image that the policy does not allow is neither pulled nor removed', async () => {
    const { engine } = await open();
    await assert.rejects(
      collect(engine.pullImage('registry.invalid/evil')),
      refusedAs('INVALID_INPUT', /registry\.invalid\/evil:latest; allowed/),
    );
    await assert.rejects(engine.removeImage('registry.invalid/evil'), refusedAs('INVALID_INPUT'));
  });
}

function thingContract(open: Open): void {
  test('volumes are made once, mounted, and removed when nothing uses them', async (t) => {
    const under = await open();
    const { engine } = under;
    const volume = fresh();
    assert.partialDeepStrictEqual(await engine.createVolume({ name: volume, labels: { of: 'blog' } }), {
      name: volume,
      managed: true,
      labels: { of: 'blog' },
    });
    await assert.rejects(engine.createVolume({ name: volume }), refusedAs('CONFLICT', /already/));
    const { id } = await made(t, under, { mounts: [{ kind: 'volume', name: volume, target: '/data' }] });
    assert.partialDeepStrictEqual((await engine.inspect(id)).mounts, [
      { kind: 'volume', source: volume, target: '/data', readOnly: false },
    ]);
    await assert.rejects(engine.removeVolume(volume), refusedAs('CONFLICT'));
    await engine.remove(id, { force: true });
    assert.ok((await engine.listVolumes()).some(({ name }) => name === volume));
    await engine.removeVolume(volume);
    assert.ok(!(await engine.listVolumes()).some(({ name }) => name === volume));
    await assert.rejects(
      engine.create({
        name: fresh(),
        image: under.image,
        ...joining(under),
        mounts: [{ kind: 'volume', name: volume, target: '/data' }],
      }),
      refusedAs('INVALID_INPUT', /make it first/),
    );
  });

  test('networks are made, joined, told with addresses, and removed', async (t) => {
    const under = await open();
    const { engine } = under;
    if (!under.networks) return t.skip('networks can not be made where the engine runs');
    const network = fresh();
    const joinable = await engine.createNetwork({ name: network, labels: { of: 'blog' } });
    assert.partialDeepStrictEqual(joinable, { name: network, managed: true, labels: { of: 'blog' } });
    await assert.rejects(engine.createNetwork({ name: network }), refusedAs('CONFLICT', /already/));
    const { id } = await made(t, under, { networks: [network], aliases: ['blog'] });
    await engine.start(id);
    const [joined] = (await engine.inspect(id)).networks;
    assert.equal(joined?.name, network);
    if (under.swarm) assert.equal(joined.address, undefined);
    else assert.match(joined.address ?? '', /^\d+\.\d+\.\d+\.\d+$/);
    await engine.remove(id, { force: true });
    await engine.removeNetwork(network);
    assert.ok(!(await engine.listNetworks()).some(({ name }) => name === network));
  });
}

function eventContract(open: Open): void {
  test('events are told from a moment on, as they happen, until nobody wants them', async (t) => {
    const under = await open();
    const { engine } = under;
    const began = Date.now();
    const cancel = new AbortController();
    const { id } = await made(t, under, { command: ENDS });
    const seen: EngineEvent[] = [];
    const followed = (async () => {
      for await (const event of engine.events({ since: began - 1000, signal: cancel.signal })) {
        if (event.containerId === id) seen.push(event);
        if (seen.some(({ action }) => action === 'die')) cancel.abort();
      }
    })();
    await engine.start(id);
    await followed;
    const actions = seen.filter(({ kind }) => kind === 'container').map(({ action }) => action);
    const known = actions.filter((action) => ['create', 'start', 'die'].includes(action));
    assert.deepEqual(known, ['create', 'start', 'die']);
    assert.ok(seen.every(({ time }) => time >= began - 1000));
  });
}
