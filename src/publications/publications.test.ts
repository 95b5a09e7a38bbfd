import assert from 'node:assert/strict';
import test from 'node:test';
import { MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Permission } from '../core/permissions.ts';
import { admin, blog, HOST, setUpPublications } from './publications.fixture.ts';

const protection = { allow: { users: ['ann'] } };

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

interface Step {
  step: string;
  effect: string;
  problem?: string;
}
const effectOf = ({ steps }: { steps: Step[] }, name: string) => steps.find(({ step }) => step === name);

test('a dry run tells what would be fetched, made, ordered and open, and changes nothing', async () => {
  await using world = await setUpPublications();
  const before = await world.there();
  const plan = await world.call('publish_service', { ...blog, dry_run: true });
  assert.deepEqual([plan.published, plan.possible, plan.service], [false, true, 'blog']);
  assert.match(effectOf(plan, 'image')?.effect ?? '', /fetches .*it stays/);
  assert.match(effectOf(plan, 'service')?.effect ?? '', /port 80.*volumes blog-data/);
  assert.match(effectOf(plan, 'protection')?.effect ?? '', /open to anyone/);
  assert.match(effectOf(plan, 'certificate')?.effect ?? '', /orders one from ca/);
  assert.deepEqual(await world.there(), before);
});

const swarm = { orchestrator: 'swarm', nodes_hardened: true, bind_addresses: ['0.0.0.0'] };

test('a service is published where the gateway reaches it: in a swarm and on another machine not at loopback, which is told', async () => {
  const engineElsewhere = { bind_addresses: ['127.0.0.1', '0.0.0.0', '192.0.2.7'] };
  for (const [how, address] of [
    [{}, '127.0.0.1'],
    [{ policy: swarm, isSwarm: true }, '0.0.0.0'],
    [{ policy: engineElsewhere, machine: 'engine.example.com' }, '0.0.0.0'],
    [{ policy: engineElsewhere, machine: '192.0.2.7' }, '192.0.2.7'],
  ] as const) {
    await using world = await setUpPublications(how);
    const plan = await world.call('publish_service', { ...blog, dry_run: true });
    assert.equal(plan.possible, true, JSON.stringify(plan.steps));
    const isTold = effectOf(plan, 'service')?.effect.includes(
      `publishes that port at ${address} of the machine`,
    );
    assert.equal(isTold, address !== '127.0.0.1');
    await world.call('publish_service', blog);
    const { ports } = await world.services.call('get_service', { name: 'blog' });
    assert.equal(ports[0].host_address, address);
  }
});

test('where it can be published at no address that the gateway reaches, a dry run says so and a call begins nothing, whatever is known of its port', async () => {
  const { port: _, ...portless } = blog;
  for (const [how, why] of [
    [
      { policy: { ...swarm, bind_addresses: ['127.0.0.1'] }, isSwarm: true },
      /ports\[0\]\.hostAddress: 0\.0\.0\.0; allowed: /,
    ],
    [
      { machine: 'engine.example.com' },
      /engine is on another machine, engine\.example\.com.*services\.bind_addresses/,
    ],
  ] as const)
    for (const wanted of [blog, portless]) {
      await using world = await setUpPublications(how);
      const before = await world.there();
      const plan = await world.call('publish_service', { ...wanted, dry_run: true });
      assert.equal(plan.possible, false);
      assert.match(JSON.stringify(plan.steps), why);
      await assert.rejects(world.call('publish_service', wanted), /nothing was begun/);
      assert.deepEqual(await world.there(), before);
    }
});

test('all that stands against it is told at once, by a dry run and by a call that begins nothing', async () => {
  await using world = await setUpPublications();
  await world.call('publish_service', { ...blog, protection });
  const wrong = {
    ...blog,
    image: 'evil.example/image:1',
    protection: { allow: { users: ['nobody'] } },
    certificate: { issuers: ['unknown'] },
  };
  const before = await world.there();
  const plan = await world.call('publish_service', { ...wrong, dry_run: true });
  assert.equal(plan.possible, false);
  assert.match(effectOf(plan, 'image')?.problem ?? '', /policy of services.*evil\.example/);
  assert.match(effectOf(plan, 'service')?.problem ?? '', /service blog already/);
  assert.match(effectOf(plan, 'proxy')?.problem ?? '', /published already/);
  assert.match(effectOf(plan, 'protection')?.problem ?? '', /no user "nobody"/);
  await assert.rejects(
    world.call('publish_service', wrong),
    failsWith('INVALID_INPUT', /nothing was begun.*image: .*service: .*proxy: .*protection: /),
  );
  assert.deepEqual(await world.there(), before);
});

test('a hostname that a proxy has, the control host and wildcards are refused before anything is made', async () => {
  await using world = await setUpPublications();
  const before = await world.there();
  for (const [hostname, code, why] of [
    ['localhost', 'INVALID_INPUT', /control host/],
    ['*.example.com', 'INVALID_INPUT', /not a wildcard/],
    ['b.example.com', 'INVALID_INPUT', /"b", the first label.*give one/],
  ] as const)
    await assert.rejects(
      world.call('publish_service', { ...blog, hostname }),
      failsWith(code, why),
      hostname,
    );
  assert.deepEqual(await world.there(), before);
});

test('who publishes has to hold the permission of every part, unconfined', async () => {
  await using world = await setUpPublications();
  for (const missing of ['proxies:write', 'certificates:write', 'services:write'] satisfies Permission[]) {
    const permissions = new Set([...admin.permissions].filter((one) => one !== missing));
    for (const dry_run of [true, false])
      await assert.rejects(
        world.call('publish_service', { ...blog, dry_run }, { ...admin, permissions }),
        failsWith('FORBIDDEN', new RegExp(missing)),
      );
    await assert.rejects(
      world.call('unpublish_service', { name: HOST }, { ...admin, permissions }),
      failsWith('FORBIDDEN', new RegExp(missing)),
    );
  }
  const confined = { ...admin, hostnames: [HOST] };
  await assert.rejects(world.call('publish_service', blog, confined), failsWith('FORBIDDEN', /confined/));
});

test('the port is the only one that the image names; else the choices are told', async () => {
  await using world = await setUpPublications();
  const { port: _, ...portless } = blog;
  for (const [ports, why] of [
    [[], /names none/],
    [['80/tcp', '443/tcp', '53/udp'], /names 80, 443$|names 80, 443;/],
  ] as const) {
    world.exposed.splice(0, 9, ...ports);
    // Before it is here nobody knows, so that this is found out on the way.
    await assert.rejects(world.call('publish_service', portless), failsWith('INVALID_INPUT', why));
    assert.deepEqual((await world.there()).publications, []);
  }
  world.exposed.splice(0, 9, '8080/tcp', '53/udp');
  const plan = await world.call('publish_service', { ...portless, dry_run: true });
  assert.match(effectOf(plan, 'service')?.effect ?? '', /port 8080/);
  await world.call('publish_service', portless);
});

test('nobody is served before the protection stands', async () => {
  await using world = await setUpPublications();
  const kinds: string[] = [];
  world.onServed((proxy) => void kinds.push(proxy.auth.kind));
  await world.call('publish_service', { ...blog, protection });
  assert.deepEqual(new Set(kinds), new Set(['oauth']));
});

test('a protection that lets a stranger through undoes it all', async () => {
  await using world = await setUpPublications();
  world.edge.isOpen = true;
  await assert.rejects(
    world.call('publish_service', { ...blog, protection }),
    failsWith(
      'UPSTREAM_FAILED',
      /verify failed: .*answered 200, by the service; .*to be asked who they are; undone: /,
    ),
  );
  assert.deepEqual((await world.there()).proxies, []);
});

test('a service that answers 404 is published; a 404 of the gateway undoes it all', async () => {
  await using world = await setUpPublications();
  world.edge.status = 404;
  await world.call('publish_service', blog);
  await world.call('unpublish_service', { name: HOST });
  Object.assign(world.edge, { status: 200, refused: 404 });
  await assert.rejects(
    world.call('publish_service', blog),
    failsWith('UPSTREAM_FAILED', /verify failed: .*answered 404, by the gateway itself/),
  );
});

test('a service that turns strangers away by itself, in the place of the protection, undoes it all', async () => {
  for (const status of [302, 303, 401, 403]) {
    await using world = await setUpPublications();
    Object.assign(world.edge, { status, isOpen: true });
    await assert.rejects(
      world.call('publish_service', { ...blog, protection }),
      failsWith('UPSTREAM_FAILED', /verify failed: .*, by the service; .*to be asked who they are/),
    );
    assert.deepEqual((await world.there()).proxies, []);
  }
});

test('a path that the protection leaves open has to be answered by the service', async () => {
  await using world = await setUpPublications();
  world.edge.isOpen = true;
  const open = { allow: { users: ['ann'] }, public_paths: ['/healthz'] };
  await world.call('publish_service', { ...blog, protection: open, check_path: '/healthz?full' });
  await world.call('unpublish_service', { name: 'blog' });
  await assert.rejects(
    world.call('publish_service', { ...blog, protection: open, check_path: '/healthzz' }),
    failsWith('UPSTREAM_FAILED', /to be asked/),
  );
});

test('a CA that says no undoes it all, and its words and the order are told', async () => {
  await using world = await setUpPublications();
  world.ca.isRefusing = true;
  await assert.rejects(
    world.call('publish_service', blog),
    failsWith('UPSTREAM_FAILED', /certificate failed: .*CAA forbids it; undone: proxy, certificate, service/),
  );
  const found = await world.there();
  assert.deepEqual([found.orders, found.certificates, found.proxies], [[], [], []]);
});

test('an order whose next attempt is later is asked for then and not before; one that is too late undoes it all', async () => {
  await using world = await setUpPublications();
  world.ca.nextAttemptAt = world.clock.now() + 2 * MINUTE;
  await world.call('publish_service', blog);
  assert.equal(world.ca.requests, 2);
  await world.call('unpublish_service', { name: HOST, delete_volumes: true });
  world.ca.requests = 0;
  world.ca.nextAttemptAt = world.clock.now() + 60 * MINUTE;
  await assert.rejects(
    world.call('publish_service', blog),
    failsWith('TIMEOUT', /certificate failed: .*limit of the CA.*undone: proxy, certificate, service/),
  );
  assert.equal(world.ca.requests, 1);
});

test('a service that never answers below 500 is told with its status', async () => {
  await using world = await setUpPublications();
  world.edge.status = 503;
  await assert.rejects(
    world.call('publish_service', { ...blog, healthy_within_ms: 1000 }),
    failsWith('UPSTREAM_FAILED', /answer failed: .*answers \/ with 503.*undone: proxy, service/),
  );
});

test('what was there before stays: volumes, and certificates for the hostname', async () => {
  await using world = await setUpPublications();
  await world.call('publish_service', blog);
  await world.call('unpublish_service', { name: HOST });
  assert.deepEqual((await world.there()).volumes, ['ohp-blog-data']);
  const kept = await world.keepCertificate(HOST);
  world.edge.status = 503;
  await world.call('publish_service', { ...blog, healthy_within_ms: 500 }).catch(() => undefined);
  world.edge.status = 200;
  const plan = await world.call('publish_service', { ...blog, dry_run: true });
  assert.match(effectOf(plan, 'service')?.effect ?? '', /mounts blog-data, which are there and stay/);
  assert.match(effectOf(plan, 'certificate')?.effect ?? '', new RegExp(kept));
  await world.call('publish_service', blog);
  await world.call('unpublish_service', { name: HOST, delete_volumes: true });
  const found = await world.there();
  assert.deepEqual([found.volumes, found.certificates], [['ohp-blog-data'], [`${HOST} acme`]]);
});

test('a certificate that came in the place of one from before stays too, and its renewal goes on', async () => {
  await using world = await setUpPublications();
  const kept = await world.keepCertificate(HOST);
  await world.call('publish_service', blog);
  const renewed = await world.keepCertificate(HOST);
  await world.certificates.remove({ id: kept, version: undefined, force: true }, { principal: admin });
  world.ca.open.push({ id: 'ord_renewal', document: { names: [HOST], replaces: renewed } });
  const told = await world.call('unpublish_service', { name: HOST, dry_run: true });
  assert.match(effectOf(told, 'certificate')?.effect ?? '', /none was made/);
  await world.call('unpublish_service', { name: HOST });
  const found = await world.there();
  assert.deepEqual([found.certificates, found.orders], [[`${HOST} acme`], [HOST]]);
});

test('a cancelled call undoes what it did', async () => {
  await using world = await setUpPublications();
  const cancelling = new AbortController();
  world.onServed(() => cancelling.abort());
  await assert.rejects(
    world.call('publish_service', blog, admin, cancelling.signal),
    failsWith('CANCELLED', /undone: proxy, certificate, service/),
  );
  assert.deepEqual((await world.there()).containers, []);
});

test('the same call with the same key answers the same and makes nothing twice', async () => {
  await using world = await setUpPublications();
  const once = { ...blog, idempotency_key: 'publish-once' };
  const first = await world.call('publish_service', once);
  assert.deepEqual(await world.call('publish_service', once), first);
  assert.ok(world.progress.every(({ progress }, index, all) => progress > (all[index - 1]?.progress ?? 0)));
  assert.ok(!JSON.stringify([first, world.progress]).includes('canary'));
});

test('of two calls for one hostname, or one name, at once one goes through', async () => {
  await using world = await setUpPublications();
  const outcomes = await Promise.allSettled([
    world.call('publish_service', blog),
    world.call('publish_service', blog),
    world.call('publish_service', { ...blog, hostname: 'blog.example.net' }),
  ]);
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') failsWith('CONFLICT', /already/)(outcome.reason);
  const found = await world.there();
  assert.deepEqual([found.containers, found.publications.length], [['blog.1 running'], 1]);
});

test('unpublishing takes what was made here and nothing that came in its place', async () => {
  await using world = await setUpPublications();
  await world.call('publish_service', blog);
  const by = { principal: admin };
  const { target_url } = await world.proxies.get(HOST, by);
  await world.proxies.delete(HOST, undefined, by);
  await world.makeProxy(HOST, 'http://127.0.0.1:3000');
  await world.makeProxy('other.example.com', target_url);
  await assert.rejects(
    world.call('unpublish_service', { name: HOST }),
    failsWith('PRECONDITION_FAILED', /other\.example\.com go to the service blog too/),
  );
  const told = await world.call('unpublish_service', { name: HOST, keep_service: true, dry_run: true });
  assert.equal(told.unpublished, false);
  assert.match(effectOf(told, 'proxy')?.effect ?? '', /not the one that was made here/);
  const { keeper } = world.start();
  await keeper.delete('blog', { force: true, deleteVolumes: false }, by);
  await world.services.call('create_service', {
    name: 'blog',
    image: 'contract/image:test',
    command: ['sleep', '9'],
  });
  await world.call('unpublish_service', { name: HOST });
  const found = await world.there();
  assert.deepEqual(found.proxies, [HOST, 'other.example.com']);
  assert.deepEqual([found.services, found.publications], [['blog done 1'], []]);
  assert.ok(found.certificates.includes(`${HOST} acme`), found.certificates.join());
  await assert.rejects(
    world.call('unpublish_service', { name: HOST }),
    failsWith('NOT_FOUND', /was not made by publish_service.*delete_proxy/),
  );
});

test('the service is kept when it is asked for', async () => {
  await using world = await setUpPublications();
  await world.call('publish_service', blog);
  await world.call('unpublish_service', { name: HOST, keep_service: true });
  const found = await world.there();
  assert.deepEqual(
    [found.services, found.volumes, found.proxies, found.certificates],
    [['blog done 1'], ['ohp-blog-data'], [], []],
  );
});
