import assert from 'node:assert/strict';
import test from 'node:test';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { problem, unreachable } from './fake-ca.fixture.ts';
import { issuer, openWorld } from './ordering.fixture.ts';
import { urgency } from './order-schema.ts';
import type { NewOrderRow } from './orders.ts';
import { eventually } from '../../test/support/eventually.ts';

/** `directory`: unknown of an order that an older version made. */
const servedOrder = (names: readonly string[], directory?: string): NewOrderRow => ({
  names,
  issuer: issuer.name,
  ...(directory !== undefined && { directory }),
  keyType: 'p256',
  reason: 'served',
  replaces: undefined,
  profile: undefined,
  owner: undefined,
  urgency: urgency.served,
});

test('request_certificate repeated with its idempotency key is the same order, also when that is over and after a restart', async (t) => {
  const { ca, start } = await openWorld(t);
  const input = { names: ['a.company.io'], idempotency_key: 'request-0001' };
  const one = await start();
  const first = await one.call('request_certificate', input);
  assert.equal(first.state, 'issued');
  assert.equal((await one.call('request_certificate', input)).id, first.id);
  await one.stop();
  const two = await start();
  assert.equal((await two.call('request_certificate', input)).id, first.id);
  assert.equal(ca.orders.size, 1);
  await assert.rejects(
    two.call('request_certificate', { ...input, names: ['b.company.io'] }),
    /idempotency_key was used with other arguments/,
  );
  const { id } = await two.call('request_certificate', { ...input, idempotency_key: 'request-0002' });
  assert.notEqual(id, first.id);
  assert.equal(ca.orders.size, 2);
});

test('the key of a request that found an open order is kept too', async (t) => {
  const { ca, start, wanted } = await openWorld(t, { wanted: ['a.company.io'] });
  const { issuance, call } = await start();
  const opened = await issuance.orders.open(servedOrder(wanted));
  const input = { names: wanted, idempotency_key: 'request-0001' };
  assert.equal((await call('request_certificate', input)).id, opened.id);
  assert.equal((await call('request_certificate', input)).id, opened.id);
  assert.equal(ca.orders.size, 1);
});

test('an order that is open goes to the CA that somebody asks for by name', async (t) => {
  const second = { ...issuer, name: 'second', directoryUrl: 'https://second.test/dir' };
  const { start } = await openWorld(t, { issuers: [issuer, second] });
  const { issuance, call } = await start();
  const { id } = await issuance.orders.open(servedOrder(['a.company.io'], issuer.directoryUrl));
  const order = await call('request_certificate', { names: ['a.company.io'], issuer: 'second' });
  assert.deepEqual([order.id, order.state, order.issuer], [id, 'issued', 'second']);
  assert.equal((await issuance.orders.get(id))?.document.directory, second.directoryUrl);
});

test('who asks by hand for a name whose order waits behind others is served before them', async (t) => {
  const wanted = Array.from({ length: 20 }, (_, index) => `host-${index}.company.io`);
  const { ca, start } = await openWorld(t, { wanted });
  const { issuance, call } = await start();
  for (const name of wanted) await issuance.orders.open(servedOrder([name], issuer.directoryUrl));
  const last = wanted.at(-1) ?? '';
  assert.equal((await call('request_certificate', { names: [last] })).state, 'issued');
  assert.deepEqual(ca.asked[0]?.names, [last]);
  await issuance.settle();
  assert.equal(ca.orders.size, wanted.length);
});

test('a certificate of a CA in use is deleted only by force; the internal CA serves until the next one is there', async (t) => {
  const { ca, start } = await openWorld(t, { wanted: ['a.company.io'] });
  const { issuance, certificates, call } = await start();
  await issuance.tick();
  await issuance.settle();
  const { id } = certificates.inUse('a.company.io') ?? {};
  await assert.rejects(call('delete_certificate', { id }), /in use by a\.company\.io; with force: true/);
  assert.equal(certificates.inUse('a.company.io')?.id, id);
  await call('delete_certificate', { id, force: true });
  assert.ok(await certificates.select('a.company.io'));
  assert.equal(certificates.inUse('a.company.io')?.source, 'internal');
  await issuance.tick();
  await issuance.settle();
  const next = certificates.inUse('a.company.io');
  assert.equal(next?.source, 'acme');
  assert.notEqual(next?.id, id);
  assert.equal(ca.orders.size, 2);
});

test('what was asked for at a CA by name, with a key, is renewed there with such a key, twice', async (t) => {
  const second = { ...issuer, name: 'second', directoryUrl: 'https://second.test/dir' };
  const { start, clock } = await openWorld(t, { issuers: [issuer, second], wanted: ['a.company.io'] });
  const { issuance, call } = await start();
  await call('request_certificate', { names: ['a.company.io'], issuer: 'second', key_type: 'p384' });
  const made = async () => {
    const [order] = await issuance.orders.latest(1);
    return [order?.document.reason, order?.document.issuer, order?.document.key_type];
  };
  assert.deepEqual(await made(), ['requested', 'second', 'p384']);
  for (let renewals = 0; renewals < 2; renewals++) {
    clock.advance(70 * DAY);
    await issuance.tick();
    await issuance.settle();
    const [order] = await issuance.orders.latest(1);
    assert.deepEqual([order?.state, ...(await made())], ['issued', 'renewal', 'second', 'p384']);
  }
  const [last] = await issuance.orders.latest(1);
  const byHand = await call('renew_certificate', { id: last?.certificateId });
  assert.deepEqual([byHand.state, byHand.issuer], ['issued', 'second']);
});

for (const when of ['before', 'after'] as const)
  test(`what is to be revoked is not served any more, also when the reply is lost ${when} the CA acted and the process ends there: the CA is asked again`, async (t) => {
    let isAway = true;
    const { ca, start, clock } = await openWorld(t, {
      wanted: ['a.company.io'],
      trouble: (what, at) => {
        if (what === 'revoke' && at === when && isAway) throw unreachable();
      },
    });
    const one = await start();
    await one.issuance.tick();
    await one.issuance.settle();
    const { id } = one.certificates.inUse('a.company.io') ?? {};
    assert.ok(id);
    await assert.rejects(one.call('revoke_certificate', { id }), {
      code: 'UPSTREAM_FAILED',
      message: /is not served any more, and its CA is asked again/,
    });
    assert.notEqual(one.certificates.inUse('a.company.io')?.id, id);
    assert.equal((await one.call('get_certificate', { id })).revoking, 'unspecified');
    await one.stop();
    isAway = false;
    const two = await start();
    assert.notEqual(two.certificates.inUse('a.company.io')?.id, id);
    await two.issuance.tick();
    await two.issuance.settle();
    assert.equal(ca.revoked.length, when === 'before' ? 1 : 2);
    assert.equal(two.certificates.entry(id), undefined);
    clock.advance(HOUR);
    await two.issuance.tick();
    await two.issuance.settle();
    assert.equal(two.certificates.inUse('a.company.io')?.source, 'acme');
    assert.equal(ca.revoked.length, when === 'before' ? 1 : 2);
  });

test('what the CA refuses to revoke is served as before', async (t) => {
  const { ca, start } = await openWorld(t, {
    wanted: ['a.company.io'],
    trouble: (what) => {
      if (what === 'revoke') throw problem('unauthorized', 403);
    },
  });
  const one = await start();
  await one.issuance.tick();
  await one.issuance.settle();
  const { id } = one.certificates.inUse('a.company.io') ?? {};
  await assert.rejects(one.call('revoke_certificate', { id }), /is not revoked/);
  await one.issuance.tick();
  await one.issuance.settle();
  assert.equal(one.certificates.inUse('a.company.io')?.id, id);
  assert.equal(ca.orders.size, 1);
});

/** Names ordered one after the other, each with the account as it is then. */
const orderOf = (one: Started, name: string) => one.call('request_certificate', { names: [name] });
type Started = Awaited<ReturnType<Awaited<ReturnType<typeof openWorld>>['start']>>;
const rotate = (one: Started) => one.call('rotate_acme_account_key', { issuer: 'ca' });
const keysOf = ({ database }: Started) =>
  database.read.selectFrom('acme_accounts').selectAll().executeTakeFirstOrThrow();

test('the key of the account is changed, and what is ordered before and after is of the same account', async (t) => {
  const { ca, start } = await openWorld(t);
  const one = await start();
  await assert.rejects(rotate(one), /there is no account at ca yet/);
  await orderOf(one, 'a.company.io');
  const before = await keysOf(one);
  const { account_url: url, thumbprint } = await rotate(one);
  const after = await keysOf(one);
  assert.equal(after.url, before.url);
  assert.equal(url, before.url);
  assert.notEqual(after.key_sealed, before.key_sealed);
  assert.equal(after.next_key_sealed, null);
  assert.notEqual((await rotate(one)).thumbprint, thumbprint);
  await one.stop();
  assert.equal((await orderOf(await start(), 'b.company.io')).state, 'issued');
  assert.equal(ca.accounts, 1);
});

for (const when of ['before', 'after'] as const)
  test(`a change of keys whose reply is lost, ${when} the CA acted, and a process that ends there: the key that is valid is found out`, async (t) => {
    let lost: string[] = [];
    const { ca, start } = await openWorld(t, {
      trouble: (what, at) => {
        if (what !== 'keyChange' && lost.includes(what)) throw unreachable();
        if (what !== 'keyChange' || at !== when || !lost.includes(what)) return;
        throw unreachable();
      },
    });
    const one = await start();
    await orderOf(one, 'a.company.io');
    // Nor can it be asked which key it has.
    lost = ['keyChange', 'newAccount'];
    await assert.rejects(rotate(one), /whether the account at ca has its new key is looked at before/);
    assert.notEqual((await keysOf(one)).next_key_sealed, null);
    await one.stop();
    lost = [];
    const two = await start();
    assert.equal((await orderOf(two, 'b.company.io')).state, 'issued');
    // The CA that never heard of it may do so yet: the key is kept until it is used.
    assert.equal((await keysOf(two)).next_key_sealed === null, when === 'after');
    await rotate(two);
    assert.equal((await keysOf(two)).next_key_sealed, null);
    assert.equal((await orderOf(two, 'c.company.io')).state, 'issued');
    assert.equal(ca.accounts, 1);
  });

test('a change of keys waits for orders at its CA only, and says so when they take too long', async (t) => {
  const second = { ...issuer, name: 'second', directoryUrl: 'https://second.test/dir' };
  const hanging = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const { ca, start, clock } = await openWorld(t, { issuers: [issuer, second] });
  const client = ca.client();
  const one = await start();
  await orderOf(one, 'a.company.io');
  const { getAuthorization } = client;
  ca.client = () => ({
    ...client,
    getAuthorization: async (...args) => {
      begun.resolve();
      await hanging.promise;
      return getAuthorization(...args);
    },
  });
  await one.stop();
  const two = await start();
  await two.issuance.request({
    names: ['b.company.io'],
    issuer: 'ca',
    owner: undefined,
    reason: 'requested',
  });
  await begun.promise;
  await assert.rejects(two.call('rotate_acme_account_key', { issuer: 'second' }), /no account at second yet/);
  let isOver = false;
  const rotated = assert
    .rejects(rotate(two), { code: 'TIMEOUT', message: /orders at ca were under way/ })
    .finally(() => (isOver = true));
  // It looks into the store before it begins to wait.
  await eventually(async () => {
    clock.advance(MINUTE);
    return isOver || undefined;
  }, 'the end of its patience');
  await rotated;
  hanging.resolve();
  await two.issuance.settle();
});

test('a lost reply of a CA that can be asked afterwards is no failure', async (t) => {
  let isLost = true;
  const { start } = await openWorld(t, {
    trouble: (what, when) => {
      if (what === 'keyChange' && when === 'after' && isLost) throw unreachable();
    },
  });
  const one = await start();
  await orderOf(one, 'a.company.io');
  const { key_sealed: before } = await keysOf(one);
  await rotate(one);
  assert.notEqual((await keysOf(one)).key_sealed, before);
  isLost = false;
  assert.equal((await orderOf(one, 'b.company.io')).state, 'issued');
});

test('a CA that refuses another key is told so in its words, and the old one stays', async (t) => {
  const { start } = await openWorld(t, {
    trouble: (what) => {
      if (what === 'keyChange') throw problem('unauthorized', 403);
    },
  });
  const one = await start();
  await orderOf(one, 'a.company.io');
  const before = await keysOf(one);
  await assert.rejects(rotate(one), { code: 'UPSTREAM_FAILED' });
  assert.deepEqual(await keysOf(one), before);
  assert.equal((await orderOf(one, 'b.company.io')).state, 'issued');
});

test('an account that the CA does not know any more is made anew, once, and with another key', async (t) => {
  const { ca, start, clock } = await openWorld(t);
  const one = await start();
  await orderOf(one, 'a.company.io');
  const before = await keysOf(one);
  ca.forgetAccounts();
  await Promise.all(['b', 'c', 'd'].map((name) => orderOf(one, `${name}.company.io`)));
  clock.advance(2 * HOUR);
  await one.issuance.tick();
  await one.issuance.settle();
  for (const name of ['b', 'c', 'd']) assert.ok(one.certificates.serving(`${name}.company.io`), name);
  const after = await keysOf(one);
  assert.notEqual(after.key_sealed, before.key_sealed);
  assert.equal(ca.accounts, 2);
});

test('the CA and the key that are asked for hold for the order that is open, too', async (t) => {
  let isAway = true;
  const { ca, start, records } = await openWorld(t, {
    issuers: [issuer, { ...issuer, name: 'office', directoryUrl: 'https://office.test/dir' }],
    trouble: (what) => {
      if (isAway && what === 'newOrder') throw unreachable();
    },
  });
  const { call, issuance } = await start();
  const names = ['a.company.io'];
  const first = await call('request_certificate', { names });
  assert.equal(first.state, 'sending');
  await issuance.orders.claim(String(first.id));
  await assert.rejects(call('request_certificate', { names, key_type: 'p384' }), {
    code: 'CONFLICT',
    message: /ord_\w+ is under way for these names, at ca with a key of the type p256/,
  });
  await issuance.orders.release(String(first.id));
  isAway = false;
  const second = await call('request_certificate', { names, key_type: 'p384', issuer: 'office' });
  assert.deepEqual(
    [second.id, second.state, second.issuer],
    [first.id, 'issued', 'office'],
    JSON.stringify(records.at(-1)),
  );
  const { namedCurve } = ca.certificates()[0]?.publicKey.asymmetricKeyDetails ?? {};
  assert.equal(namedCurve, 'secp384r1');
});
