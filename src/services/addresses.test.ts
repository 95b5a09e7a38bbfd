import assert from 'node:assert/strict';
import test from 'node:test';
import { ManualClock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { LogRecord } from '../core/record.ts';
import type { Stay } from '../proxies/target-url.ts';
import { eventually } from '../../test/support/eventually.ts';
import { addressLimits, ServiceAddresses } from './addresses.ts';
import { STEADY_MS } from './follow-events.ts';
import type { ContainerSpec } from './engine.ts';
import { createMemoryEngine } from './engine.memory.ts';
import { guard } from './guard.ts';
import { policySchema } from './policy.ts';
import { addressOf, type Led } from './whereabouts.ts';

const IMAGE = 'contract/image:test';
const target = { name: 'blog', port: 8080 };

/** An engine in memory whose stream of events can be cut, and that can be away. */
async function setUp(t: test.TestContext, options: { machine?: string } = {}) {
  const clock = new ManualClock();
  const world = { isAway: false, isDeaf: false, cut: () => {}, calls: [] as string[], streams: 0, opened: 0 };
  const records: LogRecord[] = [];
  const log = { enabled: () => true, write: (record: LogRecord) => void records.push(record) };
  const held = { inspect: Promise.resolve() };
  const driver = createMemoryEngine({
    clock,
    images: [IMAGE],
    async before(verb) {
      world.calls.push(verb);
      if (world.isAway) throw new AppError('UNAVAILABLE', 'it is away');
    },
  });
  const guarded = guard(driver, {
    policy: policySchema.parse({ images: ['docker.io/contract/*'] }),
    sockets: [],
    local: true,
  });
  const engine = {
    ...guarded,
    async inspect(ref: string) {
      const found = await guarded.inspect(ref);
      await held.inspect;
      return found;
    },
    async *events({ since, signal }: { since?: number; signal?: AbortSignal } = {}) {
      world.opened++;
      if (world.isDeaf) throw new AppError('RATE_LIMITED', 'there are 64 streams already');
      const cut = new AbortController();
      world.cut = () => cut.abort();
      world.streams++;
      try {
        yield* guarded.events({ since, signal: AbortSignal.any([cut.signal, ...(signal ? [signal] : [])]) });
      } finally {
        world.streams--;
      }
      if (cut.signal.aborted) throw new AppError('UNAVAILABLE', 'its events were cut');
    },
  };
  const kept = new Map<string, Led>();
  const find = async (name: string) => kept.get(name);
  const addresses = new ServiceAddresses({ engine, find, clock, log, ...options });
  t.after(() => addresses[Symbol.asyncDispose]());
  const run = async (
    name: string,
    { generation = 1, ...spec }: Partial<ContainerSpec> & { generation?: number } = {},
  ) => {
    kept.set(name, { id: `svc_${name}`, generation });
    const labels = { service: `svc_${name}`, generation: String(generation) };
    const made = await engine.create({
      name: `${name}.${generation}`,
      image: IMAGE,
      command: ['sleep', '9'],
      networks: ['own'],
      labels,
      ...spec,
    });
    await engine.start(made.id);
    return made.id;
  };
  await engine.createNetwork({ name: 'own', labels: {} });
  const place = () => addresses.placeOf(target);
  const arrives = (other?: Stay) =>
    eventually(async () => (place().stay !== other ? place().stay : undefined), 'another stay');
  return { addresses, clock, world, held, engine, driver, kept, run, place, arrives, records };
}

test('no engine is asked while nothing leads to a container', async (t) => {
  const { addresses, world, kept } = await setUp(t);
  world.calls.length = 0;
  addresses.follow([]);
  await addresses.settled();
  kept.set('api', { url: 'https://api.example.com/v1' });
  addresses.follow([{ name: 'api', port: undefined }]);
  await addresses.settled();
  assert.equal(addresses.placeOf({ name: 'api', port: undefined }).stay?.url, 'https://api.example.com/v1');
  assert.deepEqual(world.calls, []);
});

test('a container is found at its address, and followed by its events when it moves', async (t) => {
  const { addresses, engine, run, place, arrives } = await setUp(t);
  const id = await run('blog');
  addresses.follow([target]);
  await addresses.settled();
  const first = place().stay;
  assert.match(first?.url ?? '', /^http:\/\/10\.88\.0\.\d+:8080$/);
  assert.equal(first?.host, 'blog:8080');
  await engine.restart(id);
  const second = await arrives(first);
  assert.notEqual(second?.url, first?.url);
  assert.notEqual(second?.key, first?.key);
  assert.ok(first?.isOver && second?.isOver === false);
});

test('what ends is forgotten with the event, before the engine is asked anything', async (t) => {
  const { addresses, driver, engine, run, place, world, held } = await setUp(t);
  const id = await run('blog');
  addresses.follow([target]);
  await addresses.settled();
  const before = place().stay;
  held.inspect = new Promise(() => {});
  world.calls.length = 0;
  driver.crash(id, 1);
  await eventually(async () => (place().stay ? undefined : true), 'nowhere');
  assert.ok(before?.isOver);
  assert.match(place().reason, /does not run/);
  assert.ok(!world.calls.includes('inspect') && !world.calls.includes('list'));
  held.inspect = Promise.resolve();
  await engine.start(id);
});

test('an answer that is older than the last event does not count', async (t) => {
  const { addresses, driver, run, place, world, held } = await setUp(t);
  const id = await run('blog');
  const { promise, resolve } = Promise.withResolvers<void>();
  held.inspect = promise;
  addresses.follow([target]);
  await eventually(async () => (world.calls.includes('inspect') ? true : undefined), 'it is asked');
  driver.crash(id, 1);
  resolve();
  await addresses.settled();
  assert.equal(place().stay, undefined);
});

test('the container of the generation that counts is the one, from the change on', async (t) => {
  const { addresses, engine, run, place, kept } = await setUp(t);
  const old = await run('blog');
  addresses.follow([target]);
  await addresses.settled();
  const before = place().stay;
  await run('blog', { generation: 2 });
  kept.set('blog', { id: 'svc_blog', generation: 2 });
  await addresses.changed('blog');
  const after = place().stay;
  assert.notEqual(after?.url, before?.url);
  await engine.remove(old, { force: true });
  assert.equal(place().stay, after);
  kept.delete('blog');
  await addresses.changed('blog');
  assert.match(place().reason, /there is no service blog/);
});

test('labels of a container that was not made here are nobody', async (t) => {
  const { addresses, driver, kept, place } = await setUp(t);
  kept.set('blog', { id: 'svc_blog', generation: 1 });
  const labels = {
    service: 'svc_blog',
    generation: '1',
    'ohp.labels': '{"service":"svc_blog","generation":"1"}',
  };
  driver.addForeign({ name: 'blog.1', image: IMAGE, labels });
  await driver.start('blog.1');
  addresses.follow([target]);
  await addresses.settled();
  assert.equal(place().stay, undefined);
});

test('after a gap all is looked at anew', async (t) => {
  const { addresses, clock, world, engine, run, arrives } = await setUp(t);
  const id = await run('blog');
  addresses.follow([target]);
  await addresses.settled();
  const first = addresses.placeOf(target).stay;
  world.cut();
  await eventually(async () => (world.streams === 0 ? true : undefined), 'the stream is cut');
  await engine.restart(id);
  clock.advance(1);
  assert.equal(addresses.placeOf(target).stay, first, 'nobody has told yet');
  clock.advance(addressLimits.againMs);
  assert.ok((await arrives(first))?.url);
});

test('an engine that is away is believed for a time only, asked again more and more slowly, and found again', async (t) => {
  const { addresses, clock, world, run, place, arrives } = await setUp(t);
  await run('blog');
  addresses.follow([target]);
  await addresses.settled();
  const known = place().stay;
  world.isAway = true;
  world.calls.length = 0;
  world.cut();
  await eventually(async () => (world.streams === 0 ? true : undefined), 'the stream is cut');
  for (let passed = 0; passed < addressLimits.keepMs - 50; passed += 50) {
    clock.advance(50);
    await new Promise(setImmediate);
  }
  assert.equal(place().stay, known);
  const asked = world.calls.length;
  assert.ok(asked > 4 && asked < 40, String(asked));
  clock.advance(50);
  assert.equal(place().stay, undefined);
  assert.ok(known?.isOver);
  assert.match(place().reason, /does not answer.*(?:cut|away)/);
  world.isAway = false;
  const back = eventually(async () => {
    clock.advance(100);
    return place().stay;
  }, 'the engine is back');
  assert.equal((await back).url, known?.url);
  assert.equal(await arrives(undefined), place().stay);
});

test('an engine that answers and refuses its events is asked for them less and less often, and that is told once', async (t) => {
  const { addresses, clock, world, run, place, records } = await setUp(t);
  await run('blog');
  world.isDeaf = true;
  addresses.follow([target]);
  await addresses.settled();
  const known = place().stay;
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50);
      await addresses.settled();
    }
  };
  await pass(20_000);
  assert.equal(place().stay, known);
  assert.ok(known && !known.isOver);
  assert.ok(world.opened > 10 && world.opened < 30, String(world.opened));
  assert.deepEqual(
    records.map(({ level }) => level),
    ['warn'],
  );
  world.isDeaf = false;
  await pass(addressLimits.longestAgainMs + STEADY_MS + 100);
  assert.deepEqual(
    records.map(({ level }) => level),
    ['warn', 'info'],
  );
});

test('what was prepared for a change that never came is let go, and of many ports the first make room', async (t) => {
  const { addresses, clock, world, run } = await setUp(t);
  await run('blog');
  const ports = Array.from({ length: addressLimits.places + 1 }, (_, index) => 8000 + index);
  for (const port of ports) assert.equal(await addresses.fault({ name: 'blog', port }), undefined);
  const isKnown = (port: number) => addresses.placeOf({ name: 'blog', port }).stay !== undefined;
  assert.deepEqual(
    ports.filter((port) => !isKnown(port)),
    [8000],
  );
  assert.equal(world.streams, 1);
  clock.advance(addressLimits.preparedMs / 2);
  await addresses.fault(target);
  clock.advance(addressLimits.preparedMs - 1);
  assert.ok(isKnown(target.port));
  clock.advance(1);
  assert.ok(!isKnown(target.port));
  await eventually(async () => (world.streams === 0 ? true : undefined), 'nobody listens any more');
  addresses.follow([target]);
  await addresses.settled();
  await addresses.fault({ name: 'blog', port: 8001 });
  clock.advance(addressLimits.preparedMs);
  assert.ok(isKnown(target.port) && !isKnown(8001));
});

test('where a port is published comes before where the container is; at another machine only what others reach', () => {
  const networks = [{ name: 'own', address: '10.0.0.2', address6: 'fd00::2', aliases: [] }];
  const at = (hostAddress: string, hostPort = 32_768, protocol = 'tcp') => ({
    containerPort: 80,
    protocol,
    hostAddress,
    hostPort,
  });
  const found = (...ports: ReturnType<typeof at>[]) => ({ id: '1', ports, networks });
  assert.equal(addressOf(found(at('127.0.0.1')), 80), '127.0.0.1:32768');
  assert.equal(addressOf(found(at('::'), at('0.0.0.0')), 80), '127.0.0.1:32768');
  assert.equal(addressOf(found(at('::')), 80), '[::1]:32768');
  assert.equal(addressOf(found(at('192.168.1.2', 8080)), 80), '192.168.1.2:8080');
  assert.equal(addressOf(found(at('127.0.0.1', 53, 'udp')), 80), '10.0.0.2:80');
  assert.equal(addressOf(found(at('127.0.0.1')), 81), '10.0.0.2:81');
  assert.equal(addressOf({ id: '1', ports: [], networks: [] }, 80), undefined);
  assert.equal(addressOf(found(at('127.0.0.1')), 80, 'engine.example.com'), undefined);
  assert.equal(addressOf(found(at('0.0.0.0')), 80, 'engine.example.com'), 'engine.example.com:32768');
  assert.equal(addressOf(found(), 80, 'engine.example.com'), undefined);
});
