import assert from 'node:assert/strict';
import test from 'node:test';
import { openWorld } from './ordering.fixture.ts';

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
  const opened = await issuance.orders.open({
    names: wanted,
    issuer: 'ca',
    keyType: 'p256',
    reason: 'served',
    replaces: undefined,
    urgency: 1,
  });
  const input = { names: wanted, idempotency_key: 'request-0001' };
  assert.equal((await call('request_certificate', input)).id, opened.id);
  assert.equal((await call('request_certificate', input)).id, opened.id);
  assert.equal(ca.orders.size, 1);
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
