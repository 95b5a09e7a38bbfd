/** Certificates for names that strangers come for: the rule first, then the budgets, once for each name, never without a bound. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import test, { type TestContext } from 'node:test';
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import { coversHostname } from '../core/hostname.ts';
import { type Principal, system } from '../core/principal.ts';
import { engine, silent, turn, world } from './engine.fixture.ts';
import { type FakeCaOptions, problem } from './fake-ca.fixture.ts';
import {
  ASKS_PER_MINUTE,
  MAX_ASKING_BELOW_ONE,
  MAX_WAITING,
  OnDemand,
  type OnDemandRule,
} from './on-demand.ts';
import { OrderingService } from './ordering.ts';

const WILDCARD = '*.company.io';
const OTHER = '*.other.io';
const RULE: OnDemandRule = {
  allow: [WILDCARD, OTHER],
  ask: undefined,
  perMinute: 1000,
  perWildcardAndDay: 1000,
  perDomainAndDay: 1000,
};

async function edge(
  t: TestContext,
  rule: Partial<OnDemandRule> = {},
  {
    ownerBudget,
    ...options
  }: Partial<FakeCaOptions> & { ownerBudget?: { perDay: number; perWeek: number } } = {},
) {
  const { clock, folder, database, ca } = await world(t, options);
  const whole = { ...RULE, ...rule };
  const servedName = (name: string) => (coversHostname(WILDCARD, name) ? WILDCARD : undefined);
  let onDemand: OnDemand | undefined;
  const wanted = {
    *[Symbol.iterator]() {
      yield WILDCARD;
      yield* onDemand?.wanted() ?? [];
    },
  };
  const one = await engine(folder, {
    clock,
    ca: () => ca,
    database,
    wanted,
    onDemand: whole,
    servedName,
    mayRenew: (name) => name === WILDCARD || (onDemand?.mayRenew(name) ?? false),
    ...(ownerBudget && { ownerBudget, payerOf: () => 'tok_owner' }),
  });
  onDemand = new OnDemand({
    database,
    clock,
    log: silent,
    rule: whole,
    issuance: one.issuance,
    shelf: one.certificates,
    dns01: undefined,
    fetch,
    choiceOf: () => undefined,
  });
  const made = onDemand;
  t.after(async () => {
    await made[Symbol.asyncDispose]();
    await one[Symbol.asyncDispose]();
  });
  const come = (name: string, wildcard = WILDCARD) => made.certificate(name, wildcard);
  const { issuance, certificates } = one;
  const ordering = new OrderingService({
    clock,
    issuance,
    certificates,
    servedName,
    dns01: undefined,
    onDemand: made,
    payer: () => undefined,
  });
  const explain = (hostname: string, principal: Principal = system) =>
    ordering.explain({ hostname, isChecked: false }, { principal, signal: new AbortController().signal });
  return { clock, ca, one, onDemand: made, come, explain, database };
}

const SILENCE = 0;
/** The service has the question, and gives no answer while the test goes on. */
const SLOW = 1;
/** Allowed, with a body that does not end. */
const STALLS = 2;

async function asked(t: TestContext, answer: (domain: string) => number) {
  const questions: string[] = [];
  const server: Server = createServer(({ url = '' }, response) => {
    const domain = new URL(url, 'http://ask.test').searchParams.get('domain') ?? '';
    questions.push(domain);
    const status = answer(domain);
    if (status === SILENCE) return void response.destroy();
    if (status === SLOW) return;
    if (status === STALLS) return void response.writeHead(200).write('and');
    response.writeHead(status, status === 302 ? { location: '/yes?domain=yes' } : {}).end('no');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close().closeAllConnections());
  return { questions, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/may?key=1` };
}

test('whoever comes for a name that is allowed waits and gets its certificate, by one order however many come at once', async (t) => {
  const { ca, come } = await edge(t);
  const entries = await Promise.all(Array.from({ length: 20 }, () => come('a.company.io')));
  assert.equal(new Set(entries.map((entry) => entry?.id)).size, 1);
  assert.deepEqual(entries[0]?.names, ['a.company.io']);
  assert.equal(ca.orders.size, 1);
});

test('a name that is not in the list, and one that the service refuses, get none; the service is asked once in a while', async (t) => {
  const { questions, url } = await asked(t, (domain) => (domain === 'yes.company.io' ? 204 : 404));
  const { ca, come, clock } = await edge(t, { allow: ['yes.company.io', 'no.company.io'], ask: url });
  for (let i = 0; i < 3; i++) {
    assert.equal(await come('other.company.io'), undefined);
    assert.equal(await come('no.company.io'), undefined);
  }
  assert.ok(await come('yes.company.io'));
  assert.deepEqual(questions, ['no.company.io', 'yes.company.io']);
  clock.advance(2 * MINUTE);
  assert.equal(await come('no.company.io'), undefined);
  assert.equal(questions.length, 3);
  assert.equal(ca.orders.size, 1);
});

test('a service that is away, redirects or fails allows nothing', async (t) => {
  const { url, server } = await asked(t, (domain) => (domain.startsWith('r') ? 302 : 500));
  const { ca, come } = await edge(t, { allow: undefined, ask: url });
  assert.equal(await come('redirected.company.io'), undefined);
  assert.equal(await come('failed.company.io'), undefined);
  server.close().closeAllConnections();
  assert.equal(await come('away.company.io'), undefined);
  assert.equal(ca.orders.size, 0);
});

test('thousands of names at once: the CA sees no more than the minute allows one wildcard, and the store holds no more orders', async (t) => {
  const { ca, come, database, clock } = await edge(t, { perMinute: 9 });
  const names = (from: number) => Array.from({ length: 3000 }, (_, i) => `x${from + i}.company.io`);
  await Promise.all(names(0).map((name) => come(name)));
  for (const name of names(3000).slice(0, 300)) await come(name);
  assert.equal(ca.orders.size, 5);
  const { length } = await database.read.selectFrom('certificate_orders').select('id').execute();
  assert.equal(length, 5);
  clock.advance(MINUTE);
  await Promise.all(names(6000).map((name) => come(name)));
  assert.equal(ca.orders.size, 10);
  assert.ok(MAX_WAITING < 3000);
});

test('strangers below one wildcard take half of what a minute allows, of orders and of questions to the service: those below another have theirs', async (t) => {
  const { questions, url } = await asked(t, (domain) => (domain.startsWith('no') ? 404 : 204));
  const { ca, come, explain, clock } = await edge(t, { perMinute: 4, ask: url });
  for (let i = 0; i < 4; i++) await come(`a${i}.company.io`);
  assert.equal(ca.orders.size, 2);
  assert.match((await explain('b.company.io')).on_demand?.why_not ?? '', /half of it below one wildcard/);
  for (let i = 0; i < 4; i++) await come(`a${i}.other.io`, OTHER);
  assert.equal(ca.orders.size, 4);
  clock.advance(2 * MINUTE);
  const before = questions.length;
  for (let i = 0; i < ASKS_PER_MINUTE; i++) await come(`no${i}.company.io`);
  assert.equal(questions.length - before, ASKS_PER_MINUTE / 2);
  assert.ok(await come('b.other.io', OTHER));
});

for (const [what, rule] of [
  ['of a wildcard', { perWildcardAndDay: 2 }],
  ['of a registered domain', { perDomainAndDay: 2 }],
] as const)
  test(`the budget ${what} holds, and has room again the next day`, async (t) => {
    const { ca, come, clock } = await edge(t, rule);
    for (const name of ['a', 'b', 'c', 'd']) await come(`${name}.company.io`);
    assert.equal(ca.orders.size, 2);
    clock.advance(DAY + MINUTE);
    assert.ok(await come('c.company.io'));
  });

test('what strangers come for takes nothing of the budget of the owner of the wildcard', async (t) => {
  const { one, come, clock } = await edge(t, {}, { ownerBudget: { perDay: 1, perWeek: 1 } });
  for (const name of ['a', 'b', 'c']) assert.ok(await come(`${name}.company.io`));
  assert.ok((await one.issuance.ownerRoomAt('tok_owner')) <= clock.now());
});

/** With a CA that refuses every order. `refused`: how many. */
async function refusingEdge(t: TestContext) {
  let refusals = 0;
  const trouble = (what: string) => {
    if (what !== 'newOrder') return;
    refusals++;
    throw problem('rejectedIdentifier', 400);
  };
  return { ...(await edge(t, {}, { trouble })), refused: () => refusals };
}

test('who comes for a name that was ordered by hand and waits after a failure brings nothing forward, and does not wait', async (t) => {
  const { one, come, clock, refused } = await refusingEdge(t);
  const { id } = await one.issuance.request({
    names: ['a.company.io'],
    issuer: 'ca',
    owner: undefined,
    wildcard: undefined,
    reason: 'requested',
  });
  await one.issuance.settle();
  const held = await one.issuance.orders.get(id);
  assert.equal(refused(), 1);
  clock.advance(10 * MINUTE);
  assert.equal(await come('a.company.io'), undefined);
  await one.issuance.settle();
  assert.equal(refused(), 1);
  assert.equal((await one.issuance.orders.get(id))?.nextAttemptAt, held?.nextAttemptAt);
});

test('who comes while an order by hand is worked on gets what comes of it', async (t) => {
  const { one, come, ca } = await edge(t);
  await one.issuance.request({
    names: ['a.company.io'],
    issuer: 'ca',
    owner: undefined,
    wildcard: undefined,
    reason: 'requested',
  });
  assert.deepEqual((await come('a.company.io'))?.names, ['a.company.io']);
  assert.equal(ca.orders.size, 1);
});

test('whoever waited leaves no listener behind', async (t) => {
  const { come } = await edge(t);
  const added = t.mock.method(EventTarget.prototype, 'addEventListener');
  const removed = t.mock.method(EventTarget.prototype, 'removeEventListener');
  for (let i = 0; i < 5; i++) assert.ok(await come(`x${i}.company.io`));
  const live = new Map<unknown, Set<unknown>>();
  for (const { this: target, arguments: args } of added.mock.calls)
    if (args[0] === 'abort') live.set(target, (live.get(target) ?? new Set()).add(args[1]));
  for (const { this: target, arguments: args } of removed.mock.calls) live.get(target)?.delete(args[1]);
  assert.ok(Math.max(0, ...[...live.values()].map(({ size }) => size)) < 5);
});

test('what fails is not tried on in the background, and not again for the next quarter of an hour', async (t) => {
  const { one, come, clock, refused } = await refusingEdge(t);
  assert.equal(await come('a.company.io'), undefined);
  assert.equal(await come('a.company.io'), undefined);
  assert.equal(await one.issuance.orders.countOpen(), 0);
  clock.advance(HOUR);
  await turn(one);
  assert.equal(refused(), 1);
  await come('a.company.io');
  assert.equal(refused(), 2);
});

test('what is come for is renewed; what nobody comes for any more runs out', async (t) => {
  const { one, onDemand, come, clock, ca } = await edge(t);
  await come('used.company.io');
  await come('unused.company.io');
  clock.advance(50 * DAY);
  onDemand.seen('used.company.io', WILDCARD);
  assert.equal(onDemand.isLeft('used.company.io'), false);
  assert.equal(onDemand.isLeft('unused.company.io'), true);
  clock.advance(15 * DAY);
  await turn(one);
  assert.deepEqual(
    [...ca.orders.values()].map(({ names }) => names[0]),
    ['used.company.io', 'unused.company.io', 'used.company.io'],
  );
  await onDemand.flush();
  clock.advance(40 * DAY);
  await turn(one);
  assert.equal(one.serving('unused.company.io'), undefined);
  assert.equal(await one.issuance.orders.countOpen(), 0);
});

test('a name that is taken from the list is not renewed, and one that never was in it is not kept by coming for it', async (t) => {
  const allow = ['a.company.io'];
  const { one, onDemand, come, clock, ca } = await edge(t, { allow });
  await come('a.company.io');
  await one.issuance.request({
    names: ['by-hand.company.io'],
    issuer: 'ca',
    owner: undefined,
    wildcard: undefined,
    reason: 'requested',
  });
  await turn(one);
  assert.ok(one.serving('by-hand.company.io'));
  clock.advance(50 * DAY);
  for (const name of ['a.company.io', 'by-hand.company.io']) onDemand.seen(name, WILDCARD);
  assert.deepEqual([...onDemand.wanted()], ['a.company.io']);
  allow[0] = 'other.company.io';
  clock.advance(15 * DAY);
  await turn(one);
  assert.equal(ca.orders.size, 2);
});

test('the service is asked again before a name is renewed: a no, and silence, renew nothing, and it is asked again later', async (t) => {
  let status = 200;
  const { questions, url } = await asked(t, () => status);
  const { one, onDemand, come, clock, ca } = await edge(t, { allow: undefined, ask: url });
  await come('a.company.io');
  clock.advance(65 * DAY);
  onDemand.seen('a.company.io', WILDCARD);
  const look = async () => {
    await turn(one);
    await onDemand.settle();
    await turn(one);
  };
  for (const [said, orders] of [
    [404, 1],
    [SILENCE, 1],
    [200, 2],
  ] as const) {
    status = said;
    await look();
    assert.equal(ca.orders.size, orders);
    await look();
    clock.advance(HOUR);
  }
  assert.equal(questions.length, 4, 'the order, and once for each hour');
});

test('explain_certificate says of a name below a wildcard whether it would be ordered on demand, what the service said, and what is left, and asks nobody', async (t) => {
  const { questions, url } = await asked(t, (domain) => (domain === 'no.company.io' ? 404 : 200));
  const { come, explain, clock } = await edge(t, { allow: undefined, ask: url, perWildcardAndDay: 2 });
  const told = async (name: string) => {
    const { summary, on_demand: { on, why_not, ask, budgets = [] } = {} } = await explain(name);
    return { summary, on, why_not, answer: ask?.answer, left: budgets.map(({ left }) => left) };
  };
  const before = await told('a.company.io');
  assert.deepEqual([before.on, before.answer, before.left], [true, undefined, [2, 1000]]);
  assert.match(before.summary, /One is ordered when somebody comes for the name/);
  await come('no.company.io');
  await come('a.company.io');
  const refused = await told('no.company.io');
  assert.deepEqual([refused.on, refused.answer, refused.left], [false, 'refused', [1, 999]]);
  assert.match(
    refused.summary,
    /None is ordered when somebody comes .*the service of acme.on_demand.ask refuses/,
  );
  const served = await explain('a.company.io');
  assert.equal(served.on_demand?.ask?.answer, 'allowed');
  assert.deepEqual(served.orders[0]?.names, ['a.company.io']);
  assert.doesNotMatch(served.summary, /when somebody comes/);
  await come('b.company.io');
  assert.match(
    (await told('c.company.io')).why_not ?? '',
    /no more than 2 orders on demand for \*\.company\.io/,
  );
  clock.advance(DAY + MINUTE);
  const again = await told('no.company.io');
  assert.deepEqual([again.on, again.answer], [true, 'refused']);
  assert.deepEqual(questions, ['no.company.io', 'a.company.io', 'b.company.io']);
});

test('explain_certificate says what the settings have against a name on demand, and tells nobody else what others used', async (t) => {
  const { explain, come } = await edge(t, { allow: ['a.company.io'] });
  await come('a.company.io');
  const { on_demand: other } = await explain('b.company.io');
  assert.match(other?.why_not ?? '', /acme\.on_demand\.allow does not have b\.company\.io/);
  const seenBy = async (...hostnames: string[]) =>
    (await explain('a.company.io', { ...system, id: 'tok_1', hostnames })).on_demand?.budgets.length;
  assert.deepEqual([await seenBy('a.company.io'), await seenBy('*.company.io', 'company.io')], [0, 1]);
  assert.equal((await explain(WILDCARD)).on_demand, undefined);
});

test('a service whose answers have bodies that do not end is understood by the status', async (t) => {
  const { url } = await asked(t, () => STALLS);
  const { come, explain } = await edge(t, { allow: undefined, ask: url });
  assert.ok(await come('a.company.io'));
  assert.equal((await explain('a.company.io')).on_demand?.ask?.answer, 'allowed');
});

test('a service that is slow holds up so many names below a wildcard, and no name that it allowed before', async (t) => {
  let status = 200;
  const { url, questions, server } = await asked(t, () => status);
  const { come, one } = await edge(t, { allow: undefined, ask: url });
  assert.ok(await come('allowed.company.io'));
  const { id } = one.serving('allowed.company.io') ?? {};
  await one.certificates.remove({ id: id ?? '', version: undefined, force: true }, { principal: system });
  status = SLOW;
  const flood = Array.from({ length: MAX_WAITING }, (_, i) => come(`x${i}.company.io`));
  const heard = () => questions.length >= 1 + MAX_ASKING_BELOW_ONE;
  while (!heard()) await once(server, 'request');
  assert.ok(await come('allowed.company.io'));
  assert.equal(questions.length, 1 + MAX_ASKING_BELOW_ONE);
  server.closeAllConnections();
  assert.ok((await Promise.all(flood)).every((entry) => entry === undefined));
});
