import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { systemClock } from '../core/clock.ts';
import { engineContract, refusedAs } from './engine.contract.ts';
import { createMemoryEngine } from './engine.memory.ts';
import { guard } from './guard.ts';
import { policySchema } from './policy.ts';

engineContract('engine.memory behind the guard', async () => {
  const image = 'contract/image:test';
  const driver = createMemoryEngine({
    clock: systemClock,
    images: [image],
    registry: ['contract/pulled:1'],
  });
  const policy = policySchema.parse({ images: ['docker.io/contract/*'] });
  return {
    engine: guard(driver, { policy, sockets: [], local: true }),
    image,
    pullable: 'contract/pulled:1',
    networks: true,
    addForeign: async (name) => void driver.addForeign({ name, image, labels: { secret: 'canary' } }),
  };
});

const IMAGE = 'contract/image:test';

/** A root with folders, and what could lead out of it. */
function setUp(t: TestContext, settings: object = {}) {
  const base = mkdtempSync(join(tmpdir(), 'ohp-guard-'));
  t.after(() => rmSync(base, { recursive: true, force: true }));
  const folder = join(base, 'services');
  mkdirSync(join(folder, 'blog/inner'), { recursive: true });
  mkdirSync(join(folder, 'run'));
  const socket = join(folder, 'run/docker.sock');
  writeFileSync(socket, '');
  writeFileSync(join(folder, 'file'), '');
  symlinkSync('/', join(folder, 'to-root'));
  symlinkSync('blog', join(folder, 'to-blog'));
  symlinkSync('blog/inner', join(folder, 'to-inner'));
  symlinkSync(folder, join(base, 'alias'));
  const driver = createMemoryEngine({ clock: systemClock, images: [IMAGE] });
  const policy = policySchema.parse({ images: ['docker.io/contract/*'], folder, ...settings });
  return { base, folder, driver, policy, engine: guard(driver, { policy, sockets: [socket], local: true }) };
}

const folderAt = (source: string) => [{ kind: 'folder' as const, source, target: '/data' }];

test('a folder is mounted by its real path, and only one that stands directly in the root', async (t) => {
  const { engine, folder, base } = setUp(t);
  let made = 0;
  const sourceOf = async (source: string) => {
    const { id } = await engine.create({ name: `web-${made++}`, image: IMAGE, mounts: folderAt(source) });
    return (await engine.inspect(id)).mounts[0]?.source;
  };
  const blog = join(folder, 'blog');
  for (const source of ['blog', 'blog/', './blog', 'blog/../blog', blog, 'to-blog', join(base, 'alias/blog')])
    assert.equal(await sourceOf(source), blog, source);
  const refused = [
    '.',
    '..',
    folder,
    base,
    '/',
    '/etc',
    '../outside',
    'blog/inner',
    'to-inner',
    'to-root',
    'to-root/etc',
    'file',
    'missing',
    'run',
    '~',
    'C:\\',
    '/proc/self/root/etc',
  ];
  for (const source of refused)
    await assert.rejects(
      sourceOf(source),
      refusedAs('INVALID_INPUT', /mounts\[0\]\.source: .*which/),
      source,
    );
});

test('a folder that has become a link is not followed when its container starts again', async (t) => {
  const { engine, folder } = setUp(t);
  const { id } = await engine.create({
    name: 'web',
    image: IMAGE,
    command: ['sleep'],
    mounts: folderAt('blog'),
  });
  await engine.start(id);
  await engine.stop(id);
  rmSync(join(folder, 'blog'), { recursive: true });
  symlinkSync('/', join(folder, 'blog'));
  await assert.rejects(engine.start(id), refusedAs('INVALID_INPUT', /blog, which is not directly in it/));
  await assert.rejects(engine.restart(id), refusedAs('INVALID_INPUT'));
  assert.equal((await engine.inspect(id)).running, false);
});

test('without a root no folder is mounted, whatever it is called', async (t) => {
  const { engine } = setUp(t, { folder: undefined });
  for (const source of ['blog', '/srv', '.'])
    await assert.rejects(
      engine.create({ name: 'web', image: IMAGE, mounts: folderAt(source) }),
      refusedAs('INVALID_INPUT', /services\.folder/),
    );
});

test('what is adopted by name can be changed, and nothing else', async (t) => {
  const { engine, driver } = setUp(t, { adopt: ['old-blog'] });
  for (const name of ['old-blog', 'old-blog-2']) driver.addForeign({ name, image: IMAGE });
  await engine.start('old-blog');
  await assert.rejects(engine.start('old-blog-2'), refusedAs('FORBIDDEN', /services\.adopt/));
});

test('an image that claims to have been made here makes nobody ours', async (t) => {
  const { engine, driver } = setUp(t);
  const image = await driver.inspectImage(IMAGE);
  // As an engine does, which gives a container the labels of its image.
  const labels = { 'ohp.managed': 'ohp', 'ohp.labels': '{"service.id":"svc_1"}' };
  const disguised = guard(
    {
      ...driver,
      listImages: async () => [{ ...image, labels }],
      inspectImage: async () => ({ ...image, labels }),
    },
    { policy: policySchema.parse({ images: ['docker.io/contract/*'] }), sockets: [], local: true },
  );
  driver.addForeign({ name: 'victim', image: IMAGE, labels });
  const [listed] = await disguised.list({ all: true });
  assert.partialDeepStrictEqual(listed, { managed: false, changeable: false, labels: {} });
  await assert.rejects(disguised.remove('victim', { force: true }), refusedAs('FORBIDDEN'));
  await assert.rejects(
    disguised.create({ name: 'web', image: IMAGE }),
    refusedAs('INVALID_INPUT', /label ohp\.managed/),
  );
  assert.equal((await engine.list({ all: true })).length, 1);
});

test('no more containers than there may be, also when they are asked for at once', async (t) => {
  const { engine } = setUp(t, { max_containers: 3 });
  const asked = Array.from({ length: 8 }, (_, index) =>
    engine.create({ name: `web-${index}`, image: IMAGE }),
  );
  const outcomes = await Promise.allSettled(asked);
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 3);
  await assert.rejects(
    engine.create({ name: 'more', image: IMAGE }),
    refusedAs('CONFLICT', /max_containers is 3/),
  );
});

test('volumes and networks of others are neither used nor removed', async (t) => {
  const { engine, driver } = setUp(t, { adopt_volumes: ['adopted'] });
  await driver.createVolume({ name: 'theirs', labels: {} });
  await driver.createVolume({ name: 'adopted', labels: {} });
  await driver.createNetwork({ name: 'their-net', labels: { 'ohp.managed': 'another' }, internal: false });
  const mount = (name: string) => [{ kind: 'volume' as const, name, target: '/data' }];
  await assert.rejects(
    engine.create({ name: 'web', image: IMAGE, mounts: mount('theirs'), networks: ['their-net'] }),
    refusedAs('INVALID_INPUT', /mounts\[0\]\.name.*networks\[0\]/),
  );
  await assert.rejects(engine.removeVolume('theirs'), refusedAs('FORBIDDEN'));
  await assert.rejects(engine.removeNetwork('their-net'), refusedAs('FORBIDDEN'));
  await assert.rejects(engine.createVolume({ name: 'theirs' }), refusedAs('CONFLICT', /already/));
  await engine.create({ name: 'web', image: IMAGE, mounts: mount('adopted') });
});
