/** What the engine makes of CAs that refuse, go away, or answer what makes no sense. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { DAY, HOUR, type ManualClock, MINUTE } from '../core/clock.ts';
import { AcmeFault } from './acme/fault.ts';
import type { CaLimits } from './budget.ts';
import { type Engine, engine, issuer, turn, world } from './engine.fixture.ts';
import { FakeCa, type FakeCaOptions, problem, unreachable } from './fake-ca.fixture.ts';
import type { Issuer } from './issuers.ts';

const NAME = 'a.company.io';
const FIRST: Issuer = { ...issuer, name: 'first' };
const SECOND: Issuer = { ...issuer, name: 'second', directoryUrl: 'https://second.test/dir' };

/** One hostname, and two CAs with troubles of their own. */
async function two(
  t: TestContext,
  options: Partial<Record<'first' | 'second', Omit<FakeCaOptions, 'clock' | 'lifeMs'>>>,
  { issuers = [FIRST, SECOND], wanted = [NAME] }: { issuers?: Issuer[]; wanted?: string[] } = {},
) {
  const { clock, folder, database } = await world(t);
  const cas = {
    first: new FakeCa({ lifeMs: 90 * DAY, ...options.first, clock }),
    second: new FakeCa({ lifeMs: 90 * DAY, ...options.second, clock }),
  };
  const one = await engine(folder, {
    clock,
    ca: ({ name }) => (name === 'first' ? cas.first : cas.second),
    database,
    wanted,
    issuers,
  });
  t.after(() => one[Symbol.asyncDispose]());
  return { clock, one, ...cas };
}

/** Looks every `everyMs` for as long. */
async function pass(one: Engine, clock: ManualClock, forMs: number, everyMs = HOUR): Promise<void> {
  for (const end = clock.now() + forMs; clock.now() < end; clock.advance(everyMs)) await turn(one);
}

test('after the last CA the first one is asked again, also when both were only away', async (t) => {
  let isAway = true;
  const { clock, one, first, second } = await two(t, {
    first: {
      trouble: () => {
        if (isAway) throw unreachable();
      },
    },
    second: {
      trouble: () => {
        throw unreachable();
      },
    },
  });
  await pass(one, clock, DAY);
  assert.equal(one.serving(NAME), undefined);
  isAway = false;
  await pass(one, clock, DAY);
  assert.ok(one.serving(NAME), 'the first one is back');
  assert.deepEqual([first.orders.size, second.orders.size], [1, 0]);
});

test('an order that the only CA has is gone on with after an outage of a day', async (t) => {
  let isAway = false;
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (what === 'newOrder') isAway = true;
      else if (isAway) throw unreachable();
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
  await pass(one, clock, DAY);
  isAway = false;
  await pass(one, clock, 2 * HOUR);
  assert.ok(one.serving(NAME));
  assert.equal(ca.asked.length, 1);
});

for (const refusal of ['malformed', 'conflict', 'unauthorized'])
  test(`a CA that will not have a certificate replaced (${refusal}) is asked once without that, and not told of it again`, async (t) => {
    let isProving = false;
    const { clock, folder, database, ca } = await world(t, {
      refusesReplaces: () => problem(refusal, 409),
      fails: () => isProving,
    });
    await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
    await turn(one);
    isProving = true;
    clock.advance(61 * DAY);
    await pass(one, clock, 6 * HOUR);
    isProving = false;
    await pass(one, clock, 12 * HOUR);
    const renewals = ca.asked.slice(1);
    assert.ok(renewals.length > 3);
    assert.equal(renewals.filter(({ replaces }) => replaces !== undefined).length, 1);
    assert.ok((one.serving(NAME)?.notAfter ?? 0) > clock.now() + 80 * DAY);
  });

for (const [what, cause] of Object.entries({
  'a page': () => new AcmeFault('content_type', 'text/html'),
  'other JSON': () => new AcmeFault('malformed_reply', 'no orders'),
  'a 404 alone': () => new AcmeFault('http_status', 'answered 404'),
  'a refusal': () => problem('unauthorized', 403),
  '500 each time': () => problem('serverInternal', 500),
}))
  test(`where the list of orders is ${what}, an order whose reply was lost is made anew`, async (t) => {
    const { clock, folder, database, ca } = await world(t, {
      trouble: (what, when) => {
        if (what === 'newOrder' && when === 'after' && ca.asked.length === 1) throw unreachable();
        if (what === 'orders') throw cause();
      },
    });
    await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
    await pass(one, clock, DAY, 10 * MINUTE);
    assert.ok(one.serving(NAME));
    assert.equal(ca.asked.length, 2);
  });

test('a list that could not be reached is asked again, so that a lost order is found', async (t) => {
  let lost = 0;
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what, when) => {
      if (what === 'newOrder' && when === 'after') throw unreachable();
      if (what === 'orders' && lost++ < 3) throw unreachable();
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
  await pass(one, clock, DAY, 10 * MINUTE);
  assert.ok(one.serving(NAME));
  assert.equal(ca.asked.length, 1);
});

for (const [what, step] of Object.entries({ 'its order': 'order', 'its certificate': 'certificate' }))
  test(`a CA that denies ${what} after it has signed is asked again: one order, one certificate`, async (t) => {
    let denials = 0;
    const { clock, folder, database, ca } = await world(t, {
      trouble: (asked, when) => {
        const isSigned = ca.certificates().length > 0;
        if (when === 'before' && asked === step && isSigned && denials++ < 4) throw problem('malformed', 404);
      },
    });
    await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
    await pass(one, clock, HOUR, MINUTE);
    assert.ok(one.serving(NAME));
    assert.deepEqual([denials > 3, ca.asked.length, ca.certificates().length], [true, 1, 1]);
  });

test('what a CA does not know any more, however often it is asked, is ordered anew within two hours', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    trouble: (asked, when) => {
      if (when === 'before' && asked === 'order' && ca.orders.size === 1) throw problem('malformed', 404);
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
  await pass(one, clock, 2 * HOUR, MINUTE);
  assert.ok(one.serving(NAME));
  assert.equal(ca.asked.length, 2);
});

test('an order that is reached no more for a week is made anew', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (what === 'order' && ca.orders.size === 1) throw new AcmeFault('content_type', 'text/html');
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
  await pass(one, clock, 7 * DAY, 6 * HOUR);
  assert.equal(ca.asked.length, 1);
  await pass(one, clock, 2 * DAY, 6 * HOUR);
  assert.ok(one.serving(NAME));
});

const ONE_IN_A_WEEK: CaLimits = {
  failedValidationsPerNameAndHour: 5,
  ordersPerThreeHours: 300,
  certificatesPerDomainAndWeek: 1,
  duplicatesPerWeek: 5,
};

test('what the CA signed in the second week of an order, and was not heard to, is waited for once it is back', async (t) => {
  let lost = 'newOrder';
  let isAway = false;
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what, when) => {
      if (isAway) throw unreachable();
      if (when === 'before' || what !== lost) return;
      isAway = true;
      throw unreachable();
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
  await pass(one, clock, 7 * DAY, 6 * HOUR);
  lost = 'finalize';
  isAway = false;
  await pass(one, clock, 6 * DAY, 6 * HOUR);
  assert.equal(one.serving(NAME), undefined);
  isAway = false;
  lost = '';
  await pass(one, clock, 2 * HOUR);
  assert.ok(one.serving(NAME));
  assert.equal(ca.asked.length, 1);
});

test('what a limit of one CA would hold for long is ordered at the next one at once', async (t) => {
  const wanted = [NAME, 'b.company.io'];
  const issuers = [{ ...FIRST, limits: ONE_IN_A_WEEK }, SECOND];
  const { one, first, second } = await two(t, {}, { issuers, wanted });
  await turn(one);
  for (const name of wanted) assert.ok(one.serving(name), name);
  assert.deepEqual([first.orders.size, second.orders.size], [1, 1]);
});

test('where every CA has its limit, what is held waits, and is ordered when there is room', async (t) => {
  const wanted = [NAME, 'b.company.io', 'c.company.io'];
  const issuers = [FIRST, SECOND].map((each) => ({ ...each, limits: ONE_IN_A_WEEK }));
  const { clock, one, first, second } = await two(t, {}, { issuers, wanted });
  await pass(one, clock, 6 * DAY, 3 * HOUR);
  assert.deepEqual([first.asked.length, second.asked.length], [1, 1]);
  const held = (await one.issuance.orders.latest(3)).find(({ state }) => state === 'waiting');
  const times = new Set(held?.document.events.map(({ at }) => at));
  assert.ok(times.size > 4 && times.size <= 6 * 6, `looked at ${times.size} times`);
  await pass(one, clock, 2 * DAY, 3 * HOUR);
  for (const name of wanted) assert.ok(one.serving(name), name);
});

test('asking by hand again does not override what the CA said about when to come back', async (t) => {
  let asked = 0;
  const { clock, folder, database, ca } = await world(t, {
    trouble: (what) => {
      if (what === 'newOrder' && asked++ === 0) throw problem('rateLimited', 429, 2 * DAY);
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [NAME] });
  for (let hours = 0; hours < 40; hours += 2) {
    await one.issuance.request({ names: [NAME], issuer: 'ca', reason: 'requested', owner: undefined });
    await turn(one);
    clock.advance(2 * HOUR);
  }
  assert.equal(asked, 1);
  clock.advance(8 * HOUR);
  await turn(one);
  assert.ok(one.serving(NAME));
});

test('who asks by hand has the next attempt at once, once five minutes are over', async (t) => {
  const { clock, folder, database, ca } = await world(t, { fails: () => true });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [] });
  const ask = async () => {
    await one.issuance.request({ names: [NAME], issuer: 'ca', reason: 'requested', owner: undefined });
    await one.issuance.settle();
  };
  for (let i = 0; i < 20; i++) await ask();
  assert.equal(ca.asked.length, 2, 'one for each challenge');
  clock.advance(5 * MINUTE);
  await ask();
  assert.equal(ca.asked.length, 4);
});

test('the challenge that was tried is the one that failed, whatever an attempt of before left at another', async (t) => {
  const MOST = 20;
  const { clock, folder, database, ca } = await world(t, {
    fails: () => true,
    leftAt: (type) => (type === 'http-01' ? problem('connection', 400).problem : undefined),
    trouble: (what) => {
      if (what === 'newOrder' && ca.asked.length > MOST) throw unreachable();
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [] });
  await one.issuance.request({ names: [NAME], issuer: 'ca', reason: 'requested', owner: undefined });
  await one.issuance.settle();
  assert.equal(ca.asked.length, 2, 'one for each challenge');
});

const OTHER = 'b.company.io';

/** Two hostnames with one certificate. */
async function shared(
  t: TestContext,
  { wanted, fails }: { wanted: string[]; fails: (name: string) => boolean },
) {
  const { clock, folder, database, ca } = await world(t, { fails });
  const one = await engine(folder, { clock, ca: () => ca, database, wanted });
  t.after(() => one[Symbol.asyncDispose]());
  const ask = async (...names: string[]) => {
    await one.issuance.request({ names, issuer: 'ca', reason: 'requested', owner: undefined });
    await one.issuance.settle();
  };
  return { clock, ca, one, ask };
}

test('a name that is refused in an order asked for by hand does not let the others expire', async (t) => {
  const { clock, ca, one, ask } = await shared(t, { wanted: [NAME], fails: (name) => name === OTHER });
  await turn(one);
  await ask(NAME, OTHER);
  for (let days = 0; days < 100; days++) {
    await turn(one);
    assert.ok(one.serving(NAME), `after ${days} days`);
    clock.advance(DAY);
  }
  assert.equal(ca.certificates().length, 2);
});

test('a renewal for several names of which one is refused is split, and each goes its own way', async (t) => {
  let isMoved = false;
  const wanted: string[] = [];
  const { clock, ca, one, ask } = await shared(t, { wanted, fails: (name) => isMoved && name === OTHER });
  await ask(NAME, OTHER);
  wanted.push(NAME, OTHER);
  isMoved = true;
  clock.advance(61 * DAY);
  await pass(one, clock, 10 * MINUTE, MINUTE);
  assert.ok((one.serving(NAME)?.notAfter ?? 0) > clock.now() + 80 * DAY);
  assert.deepEqual(ca.certificates().at(-1)?.subjectAltName, `DNS:${NAME}`);
  isMoved = false;
  await pass(one, clock, DAY);
  assert.ok((one.serving(OTHER)?.notAfter ?? 0) > clock.now() + 80 * DAY);
  assert.equal(ca.certificates().length, 3);
});

test('a renewal for several names goes on for those that are still served', async (t) => {
  let isAway = false;
  const { clock, folder, database, ca } = await world(t, {
    trouble: () => {
      if (isAway) throw unreachable();
    },
  });
  const wanted = [NAME, OTHER];
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted });
  await one.issuance.request({ names: wanted, issuer: 'ca', reason: 'requested', owner: undefined });
  await one.issuance.settle();
  clock.advance(61 * DAY);
  isAway = true;
  await turn(one);
  wanted.pop();
  isAway = false;
  await pass(one, clock, 2 * HOUR);
  assert.ok((one.serving(NAME)?.notAfter ?? 0) > clock.now() + 80 * DAY);
  assert.deepEqual(
    ca.asked.map(({ names }) => names.join()),
    [`${NAME},${OTHER}`, NAME],
  );
});

test('a name that is reached by port 80 only and one by 443 only have a certificate together', async (t) => {
  const { clock, folder, database, ca } = await world(t, {
    fails: (name, challenge) => challenge === (name === NAME ? 'http-01' : 'tls-alpn-01'),
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [] });
  await one.issuance.request({
    names: [NAME, OTHER],
    issuer: 'ca',
    reason: 'requested',
    owner: undefined,
  });
  await one.issuance.settle();
  assert.ok(one.serving(OTHER));
  assert.equal(ca.asked.length, 2);
});

test('of several names the one that ends first says how soon it is tried again', async (t) => {
  let isAway = false;
  const { clock, folder, database, ca } = await world(t, {
    trouble: () => {
      if (isAway) throw problem('serverInternal', 500);
    },
  });
  await using one = await engine(folder, { clock, ca: () => ca, database, wanted: [] });
  const ask = async (...names: string[]) => {
    await one.issuance.request({ names, issuer: 'ca', reason: 'requested', owner: undefined });
    await one.issuance.settle();
  };
  await ask(NAME);
  ca.lifeMs = DAY;
  await ask(OTHER);
  clock.advance(20 * HOUR);
  isAway = true;
  await ask(NAME, OTHER);
  for (let tries = 0; tries < 10; tries++) {
    const [order] = await one.issuance.orders.latest(1);
    const waitMs = (order?.nextAttemptAt ?? 0) - clock.now();
    assert.ok(waitMs <= HOUR, `${waitMs} ms`);
    clock.advance(waitMs);
    await turn(one);
    if (clock.now() > (one.serving(OTHER)?.notAfter ?? 0)) break;
  }
});
