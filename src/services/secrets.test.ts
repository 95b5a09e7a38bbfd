import assert from 'node:assert/strict';
import test from 'node:test';
import { AppError, type ErrorCode } from '../core/errors.ts';
import { admin, blog, eagerClock, nothing, setUpServices } from './services.fixture.ts';

const CANARY = 'canary-secret-4711';
const refusedAs =
  (code: ErrorCode, message = /./) =>
  (error: unknown) =>
    error instanceof AppError && error.code === code && message.test(error.message);

/** Every look at the clock is later than the one before, and what the engine is told is kept. */
async function setUp() {
  let now = Date.UTC(2026, 0, 1);
  const kit = await setUpServices({ clock: { ...eagerClock(), now: () => (now += 1000) } });
  const told: (Record<string, string> | undefined)[] = [];
  const create = kit.driver.create.bind(kit.driver);
  kit.driver.create = (plan) => {
    told.push(plan.environment);
    return create(plan);
  };
  return { ...kit, told };
}

const withSecret = { ...blog, environment: { PASSWORD: { secret: 'db-password' }, PLAIN: 'text' } };

test('a service gets the value of a secret in its environment, and nothing tells it again', async () => {
  const { call, told, database } = await setUp();
  const answers = [
    await call('set_secret', { name: 'db-password', value: CANARY }),
    await call('create_service', withSecret),
    await call('get_service', { name: 'blog' }),
    await call('list_secrets'),
    await call('list_services'),
  ];
  assert.deepEqual(told, [{ PASSWORD: CANARY, PLAIN: 'text' }]);
  assert.deepEqual(answers[1].environment_secrets, { PASSWORD: 'db-password' });
  assert.deepEqual(answers[1].environment_names, ['PASSWORD', 'PLAIN']);
  const rows = await Promise.all([
    database.read.selectFrom('services').selectAll().execute(),
    database.read.selectFrom('service_secrets').selectAll().execute(),
  ]);
  assert.doesNotMatch(JSON.stringify([answers, rows]), new RegExp(CANARY));
});

test('a changed secret says who still has the value of before, and an update gives the new one', async () => {
  const { call, told } = await setUp();
  const { used_by, with_old_value } = await call('set_secret', { name: 'db-password', value: 'one' });
  assert.deepEqual([used_by, with_old_value], [[], []]);
  await call('create_service', withSecret);
  const [listed] = (await call('list_secrets')).secrets;
  assert.deepEqual([listed.used_by, listed.with_old_value], [['blog'], []]);
  assert.deepEqual((await call('set_secret', { name: 'db-password', value: 'two' })).with_old_value, [
    'blog',
  ]);
  await call('restart_service', { name: 'blog' });
  assert.equal(told.length, 1, 'a restart keeps the container');
  await call('update_service', { name: 'blog', environment: {} });
  assert.deepEqual(
    told.map((environment) => environment?.PASSWORD),
    ['one', 'two'],
  );
  assert.deepEqual((await call('list_secrets')).secrets[0].with_old_value, []);
});

test('a secret that is not there stops the creation, and nothing of it is left', async () => {
  const { call, world } = await setUp();
  await assert.rejects(
    call('create_service', withSecret),
    refusedAs('PRECONDITION_FAILED', /there is no secret db-password; set_secret makes one/),
  );
  assert.deepEqual(await world(), nothing);
});

test('a secret that is used is deleted by force only; an update that takes it off frees it', async () => {
  const { call } = await setUp();
  await call('set_secret', { name: 'db-password', value: CANARY });
  await call('create_service', withSecret);
  const remove = (more: object = {}) => call('delete_secret', { name: 'db-password', ...more });
  await assert.rejects(remove(), refusedAs('PRECONDITION_FAILED', /the services blog use the secret/));
  await remove({ force: true });
  await assert.rejects(
    call('update_service', { name: 'blog', environment: {} }),
    refusedAs('PRECONDITION_FAILED', /there is no secret db-password.*version 1 is back as it was/),
  );
  await call('set_secret', { name: 'db-password', value: CANARY });
  await call('update_service', { name: 'blog', environment: { PASSWORD: null } });
  assert.deepEqual(await remove(), { name: 'db-password' });
  await assert.rejects(remove(), refusedAs('NOT_FOUND'));
});

test('a secret is not deleted, also by force, while a service that uses it is changed and may have to go back', async () => {
  const { call, driver, world } = await setUp();
  await call('set_secret', { name: 'db-password', value: CANARY });
  await call('create_service', withSecret);
  const remove = () => call('delete_secret', { name: 'db-password', force: true });
  const create = driver.create.bind(driver);
  let refusals = 0;
  driver.create = async (plan) => {
    await assert.rejects(remove(), refusedAs('CONFLICT', /services blog are being changed/));
    refusals++;
    return create(plan);
  };
  const without = { name: 'blog', environment: { PASSWORD: null } };
  await assert.rejects(
    call('update_service', { ...without, command: ['exit 3'] }),
    refusedAs('UPSTREAM_FAILED'),
  );
  assert.deepEqual((await world()).services, ['blog done 1']);
  await call('update_service', without);
  assert.equal(refusals, 2);
  assert.deepEqual(await remove(), { name: 'db-password' });
});

test('secrets are not for who is confined to hostnames, and setting one takes services:write', async () => {
  const { call } = await setUp();
  const confined = { ...admin, hostnames: ['a.example.com'] };
  const viewer = { ...admin, permissions: new Set(['services:read'] as const) };
  const wanted = { name: 'db-password', value: CANARY };
  for (const [name, input] of [
    ['set_secret', wanted],
    ['list_secrets', {}],
    ['delete_secret', { name: 'x' }],
  ] as const)
    await assert.rejects(call(name, input, confined), refusedAs('FORBIDDEN', /confined to hostnames/));
  await assert.rejects(call('set_secret', wanted, viewer), refusedAs('FORBIDDEN', /services:write/));
  await assert.rejects(
    call('set_secret', { name: 'No Name', value: CANARY }),
    (error: Error) => !error.message.includes(CANARY),
  );
});
