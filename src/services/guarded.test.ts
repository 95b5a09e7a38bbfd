/** Guarded ports of services: published to this machine only, open while the service runs and at no other time. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { AppError, type ErrorCode } from '../core/errors.ts';
import type { PortGuards } from './guarded.ts';
import type { ServiceRecord } from './record.ts';
import { serviceSettings } from './schema.ts';
import { IMAGE, setUpServices } from './services.fixture.ts';
import { specOf } from './spec.ts';

const refusedAs =
  (code: ErrorCode, message = /./) =>
  (error: unknown) =>
    error instanceof AppError && error.code === code && message.test(error.message);

const guarded = {
  name: 'blog',
  image: IMAGE,
  command: ['sleep', '1000'],
  ports: [{ container_port: 80, host_port: 18_080, allow_sources: ['10.0.0.0/8'] }],
};
type Opening = Parameters<PortGuards['open']>[0];

async function setUp(options: Parameters<typeof setUpServices>[0] = {}) {
  const open = new Map<string, Opening>();
  const state: { fault?: ((service: Opening) => Error | undefined) | undefined } = {};
  const guards: PortGuards = {
    async open(service) {
      open.delete(service.id);
      const fault = service.ports.length > 0 ? state.fault?.(service) : undefined;
      if (fault) throw fault;
      if (service.ports.length > 0) open.set(service.id, service);
    },
    close: (id) => void open.delete(id),
  };
  const world = await setUpServices({ ...options, guards });
  const isOpen = () =>
    [...open.values()].flatMap(({ name, ports }) =>
      ports.map(({ address, port, targetPort }) => `${name} ${address}:${port} to ${targetPort}`),
    );
  const claims = async () => {
    const rows = await world.database.read.selectFrom('service_ports').selectAll().orderBy('port').execute();
    return rows.map(({ kind, address, port }) => `${kind} ${address}:${port}`);
  };
  return { ...world, open: world.open, opened: open, isOpen, claims, state };
}
const inUse = (port: number) =>
  Object.assign(new Error(`listen EADDRINUSE: address already in use 127.0.0.1:${port}`), {
    code: 'EADDRINUSE',
    address: '127.0.0.1',
    port,
  });

test('the engine publishes a guarded port to this machine only, at another number; what is told has that number only in the container', async () => {
  const { call, driver, isOpen, opened, claims } = await setUp();
  const made = await call('create_service', {
    ...guarded,
    ports: [{ ...guarded.ports[0], host_address: '127.0.0.2', require_token: 'services:read' }],
  });
  assert.deepEqual((await driver.inspect('blog.1')).ports, [
    { containerPort: 80, protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 20_000 },
  ]);
  assert.deepEqual(isOpen(), ['blog 127.0.0.2:18080 to 20000']);
  const [{ ports }] = [...opened.values()] as [Opening];
  assert.deepEqual([ports[0]?.sources, ports[0]?.permission], [['10.0.0.0/8'], 'services:read']);
  assert.deepEqual(made.ports, [
    {
      container_port: 80,
      protocol: 'tcp',
      host_address: '127.0.0.2',
      host_port: 18_080,
      allow_sources: ['10.0.0.0/8'],
      require_token: 'services:read',
    },
  ]);
  assert.equal(made.container.ports[0].host_port, 20_000);
  assert.deepEqual(await claims(), ['guarded 127.0.0.2:18080', 'inner 127.0.0.1:20000']);
});

test('it is open while the service runs, closed when it is stopped or deleted, and open again after a start of this process', async () => {
  const { call, isOpen, opened, open } = await setUp();
  const at = ['blog 127.0.0.1:18080 to 20000'];
  await call('create_service', { ...guarded, start: false });
  assert.deepEqual(isOpen(), []);
  await call('start_service', { name: 'blog' });
  assert.deepEqual(isOpen(), at);
  await call('stop_service', { name: 'blog' });
  assert.deepEqual(isOpen(), []);
  await open().resume();
  assert.deepEqual(isOpen(), [], 'it does not run');
  await call('start_service', { name: 'blog' });
  await call('restart_service', { name: 'blog' });
  assert.deepEqual(isOpen(), at);
  opened.clear();
  await open().resume();
  assert.deepEqual(isOpen(), at);
  await call('update_service', { name: 'blog', environment: { A: 'b' } });
  assert.deepEqual(isOpen(), at, 'the same number inside');
  await call('delete_service', { name: 'blog' });
  assert.deepEqual(isOpen(), []);
});

test('a guard that is taken off or put on goes with the update, and comes back when the update fails', async () => {
  const { call, isOpen, claims, faults } = await setUp();
  const at = ['blog 127.0.0.1:18080 to 20000'];
  await call('create_service', guarded);
  const meanwhile: string[][] = [];
  faults.fails = (_, verb) => {
    if (verb === 'start') meanwhile.push(isOpen());
    return false;
  };
  const without = { name: 'blog', ports: [{ container_port: 80, host_port: 18_080 }] };
  await assert.rejects(call('update_service', { ...without, command: ['exit 3'] }));
  assert.deepEqual(isOpen(), at);
  assert.deepEqual(await claims(), ['guarded 127.0.0.1:18080', 'inner 127.0.0.1:20000']);
  meanwhile.length = 0;
  await call('update_service', without);
  assert.deepEqual(meanwhile[0], [], 'the engine can listen where this process did');
  assert.deepEqual(isOpen(), []);
  assert.deepEqual(await claims(), ['published 127.0.0.1:18080']);
  await call('update_service', { name: 'blog', ports: guarded.ports });
  assert.deepEqual(isOpen(), at);
});

test('where the listener can not be opened a creation leaves nothing, and an update the service as it was', async () => {
  const { call, world, isOpen, claims, state } = await setUp();
  state.fault = () => inUse(18_080);
  await assert.rejects(
    call('create_service', guarded),
    refusedAs('CONFLICT', /127\.0\.0\.1:18080\/tcp is used by something else on this machine; nothing of it/),
  );
  state.fault = () => new Error('\u001b[31mEACCES');
  await assert.rejects(
    call('create_service', guarded),
    (error) =>
      refusedAs(
        'PRECONDITION_FAILED',
        /ports of blog can't be opened: .*EACCES; nothing of it is left/,
      )(error) && !String(error).includes('\u001b'),
  );
  assert.deepEqual(await claims(), []);
  assert.deepEqual((await world()).containers, []);
  state.fault = undefined;
  await call('create_service', { ...guarded, ports: [{ container_port: 80, host_port: 18_080 }] });
  state.fault = () => inUse(18_081);
  await assert.rejects(
    call('update_service', { name: 'blog', ports: [{ ...guarded.ports[0], host_port: 18_081 }] }),
    refusedAs('CONFLICT'),
  );
  assert.deepEqual(await claims(), ['published 127.0.0.1:18080']);
  assert.deepEqual(isOpen(), []);
});

test('a start whose listener can not be opened leaves the service stopped, as its record says', async () => {
  const { call, world, isOpen, state, faults, open } = await setUp();
  await call('create_service', { ...guarded, start: false });
  const stopped = { containers: ['blog.1 created'], services: ['blog done 1'] };
  const seen = async () => {
    const { containers, services } = await world();
    return { containers, services };
  };
  assert.deepEqual(await seen(), stopped);
  state.fault = () => inUse(18_080);
  for (const verb of ['start_service', 'restart_service']) {
    await assert.rejects(
      call(verb, { name: 'blog' }),
      refusedAs('CONFLICT', /used by something else.*stopped/),
    );
    assert.deepEqual(await seen(), { ...stopped, containers: ['blog.1 exited'] }, verb);
  }
  faults.fails = (_, verb) => verb === 'stop';
  await assert.rejects(call('start_service', { name: 'blog' }), refusedAs('CONFLICT', /next call or start/));
  assert.deepEqual(await seen(), { containers: ['blog.1 running'], services: ['blog apply 1'] });
  state.fault = undefined;
  await open().resume();
  assert.deepEqual(await seen(), { ...stopped, containers: ['blog.1 exited'] });
  assert.deepEqual(isOpen(), []);
});

test('a number that was given out and turns out to be taken at this process is passed over', async () => {
  const { call, isOpen, state, claims } = await setUp();
  state.fault = ({ ports }) => (ports[0]?.port === 20_000 ? inUse(20_000) : undefined);
  await call('create_service', { ...guarded, ports: [{ container_port: 80, allow_sources: ['::1'] }] });
  assert.deepEqual(isOpen(), ['blog 127.0.0.1:20001 to 20002']);
  assert.deepEqual(await claims(), ['guarded 127.0.0.1:20001', 'inner 127.0.0.1:20002']);
});

test('what can not be kept is refused', async () => {
  const { call, claims } = await setUp();
  const refuse = (port: object, code: ErrorCode, message: RegExp) =>
    assert.rejects(
      call('create_service', { ...guarded, ports: [{ ...guarded.ports[0], ...port }] }),
      refusedAs(code, message),
      message.source,
    );
  await refuse({ protocol: 'udp' }, 'INVALID_INPUT', /are for tcp/);
  await refuse(
    { protocol: 'udp', allow_sources: undefined, require_token: 'logs:read' },
    'INVALID_INPUT',
    /are for tcp/,
  );
  await refuse({ allow_sources: [] }, 'INVALID_INPUT', /allow_sources/);
  await refuse({ allow_sources: ['10.0.0.0/33'] }, 'INVALID_INPUT', /range such as 10\.0\.0\.0\/8/);
  await refuse({ require_token: true }, 'INVALID_INPUT', /require_token/);
  await refuse({ inner_port: 22 }, 'INVALID_INPUT', /inner_port/);
  await refuse({ host_address: '0.0.0.0' }, 'FORBIDDEN', /services\.bind_addresses allows 127\.0\.0\.1/);
  await refuse({ host_port: 80 }, 'FORBIDDEN', /services\.min_port is 1024/);
  assert.deepEqual(await claims(), []);
  const { call: elsewhere } = await setUp({ ports: { guardable: undefined } });
  await assert.rejects(
    elsewhere('create_service', guarded),
    refusedAs('PRECONDITION_FAILED', /need an engine on this machine/),
  );
});

test('in a swarm, which publishes to everybody, a guarded port is refused: created, updated and started', async () => {
  const { call, engine, world, isOpen } = await setUp({
    policy: {
      orchestrator: 'swarm',
      nodes_hardened: true,
      bind_addresses: ['0.0.0.0'],
    },
    ports: { isSwarm: true, guardable: { addresses: ['0.0.0.0'], minPort: 1024 } },
  });
  const open = { container_port: 80, host_address: '0.0.0.0', host_port: 18_080 };
  const refused = refusedAs('PRECONDITION_FAILED', /allow_sources and require_token are not for a swarm/);
  for (const guardedBy of [{ allow_sources: ['10.0.0.0/8'] }, { require_token: 'services:read' }]) {
    const ports = [{ ...open, ...guardedBy }];
    for (const start of [true, false])
      await assert.rejects(call('create_service', { ...guarded, start, ports }), refused);
    await call('create_service', { ...guarded, ports: [open] });
    const before = await world();
    await assert.rejects(call('update_service', { name: 'blog', ports }), refused);
    assert.deepEqual(await world(), before);
    await call('delete_service', { name: 'blog' });
  }
  assert.deepEqual(isOpen(), []);
  const record = { id: 'svc_1', name: 'blog', generation: 1 };
  const settings = serviceSettings.parse({
    image: IMAGE,
    ports: [{ ...open, allow_sources: ['10.0.0.0/8'] }],
  });
  const spec = specOf({ ...record, settings } as ServiceRecord, naming, {});
  await assert.rejects(engine.check(spec), /ports\[0\]\.hostAddress: 127\.0\.0\.1/, 'by the policy too');
});
const naming = { installation: 'ohp', adopted: new Set<string>() };
