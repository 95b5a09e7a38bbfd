/** `docker …` over the real operations of services, with an engine in memory behind the policy. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { ManualClock, systemClock } from '../core/clock.ts';
import { createDispatch } from '../core/dispatch.ts';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { bundles, expandPermissions, type Permission } from '../core/permissions.ts';
import { silentLog } from '../core/record.ts';
import { admin, blog, IMAGE, setUpServices } from '../services/services.fixture.ts';
import { type CommandMode, createCommandService, listCommands, runCommand } from './run-command.ts';

async function setUp({ mode = 'allow-list' as CommandMode, maxOutputBytes = 64_000, reached = '' } = {}) {
  const kit = await setUpServices();
  const called: string[] = [];
  const commands = createCommandService({
    mode,
    operate(name, input, { principal }) {
      called.push(name);
      const health = {
        components: [{ name: 'container_engine', status: 'ok', message: 'container engine 1' }],
      };
      return name === 'health_check' ? Promise.resolve(health) : kit.call(name, input, principal);
    },
    clock: systemClock,
    log: silentLog,
    timeoutMs: 1000,
    maxOutputBytes,
    scratchDir: join(tmpdir(), 'never-made'),
  });
  const dispatch = createDispatch({
    services: { commands },
    clock: systemClock,
    log: silentLog,
    idempotency: { find: async () => undefined, seal: (text) => text },
  });
  const ask = (
    operation: typeof runCommand | typeof listCommands,
    input: object,
    permissions?: Permission[],
  ) =>
    dispatch(operation, input, {
      principal: permissions ? { ...admin, permissions: expandPermissions(permissions) } : admin,
      signal: new AbortController().signal,
      traceId: '0'.repeat(32),
      surface: 'internal',
      clientAddress: undefined,
      ...(reached && { reaches: (name: string) => name === reached }),
    });
  const docker = async (args: string, permissions?: Permission[]) =>
    String((await ask(runCommand, { command: `docker ${args}` }, permissions)).stdout);
  return { ...kit, ask, docker, called };
}

const refusedAs =
  (code: ErrorCode, message = /./) =>
  (error: unknown) =>
    error instanceof AppError && error.code === code && message.test(error.message);

test('docker ps, images, logs, inspect, stats, pull and version answer what the operations know', async () => {
  const { call, docker, driver } = await setUp();
  await call('create_service', blog);
  await call('create_service', { ...blog, name: 'idle', ports: [], volumes: [], start: false });
  driver.addForeign({ name: 'other', image: IMAGE });
  assert.match(
    await docker('ps'),
    /^CONTAINER ID +IMAGE +STATUS +PORTS +NAMES\n\w+ +.*18080->80\/tcp +blog\n$/,
  );
  assert.match(await docker('ps -a'), /blog\n[^]*idle\n[^]*other\n/);
  assert.match(await docker('ps -aq'), /^\w+\n\w+\n\w+\n$/);
  assert.match(await docker('images'), /IMAGE +IMAGE ID +SIZE\n.*contract\/image:test/);
  assert.equal(typeof (await docker('logs blog')), 'string');
  assert.equal(typeof (await docker('logs --tail 5 blog')), 'string');
  const inspected = await docker('inspect blog');
  assert.deepEqual(JSON.parse(inspected).environment_names, ['PASSWORD']);
  assert.doesNotMatch(inspected, /canary-value/);
  assert.match(await docker('stats --no-stream'), /NAME .*\nblog +[\d.]+% +[\d.]+MiB/);
  assert.match(await docker('stats --no-stream blog'), /blog/);
  assert.match(await docker('pull contract/pulled:1'), /^contract\/pulled:1\n/);
  assert.equal(await docker('version'), 'container engine 1\n');
});

test('docker start, stop and restart change what was made here, and nothing else', async () => {
  const { call, docker, driver, world } = await setUp();
  await call('create_service', blog);
  driver.addForeign({ name: 'other', image: IMAGE });
  assert.equal(await docker('stop blog'), 'blog\n');
  assert.deepEqual((await world()).containers, ['blog.1 exited', 'other created']);
  assert.equal(await docker('start blog'), 'blog\n');
  assert.equal(await docker('restart blog'), 'blog\n');
  assert.deepEqual((await world()).containers, ['blog.1 running', 'other created']);
  for (const verb of ['start', 'stop', 'restart', 'logs', 'inspect'])
    await assert.rejects(docker(`${verb} other`), refusedAs('NOT_FOUND'), verb);
});

test('each needs the permission of its operation, by the gate of that operation', async () => {
  const { call, docker } = await setUp();
  await call('create_service', blog);
  const viewer: Permission[] = ['commands:run', ...bundles.viewer];
  assert.match(await docker('ps', viewer), /blog/);
  for (const args of ['stop blog', 'start blog', 'restart blog', 'pull contract/pulled:1'])
    await assert.rejects(docker(args, viewer), refusedAs('FORBIDDEN', /needs the permission services:write/));
  for (const args of ['ps', 'images', 'logs blog', 'inspect blog', 'stats --no-stream'])
    await assert.rejects(
      docker(args, ['commands:run']),
      refusedAs('FORBIDDEN', /needs the permission services:read/),
      args,
    );
});

test('incident row 20: everything else of docker is refused in every mode, with the operation to use', async () => {
  const refused = [
    'run -v /:/host alpine sh',
    'exec blog sh',
    'cp blog:/etc/passwd /tmp/x',
    'build .',
    'compose up',
    '-H tcp://192.0.2.1:2375 ps',
    '--config /tmp ps',
    'ps --format x',
    'ps --filter name=x',
    'logs -f blog',
    'logs --since 1h blog',
    'logs blog other',
    'stats blog',
    'inspect --type=image x',
    'rm blog',
    'constructor',
    'pull --all-tags x',
    'start -a blog',
    'stop blog other',
    '',
  ];
  for (const mode of ['allow-list', 'any'] as const) {
    const { docker, called } = await setUp({ mode });
    for (const args of refused)
      await assert.rejects(docker(args), refusedAs('FORBIDDEN', /answered by operations/), args);
    await assert.rejects(docker('run alpine'), refusedAs('FORBIDDEN', /use the operation create_service/));
    await assert.rejects(docker('ps x'), refusedAs('FORBIDDEN', /allowed: docker ps \[-a\] \[-q\]$/));
    await assert.rejects(docker('pull evil/image:1'), refusedAs('INVALID_INPUT', /services\.images|allowed/));
    assert.deepEqual(called, ['pull_image'], 'nothing was asked for what is refused');
  }
});

test('on a connection that was narrowed, docker asks only the operations that it reaches', async () => {
  const { call, docker, called } = await setUp({ reached: 'list_services' });
  await call('create_service', blog);
  assert.match(await docker('ps'), /blog/);
  await assert.rejects(docker('stop blog'), refusedAs('FORBIDDEN', /asks stop_service.*toolsets/));
  assert.deepEqual(called, ['list_services']);
});

test('docker is ended by the time limit of commands and by the end of the process, and counts as one of them', async () => {
  const clock = new ManualClock();
  let begun = 0;
  const commands = createCommandService({
    mode: 'allow-list',
    async operate(_name, _input, { signal }) {
      begun++;
      await once(signal, 'abort');
      throw new AppError('CANCELLED', 'cancelled');
    },
    clock,
    log: silentLog,
    timeoutMs: 1000,
    maxOutputBytes: 64_000,
    scratchDir: join(tmpdir(), 'never-made'),
  });
  const docker = () =>
    commands.run(commands.prepare({ command: 'docker stop blog' }, admin), {
      principal: admin,
      signal: new AbortController().signal,
      traceId: '0'.repeat(32),
      surface: 'internal',
      clientAddress: undefined,
      audit: () => {},
    });
  const running = [docker(), docker(), docker(), docker()];
  await assert.rejects(docker(), refusedAs('RATE_LIMITED'));
  assert.equal(begun, running.length);
  clock.advance(1000);
  for (const { ended, exitCode } of await Promise.all(running))
    assert.deepEqual([ended, exitCode], ['timeout', null]);
  const last = assert.rejects(docker(), refusedAs('CANCELLED'));
  await commands[Symbol.asyncDispose]();
  await last;
});

test('what is longer than the output may be is cut and counted, and list_commands names docker', async () => {
  const { call, ask } = await setUp({ maxOutputBytes: 20 });
  await call('create_service', blog);
  const result = await ask(runCommand, { command: 'docker ps' });
  assert.equal(result.stdout, 'CONTAINER ID   IMAGE');
  assert.equal(result.truncated, true);
  assert.match(JSON.stringify(await ask(listCommands, {})), /docker logs \[--tail N\] NAME/);
});
