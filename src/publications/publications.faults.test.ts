/** A fault at each call that a publication makes, in turn: once, for good, and after it had its effect. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { eventually } from '../../test/support/eventually.ts';
import { UNDO_WAITS_MS } from './again.ts';
import { type Asked, blog, HOST, setUpPublications } from './publications.fixture.ts';

const FEWEST_CALLS = 30;
const nothing = {
  containers: [],
  networks: [],
  volumes: [],
  services: [],
  proxies: [],
  served: [],
  certificates: [],
  orders: [],
  publications: [],
};
const published = {
  containers: ['blog.1 running'],
  networks: ['ohp-default'],
  volumes: ['ohp-blog-data'],
  services: ['blog done 1'],
  proxies: [HOST],
  served: [HOST],
  certificates: [`${HOST} internal`, `${HOST} acme`],
  orders: [],
  publications: [`${HOST} published`],
};
const wanted = { ...blog, protection: { allow: { users: ['ann'] } } };

type World = Awaited<ReturnType<typeof setUpPublications>>;
type How = 'once' | 'for good' | 'after it was done';

/** `work` with a fault at the first call, then at the second, until it does not come that far. */
async function atEachCall(
  { faults }: World,
  how: How,
  work: (at: number) => Promise<() => Promise<void>>,
): Promise<void> {
  for (let at = 1; ; at++) {
    const first = faults.calls + at;
    let isReached = false;
    faults.fails = ({ number, when }: Asked) => {
      const isFaulty = how === 'for good' ? number >= first : number === first;
      isReached ||= number >= first;
      return isFaulty && when === (how === 'after it was done' ? 'after' : 'before');
    };
    const check = await work(at);
    faults.fails = () => false;
    if (!isReached) {
      assert.ok(at > FEWEST_CALLS, `only ${at} calls`);
      return;
    }
    await check();
  }
}

const outcomeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'OK',
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );

async function resume(world: World): Promise<void> {
  const { keeper, publications } = world.start();
  await keeper.resume();
  await publications.resume();
}

for (const how of ['once', 'after it was done'] as const)
  test(`whichever call fails ${how}, a publication leaves nothing at all`, async () => {
    await using world = await setUpPublications();
    await atEachCall(world, how, async (at) => {
      const outcome = await outcomeOf(world.call('publish_service', wanted));
      return async () => {
        if (outcome !== 'OK') assert.match(outcome, /injected/, `call ${at}`);
        const found = await world.there();
        // The last change was made, and only its caller does not know: what is there is whole.
        if (found.publications.length > 0 && how === 'after it was done') await resume(world);
        const then = await world.there();
        if (outcome === 'OK') {
          await world.call('unpublish_service', { name: HOST, delete_volumes: true });
          assert.deepEqual(await world.there(), nothing, `call ${at}`);
        } else assert.deepEqual(then, nothing, `call ${at}: ${outcome}`);
      };
    });
    assert.deepEqual(await world.there(), published);
  });

test('when everything is gone from one call on, the next start takes away what is left', async () => {
  await using world = await setUpPublications();
  let unfinished = 0;
  await atEachCall(world, 'for good', async (at) => {
    const outcome = await outcomeOf(world.call('publish_service', wanted));
    return async () => {
      assert.match(outcome, /injected/, `call ${at}`);
      if ((await world.there()).publications.length > 0) unfinished++;
      await resume(world);
      assert.deepEqual(await world.there(), nothing, `call ${at}: ${outcome}`);
    };
  });
  assert.ok(unfinished > FEWEST_CALLS / 2, String(unfinished));
});

for (const how of ['once', 'for good', 'after it was done'] as const)
  test(`whichever call fails ${how}, unpublishing goes on with the next start`, async () => {
    await using world = await setUpPublications();
    const { faults } = world;
    for (let at = 1; ; at++) {
      faults.fails = () => false;
      if ((await world.there()).publications.length === 0) await world.call('publish_service', wanted);
      const first = faults.calls + at;
      let isReached = false;
      faults.fails = ({ number, when }) => {
        isReached ||= number >= first;
        const isFaulty = how === 'for good' ? number >= first : number === first;
        return isFaulty && when === (how === 'after it was done' ? 'after' : 'before');
      };
      const outcome = await outcomeOf(world.call('unpublish_service', { name: HOST, delete_volumes: true }));
      faults.fails = () => false;
      const { publications } = await world.there();
      await resume(world);
      const found = await world.there();
      // Nothing was begun, or all of it is done.
      const isUntouched = publications[0] === `${HOST} published`;
      assert.deepEqual(found, isUntouched ? published : nothing, `call ${at}: ${outcome}`);
      if (!isReached) {
        assert.equal(outcome, 'OK');
        break;
      }
    }
  });

test('what could not be undone is tried again by itself, less and less often, until it is gone', async () => {
  await using world = await setUpPublications();
  world.faults.fails = ({ what, when }) =>
    when === 'before' && (what === 'edge visit' || what === 'services remove');
  await assert.rejects(world.call('publish_service', blog), /not undone yet, which is tried again by itself/);
  for (const ms of UNDO_WAITS_MS.slice(0, 2)) {
    await eventually(async () => (world.later.waits()[0] === ms ? true : undefined), `a wait of ${ms} ms`);
    world.later.passes();
  }
  await eventually(async () => (world.later.waits().length === 1 ? true : undefined), 'the third wait');
  world.faults.fails = () => false;
  world.later.passes();
  await eventually(
    async () => ((await world.there()).publications.length === 0 ? true : undefined),
    'it is undone',
  );
  assert.deepEqual([(await world.there()).services, world.later.waits(), world.alerts], [[], [], []]);
});

test('when it is given up somebody is told, until a call has undone it', async () => {
  await using world = await setUpPublications();
  world.faults.fails = ({ what, when }) =>
    when === 'before' && (what === 'edge visit' || what === 'services remove');
  await assert.rejects(world.call('publish_service', blog), { message: /not undone yet/, isQuoting: true });
  for (const ms of UNDO_WAITS_MS) {
    await eventually(async () => (world.later.waits()[0] === ms ? true : undefined), `a wait of ${ms} ms`);
    world.later.passes();
  }
  const alert = await eventually(async () => world.alerts[0], 'the alert');
  assert.deepEqual([alert.code, alert.level, alert.hostname], ['publication.left', 'error', HOST]);
  assert.match(alert.summary, /unpublish_service/);
  assert.deepEqual(world.later.waits(), []);
  world.faults.fails = () => false;
  await world.call('unpublish_service', { name: HOST });
  await eventually(async () => (world.alerts.length === 0 ? true : undefined), 'its end');
});
