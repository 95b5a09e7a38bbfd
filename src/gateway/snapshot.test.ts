import assert from 'node:assert/strict';
import test from 'node:test';
import { AppError } from '../core/errors.ts';
import { matchRequest } from '../routes/match.ts';
import { caPem, proxyOf, routeOf } from '../../test/support/gateway.ts';
import { noServices } from '../proxies/target-url.ts';
import { ManualClock } from '../core/clock.ts';
import { Balancers } from './balancing.ts';
import { Snapshots } from './snapshot.ts';

const target = 'http://localhost:3000';
const balancers = () =>
  new Balancers({
    clock: new ManualClock(),
    log: { enabled: () => false, write: () => {} },
    upstreams: { of: () => assert.fail('nothing is asked here') },
    services: noServices,
    mark: () => assert.fail('nothing is pinned here'),
  });
const make = () =>
  new Snapshots({
    loopToken: 'ohp-1',
    own: () => [{ address: '127.0.0.1', port: 8443 }],
    balancers: balancers(),
    services: noServices,
  });
const served = (snapshots: Snapshots, hostname: string) =>
  matchRequest(snapshots.current.table, hostname, 'GET', '/');

test('a change is seen when it is published, and a snapshot that was taken stays as it was', () => {
  const snapshots = make();
  const before = snapshots.current;
  const prepared = snapshots.prepare({ putProxies: [proxyOf('a.example.com', target)] });
  assert.equal(served(snapshots, 'a.example.com'), undefined);
  prepared.publish();
  assert.ok(served(snapshots, 'a.example.com'));
  assert.equal(matchRequest(before.table, 'a.example.com', 'GET', '/'), undefined);
  assert.ok(Object.isFrozen(snapshots.current));
});

test('changes that were prepared side by side are both served', () => {
  const snapshots = make();
  const one = snapshots.prepare({ putProxies: [proxyOf('a.example.com', target)] });
  const two = snapshots.prepare({ putProxies: [proxyOf('b.example.com', target)] });
  two.publish();
  one.publish();
  assert.ok(served(snapshots, 'a.example.com') && served(snapshots, 'b.example.com'));
});

test('a change that could not be served is refused with the reason, and changes nothing', () => {
  const snapshots = make();
  const bad = {
    'metadata service': { target_url: 'http://169.254.169.254/' },
    'by this system': { target_url: 'https://localhost:8443' },
  };
  for (const [reason, settings] of Object.entries(bad))
    assert.throws(
      () => snapshots.prepare({ putProxies: [proxyOf('a.example.com', target, settings)] }),
      (error) =>
        error instanceof AppError &&
        error.code === 'PRECONDITION_FAILED' &&
        new RegExp(reason).test(error.message),
      reason,
    );
  assert.throws(
    () => snapshots.prepare({ putRoutes: [routeOf(null, '/x', 'http://[fe80::1]/')] }),
    /link-local/,
  );
  assert.equal(snapshots.current.generation, 0);
});

test('a plan is made once for a match, and again when its proxy changed', () => {
  const snapshots = make();
  const proxy = proxyOf('a.example.com', 'https://back.example.org:9000/base/', { preserve_host: false });
  snapshots.load([proxy], []);
  const match = served(snapshots, 'a.example.com')!;
  const plan = snapshots.planOf(match);
  assert.equal(snapshots.planOf(served(snapshots, 'a.example.com')!), plan);
  assert.deepEqual(
    [plan.headers.host, plan.target.hostname, plan.target.port, plan.target.isEncrypted],
    ['back.example.org:9000', 'back.example.org', 9000, true],
  );
  snapshots.prepare({ putProxies: [{ ...proxy, preserve_host: true, version: 2 }] }).publish();
  const next = snapshots.planOf(served(snapshots, 'a.example.com')!);
  assert.notEqual(next, plan);
  assert.equal(next.headers.host, undefined);
});

test('targets that trust differently share no connection', () => {
  const snapshots = make();
  const url = 'https://back.example.org';
  const settings = [
    {},
    { verify_upstream_tls: false },
    { upstream_ca_pem: caPem },
    { connect_timeout_ms: 1 },
  ];
  snapshots.load(
    settings.map((more, i) => proxyOf(`h${i}.example.com`, url, more)),
    [],
  );
  const keys = settings.map((_, i) => snapshots.planOf(served(snapshots, `h${i}.example.com`)!).target.key);
  assert.equal(new Set(keys).size, settings.length);
});

test('an edit touches none of ten thousand other hosts', () => {
  const snapshots = make();
  const proxies = Array.from({ length: 10_000 }, (_, i) => proxyOf(`h${i}.example.com`, target));
  snapshots.load(proxies, []);
  const before = proxies.slice(1, 100).map(({ hostname }) => served(snapshots, hostname));
  snapshots.prepare({ putProxies: [{ ...proxies[0]!, version: 2 }] }).publish();
  assert.deepEqual(
    proxies.slice(1, 100).map(({ hostname }, i) => served(snapshots, hostname) === before[i]),
    before.map(() => true),
  );
});
