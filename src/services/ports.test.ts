/** Ports of services: claimed with the record, numbered once, and nobody's when the service is gone. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import test from 'node:test';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { overlaps, portTaken } from './claims.ts';
import { isPortFree } from './port-probe.ts';
import { IMAGE, setUpServices } from './services.fixture.ts';

const refusedAs =
  (code: ErrorCode, message = /./) =>
  (error: unknown) =>
    error instanceof AppError && error.code === code && message.test(error.message);

const plain = { image: IMAGE, command: ['sleep', '1000'] };
const withPort = (name: string, port: object = {}) => ({
  ...plain,
  name,
  ports: [{ container_port: 80, ...port }],
});
const numbersOf = ({ ports }: { ports: { host_port: number }[] }) => ports.map(({ host_port }) => host_port);

async function setUp(options: Parameters<typeof setUpServices>[0] = {}) {
  const world = await setUpServices({
    policy: { bind_addresses: ['127.0.0.1', '127.0.0.2', '0.0.0.0', '::1', '::'] },
    ...options,
  });
  const claims = async () => {
    const rows = await world.database.read
      .selectFrom('service_ports')
      .innerJoin('services', 'services.id', 'service_id')
      .select(['name', 'address', 'port', 'protocol'])
      .orderBy('port')
      .orderBy('protocol')
      .execute();
    return rows.map(({ name, address, port, protocol }) => `${name} ${address} ${port} ${protocol}`);
  };
  return { ...world, claims };
}

test('every address overlaps with those that mean all, and with no other', () => {
  const at = (address: string, port = 80, protocol: 'tcp' | 'udp' = 'tcp') => ({
    address,
    port,
    protocol,
  });
  for (const every of ['0.0.0.0', '::'])
    for (const other of ['127.0.0.1', '::1', '0.0.0.0', '::'])
      assert.ok(overlaps(at(every), at(other)) && overlaps(at(other), at(every)), `${every} ${other}`);
  assert.ok(!overlaps(at('127.0.0.1'), at('127.0.0.2')));
  assert.ok(!overlaps(at('0.0.0.0'), at('127.0.0.1', 81)));
  assert.ok(!overlaps(at('0.0.0.0'), at('127.0.0.1', 80, 'udp')));
});

test('a port that another service has is refused with its name, also by an address that means all, and at other addresses not', async () => {
  const { call, claims, world } = await setUp();
  await call('create_service', withPort('first', { host_port: 18_080 }));
  const before = await world();
  for (const host_address of ['127.0.0.1', '::ffff:127.0.0.1', '0.0.0.0', '::'])
    await assert.rejects(
      call('create_service', withPort('second', { host_port: 18_080, host_address })),
      refusedAs('CONFLICT', /service first has port 127\.0\.0\.1:18080\/tcp/),
      host_address,
    );
  assert.deepEqual(await world(), before);
  await call('create_service', withPort('second', { host_port: 18_080, host_address: '127.0.0.2' }));
  await call('create_service', withPort('third', { host_port: 18_080, protocol: 'udp' }));
  assert.deepEqual((await claims()).sort(), [
    'first 127.0.0.1 18080 tcp',
    'second 127.0.0.2 18080 tcp',
    'third 127.0.0.1 18080 udp',
  ]);
});

test('of two keepers on one store that ask for one port at once, one gets it and the other leaves nothing', async () => {
  const { call, open, world, claims } = await setUp();
  const outcomes = await Promise.allSettled(
    ['one', 'two'].map((name) =>
      call('create_service', withPort(name, { host_port: 18_080 }), undefined, open()),
    ),
  );
  assert.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  assert.equal((await world()).services.length, 1);
  assert.equal((await world()).containers.length, 1);
  assert.equal((await claims()).length, 1);
});

test('of two keepers on one store that need any port at once, each gets its own', async () => {
  const { call, open } = await setUp();
  const made = await Promise.all(
    ['one', 'two', 'three'].map((name) => call('create_service', withPort(name), undefined, open())),
  );
  assert.deepEqual(new Set(made.flatMap(numbersOf)), new Set([20_000, 20_001, 20_002]));
});

test('a port that is given out is kept over stops, starts and updates, and free again when the service is gone', async () => {
  const { call, claims, driver } = await setUp();
  const made = await call('create_service', withPort('blog'));
  assert.deepEqual(numbersOf(made), [20_000]);
  await call('create_service', withPort('other'));
  await call('restart_service', { name: 'blog' });
  await call('update_service', { name: 'blog', environment: { A: 'b' } });
  const again = await call('update_service', {
    name: 'blog',
    ports: [{ container_port: 90 }, { container_port: 80 }],
  });
  assert.deepEqual(numbersOf(again), [20_002, 20_000]);
  assert.deepEqual(
    (await driver.inspect('blog.3')).ports.map(({ hostPort }) => hostPort),
    [20_002, 20_000],
  );
  const fewer = await call('update_service', { name: 'blog', ports: [{ container_port: 90 }] });
  assert.deepEqual(numbersOf(fewer), [20_002]);
  assert.deepEqual(await claims(), ['other 127.0.0.1 20001 tcp', 'blog 127.0.0.1 20002 tcp']);
  await call('delete_service', { name: 'blog' });
  assert.deepEqual(numbersOf(await call('create_service', withPort('third'))), [20_000]);
});

test('an update that fails gives back what it claimed, and keeps what the service had', async () => {
  const { call, claims, faults } = await setUp();
  await call('create_service', withPort('blog', { host_port: 18_080 }));
  const held: string[][] = [];
  faults.fails = (_, verb) => {
    if (verb === 'create') void claims().then((found) => held.push(found));
    return false;
  };
  await assert.rejects(
    call('update_service', {
      name: 'blog',
      command: ['exit 3'],
      ports: [{ container_port: 80, host_port: 18_081 }],
    }),
    refusedAs('UPSTREAM_FAILED'),
  );
  assert.deepEqual(
    held[0],
    ['blog 127.0.0.1 18080 tcp', 'blog 127.0.0.1 18081 tcp'],
    'both while it changes',
  );
  assert.deepEqual(await claims(), ['blog 127.0.0.1 18080 tcp']);
});

test('a creation that fails, or is cut off and undone, leaves no claim', async () => {
  const { call, claims, faults, open } = await setUp();
  await assert.rejects(call('create_service', { ...withPort('blog'), command: ['exit 3'] }));
  assert.deepEqual(await claims(), []);
  faults.fails = (_, verb) => verb === 'start' || verb === 'remove';
  await assert.rejects(call('create_service', withPort('blog')));
  assert.deepEqual(await claims(), ['blog 127.0.0.1 20000 tcp'], 'its container may still have it');
  faults.fails = () => false;
  await open().resume();
  assert.deepEqual(await claims(), []);
});

test('ports where this system listens itself are refused, and never given out', async () => {
  const own = () => [
    { address: '0.0.0.0', port: 18_443 },
    { address: '127.0.0.1', port: 20_000 },
  ];
  const { call } = await setUp({ ports: { own } });
  await assert.rejects(
    call('create_service', withPort('blog', { host_port: 18_443 })),
    refusedAs('CONFLICT', /127\.0\.0\.1:18443\/tcp is where this system listens/),
  );
  assert.deepEqual(numbersOf(await call('create_service', withPort('blog'))), [20_001]);
});

test('one port twice in one service is refused', async () => {
  const { call } = await setUp();
  const ports = [
    { container_port: 80, host_port: 18_080 },
    { container_port: 81, host_port: 18_080, host_address: '0.0.0.0' },
  ];
  await assert.rejects(
    call('create_service', { ...plain, name: 'blog', ports }),
    refusedAs('INVALID_INPUT', /0\.0\.0\.0:18080\/tcp is there twice/),
  );
});

test('a port that something else on this machine has is passed over', async (t) => {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen({ host: '127.0.0.1', port: 0 }, resolve);
  await promise;
  t.after(() => void server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const first = address.port;
  const { call } = await setUp({ ports: { range: { first, last: first }, probe: isPortFree } });
  await assert.rejects(
    call('create_service', withPort('blog')),
    refusedAs('PRECONDITION_FAILED', /no port of services\.ports \(\d+-\d+\) is free/),
  );
  assert.ok(await isPortFree({ address: '127.0.0.1', port: first, protocol: 'udp' }));
});

test('a port that the engine refuses is passed over, some times and not for ever; a port that was asked for is not', async () => {
  const { call, open, claims, world } = await setUp();
  let starts = 0;
  const engineWith = (until: number) => {
    const { engine } = open();
    return open({
      start(ref: string) {
        if (++starts < until) throw portTaken('Bind for 127.0.0.1 failed: port is already allocated');
        return engine.start(ref);
      },
    });
  };
  const made = await call('create_service', withPort('blog'), undefined, engineWith(3));
  assert.deepEqual(numbersOf(made), [20_002]);
  assert.deepEqual(await claims(), ['blog 127.0.0.1 20002 tcp']);
  starts = 0;
  await assert.rejects(
    call('create_service', withPort('other', { host_port: 18_080 }), undefined, engineWith(3)),
    refusedAs('CONFLICT', /already allocated; nothing of it is left/),
  );
  assert.equal(starts, 1);
  await assert.rejects(
    call('create_service', withPort('other'), undefined, engineWith(1000)),
    refusedAs('PRECONDITION_FAILED'),
  );
  assert.deepEqual((await world()).containers, ['blog.1 running']);
});
