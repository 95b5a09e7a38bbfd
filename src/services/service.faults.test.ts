/** An engine that fails at each call in turn: once, or for good, as when the process or the engine dies there. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { AppError } from '../core/errors.ts';
import { blog, nothing, setUpServices } from './services.fixture.ts';

const code = (error: unknown) => (error instanceof AppError ? error.code : String(error));
const FEWEST_CALLS = 8;

const running = {
  containers: ['blog.1 running'],
  networks: ['ohp-default'],
  volumes: ['ohp-blog-data'],
  services: ['blog done 1'],
};
const updated = {
  ...running,
  containers: ['blog.2 running'],
  networks: ['ohp-other'],
  services: ['blog done 2'],
};

type World = Awaited<ReturnType<typeof setUpServices>>;

/** `work` with a fault at the first call of the engine, then at the second, until it does not come that far. */
async function atEachCall(
  { faults }: World,
  isForGood: boolean,
  work: (at: number) => Promise<{ check: () => Promise<void> }>,
): Promise<void> {
  for (let at = 1; ; at++) {
    const first = faults.calls + at;
    let reached = false;
    faults.fails = (number) => {
      const fails = isForGood ? number >= first : number === first;
      reached ||= fails;
      return fails;
    };
    const { check } = await work(at);
    faults.fails = () => false;
    if (!reached) {
      assert.ok(at > FEWEST_CALLS, `only ${at} calls`);
      return;
    }
    await check();
  }
}

test('whichever call of the engine fails, a creation leaves nothing at all', async () => {
  const world = await setUpServices();
  await atEachCall(world, false, async (at) => {
    const outcome = await world.call('create_service', blog).then(() => 'OK', code);
    return {
      async check() {
        assert.equal(outcome, 'UPSTREAM_FAILED', `call ${at}`);
        assert.deepEqual(await world.world(), nothing, `call ${at}`);
      },
    };
  });
});

test('an engine that goes away during a creation leaves what the next start undoes', async () => {
  const world = await setUpServices();
  let unfinished = 0;
  await atEachCall(world, true, async (at) => {
    await world.call('create_service', blog).catch(() => undefined);
    return {
      async check() {
        if ((await world.world()).services.length > 0) unfinished++;
        await world.open().resume();
        assert.deepEqual(await world.world(), nothing, `call ${at}`);
      },
    };
  });
  assert.ok(unfinished > 3, String(unfinished));
});

for (const isForGood of [false, true])
  test(`an update is whole or not at all, ${isForGood ? 'after the next start, when the engine goes away' : 'at once, when one call fails'}`, async () => {
    const world = await setUpServices();
    await atEachCall(world, isForGood, async (at) => {
      const { fails } = world.faults;
      world.faults.fails = () => false;
      const before = world.faults.calls;
      await world.call('create_service', blog);
      world.faults.calls = before;
      world.faults.fails = fails;
      const outcome = await world
        .call('update_service', { name: 'blog', networks: ['other'] })
        .then(() => 'OK', code);
      return {
        async check() {
          if (isForGood) {
            await world.world();
            await world.open().resume();
          }
          const found = await world.world();
          const isNew = found.services[0] === 'blog done 2';
          if (outcome === 'OK') assert.ok(isNew || found.services[0] === 'blog apply 2', `call ${at}`);
          if (found.services[0] !== 'blog apply 2')
            assert.deepEqual(found, isNew ? updated : running, `call ${at}`);
          await world.call('delete_service', { name: 'blog', delete_volumes: true });
          assert.deepEqual(await world.world(), nothing, `call ${at}`);
        },
      };
    });
  });

test('no change is taken for one before it that was undone: each has a number of its own', async () => {
  const { call, world, faults } = await setUpServices();
  await call('create_service', blog);
  faults.fails = (_call, verb) => verb === 'start';
  await assert.rejects(call('update_service', { name: 'blog', networks: ['other'] }));
  faults.fails = () => false;
  await call('update_service', { name: 'blog', networks: ['other'] });
  assert.deepEqual((await world()).containers, ['blog.3 running']);
});
