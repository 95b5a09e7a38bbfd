/** An order that somebody asked for by hand ends when they say so; what the CA signed meanwhile is kept. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { system } from '../core/principal.ts';
import { problem, unreachable } from './fake-ca.fixture.ts';
import { issuer, openWorld } from './ordering.fixture.ts';

const TURNS = 500;
const NAME = 'a.company.io';
type Started = Awaited<ReturnType<Awaited<ReturnType<typeof openWorld>>['start']>>;

const request = ({ call }: Started) => call('request_certificate', { names: [NAME] });
const cancel = ({ call }: Started, id: unknown) => call('cancel_certificate_order', { id });
const lastText = (order: { timeline?: unknown }) =>
  String((order.timeline as { text: string }[]).at(-1)?.text);

test('an order that failed and waits ends when it is cancelled, says so, and is not tried again; cancelled again it is the same', async (t) => {
  const { ca, clock, start } = await openWorld(t, {
    trouble: (what) => {
      if (what === 'newOrder') throw problem('rejectedIdentifier', 400);
    },
  });
  const one = await start();
  const { id, state } = await request(one);
  assert.equal(state, 'waiting');
  const cancelled = await cancel(one, id);
  assert.deepEqual([cancelled.state, lastText(cancelled)], ['abandoned', 'somebody cancelled it']);
  assert.deepEqual(await cancel(one, id), cancelled);
  const { requests } = ca;
  clock.advance(DAY);
  await one.issuance.tick();
  await one.issuance.settle();
  assert.equal(ca.requests, requests);
  assert.notEqual((await request(one)).id, id);
});

for (const signed of [true, false])
  test(`an order whose CA ${signed ? 'signed, but for a reply that was lost,' : 'was never asked to sign'} is looked at there after a restart, and ${signed ? 'its certificate is kept' : 'ends'}`, async (t) => {
    let isAway = true;
    let isAsked = false;
    const { start, clock, ca } = await openWorld(t, {
      trouble: (what, when) => {
        isAsked ||= what === 'finalize' && when === (signed ? 'after' : 'before');
        if (isAway && isAsked) throw unreachable();
      },
    });
    const one = await start();
    const { id } = await request(one);
    const before = await one.issuance.orders.get(id as string);
    assert.equal(before?.state, 'ordered');
    assert.ok(before.document.events.every(({ kind }) => kind !== 'signed'));
    assert.equal(ca.orders.get('https://ca.test/order/0')?.chainPem !== undefined, signed);
    const asked = await one.issuance.cancel(id as string, new AbortController().signal);
    assert.deepEqual([asked?.state, asked?.document.cancelled], ['ordered', true]);
    await one.issuance.settle();
    await assert.rejects(request(one), { code: 'CONFLICT' });
    await one.stop();
    isAway = false;
    clock.advance(HOUR);
    const two = await start();
    await two.issuance.tick();
    await two.issuance.settle();
    const over = await cancel(two, id);
    assert.equal(over.state, signed ? 'issued' : 'abandoned');
    assert.equal(over.certificate_id !== undefined, signed);
  });

for (const [what, state] of [
  ['challenge', 'abandoned'],
  ['finalize', 'issued'],
] as const)
  test(`cancelled while it is worked on, at the ${what}, an order ends as ${state}`, async (t) => {
    let cancelling: Promise<Record<string, unknown>> | undefined;
    let one: Started | undefined;
    const { start, ca } = await openWorld(t, {
      trouble: async (step, when, signal) => {
        if (step !== what || when !== 'before' || cancelling || !one || !signal) return;
        const { issuance, call } = one;
        cancelling = issuance.orders
          .latest(1)
          .then(([order]) => call('cancel_certificate_order', { id: order?.id }));
        // Long enough for it to come here; what is to be signed is not stopped by it.
        for (let turns = 0; turns < TURNS && !signal.aborted; turns++) await setImmediate();
      },
    });
    one = await start();
    await request(one);
    assert.equal((await cancelling)?.state, state);
    assert.equal([...ca.orders.values()][0]?.chainPem !== undefined, state === 'issued');
  });

test('who is confined cancels orders whose names are all theirs, and hears of no other; what is ordered unasked can not be cancelled', async (t) => {
  const { start } = await openWorld(t, {
    wanted: ['served.company.io'],
    trouble: (what) => {
      if (what === 'newOrder') throw problem('rejectedIdentifier', 400);
    },
  });
  const one = await start();
  const { id } = await one.call('request_certificate', { names: [NAME, 'b.company.io'] });
  const by = (...hostnames: string[]) => ({ principal: { ...system, id: 'tok_1', hostnames } });
  const ask = (...hostnames: string[]) => one.call('cancel_certificate_order', { id }, by(...hostnames));
  await assert.rejects(ask(NAME), { code: 'NOT_FOUND' });
  await assert.rejects(one.call('cancel_certificate_order', { id: 'ord_none' }), { code: 'NOT_FOUND' });
  assert.equal((await ask(NAME, 'b.company.io')).state, 'abandoned');
  await one.issuance.tick();
  await one.issuance.settle();
  const [served] = await one.issuance.orders.ofName('served.company.io', 1);
  assert.equal(served?.document.issuer, issuer.name);
  await assert.rejects(cancel(one, served.id), { code: 'PRECONDITION_FAILED', message: /is served/ });
});

/** A CA that is asked to sign until `done`, and an order that is there by then. */
async function signing(t: TestContext, then?: () => never) {
  const asked = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  const world = await openWorld(t, {
    trouble: async (step, when) => {
      if (step !== 'finalize' || when !== 'before') return;
      asked.resolve();
      await done.promise;
      then?.();
    },
  });
  t.after(() => done.resolve());
  const one = await world.start();
  const requested = request(one);
  await asked.promise;
  const [order] = await one.issuance.orders.latest(1);
  assert.ok(order);
  return { ...world, one, requested, id: order.id, done };
}

test('two who cancel an order at once are told the same, and it is not begun with between them', async (t) => {
  let orders = 0;
  const { start, ca } = await openWorld(t, {
    trouble: async (step, when, signal) => {
      if (step !== 'newOrder' || when !== 'before') return;
      orders++;
      reached.resolve();
      if (signal) await aborted(signal);
    },
  });
  const reached = Promise.withResolvers<void>();
  const one = await start();
  const requested = request(one);
  await reached.promise;
  const [order] = await one.issuance.orders.latest(1);
  const [first, second] = await Promise.all([cancel(one, order?.id), cancel(one, order?.id)]);
  assert.equal(first.state, 'abandoned');
  assert.deepEqual(second, first);
  await requested;
  await one.issuance.settle();
  assert.deepEqual([orders, ca.orders.size], [1, 0]);
});

test('who cancels waits a minute at most, and the order ends all the same when its step is over', async (t) => {
  const { one, clock, id, done, requested } = await signing(t);
  const cancelling = assert.rejects(cancel(one, id), { code: 'TIMEOUT', message: /is not broken off/ });
  // The call has its timer once the order was read.
  for (let turns = 0; turns < TURNS; turns++) await setImmediate();
  clock.advance(MINUTE);
  await cancelling;
  done.resolve();
  await requested;
  await one.issuance.settle();
  assert.equal((await cancel(one, id)).state, 'issued');
});

test('what fails after somebody cancelled is told as a failure', async (t) => {
  const { one, id, done } = await signing(t, () => {
    throw problem('badCSR', 400);
  });
  const cancelling = cancel(one, id);
  for (let turns = 0; turns < TURNS; turns++) await setImmediate();
  done.resolve();
  const { timeline } = (await cancelling) as { timeline: { event: string; problem?: string }[] };
  assert.deepEqual(
    timeline.slice(-2).map(({ event, problem: kind }) => [event, kind]),
    [
      ['failed', 'badCSR'],
      ['ended', undefined],
    ],
  );
});

test('an order that is over tells how it ended, whatever it was ordered for', async (t) => {
  const { start } = await openWorld(t, { wanted: [NAME] });
  const one = await start();
  await one.issuance.tick();
  await one.issuance.settle();
  const [order] = await one.issuance.orders.ofName(NAME, 1);
  assert.equal(order?.document.reason, 'served');
  assert.equal((await cancel(one, order.id)).state, 'issued');
});

for (const broken of ['get', 'step'] as const)
  test(`a store that fails at the ${broken} of an end leaves the order to be ended again at once`, async (t) => {
    const { start } = await openWorld(t, {
      trouble: (what) => {
        if (what === 'newOrder') throw problem('rejectedIdentifier', 400);
      },
    });
    const one = await start();
    const { id } = await request(one);
    const { orders } = one.issuance;
    t.mock.method(orders, broken, () => Promise.reject(new Error('the disk is full')), { times: 1 });
    await assert.rejects(one.issuance.cancel(id as string, new AbortController().signal), /disk is full/);
    assert.equal((await cancel(one, id)).state, 'abandoned');
  });

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
