/** Labels that are applied, while things fail, processes end anywhere, and people change the same proxies. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'node:test';
import fc from 'fast-check';
import { AppError } from '../core/errors.ts';
import type { LogRecord } from '../core/record.ts';
import { admin } from '../services/services.fixture.ts';
import { applyLimits } from './apply.ts';
import { HOST, rule, setUpLabels } from './apply.fixture.ts';
import { standings } from './record.ts';

const by = { principal: admin };
type World = Awaited<ReturnType<typeof setUpLabels>>;

/** Of the changes of one process. */
class Fault {
  #left = Infinity;
  #isOnlyOne = false;
  hasHappened = false;

  /** The process is over after so many. */
  endAfter(changes: number): void {
    this.#left = changes;
    this.#isOnlyOne = false;
  }

  /** One fails, after so many. */
  failAfter(changes: number): void {
    this.#left = changes;
    this.#isOnlyOne = true;
  }

  before(): void {
    if (this.#left-- > 0) return;
    this.hasHappened = true;
    if (this.#isOnlyOne) this.#left = Infinity;
    throw new Error('the disk is full');
  }
}

const statesOf = async (world: World) =>
  (await standings(world.database.read)).map(({ state, proxy }) => `${state} ${proxy}`);

test('a process that ends before any of its changes is finished by the next: one proxy, and one record of it', async () => {
  for (let changes = 0; changes < 3; changes++) {
    const fault = new Fault();
    await using world = await setUpLabels({ beforeChange: () => fault.before() });
    await world.run();
    fault.endAfter(changes);
    await world.proposals.start();
    await world.proposals[Symbol.asyncDispose]();
    const cutOff = [[], ['making gone'], ['making as-made']][changes];
    assert.deepEqual(await statesOf(world), cutOff);
    fault.endAfter(Infinity);
    await using next = world.open();
    await next.start();
    assert.deepEqual(await statesOf(world), ['applied as-made']);
    assert.deepEqual([...world.served.keys()], [HOST]);
    assert.equal((await standings(world.database.read))[0]?.proxy_id, world.served.get(HOST)?.id);
    assert.equal(world.audits().at(-1), `system create_proxy: OK ${HOST}`);
  }
});

test('a process that ends while it takes a proxy away is finished by the next, also when the container is back by then', async () => {
  for (let changes = 0; changes < 3; changes++)
    for (const isBack of [false, true]) {
      const fault = new Fault();
      await using world = await setUpLabels({ beforeChange: () => fault.before() });
      const id = await world.run();
      await world.proposals.start();
      world.driver.crash(id, 1);
      await world.until(
        'it is missed',
        async () => (await world.list()).applied?.[0]?.state === 'down' || undefined,
      );
      fault.endAfter(changes);
      world.clock.advance(rule.keep_ms);
      await world.until('the fault', () => fault.hasHappened || undefined);
      await world.proposals[Symbol.asyncDispose]();
      assert.deepEqual(
        await statesOf(world),
        [['applied as-made'], ['leaving as-made'], ['leaving gone']][changes],
      );
      fault.endAfter(Infinity);
      if (isBack) await world.driver.start(id);
      await using next = world.open();
      await next.start();
      const isKept = isBack || changes === 0;
      await world.until('it is over', async () => {
        const states = (await statesOf(world)).join();
        return states === (isKept ? 'applied as-made' : '') || undefined;
      });
      assert.equal(world.served.size, isKept ? 1 : 0);
    }
});

test('a change that fails is tried again, and does not keep the others from being made', async () => {
  const fault = new Fault();
  await using world = await setUpLabels({ beforeChange: () => fault.before() });
  await world.run();
  await world.run({ 'ohp.hostname': 'b.apps.example.com' }, 18_081, 'b');
  fault.failAfter(0);
  await world.proposals.start();
  assert.equal(world.served.size, 1);
  assert.ok(
    world.records.some(({ message }) =>
      /make of [ab]\.apps\.example\.com failed and is tried again/.test(message),
    ),
  );
  await world.until('again', () => world.served.size === 2 || undefined, applyLimits.everyMs);
});

test('what can not be taken away is tried again after a minute, not at once', async () => {
  const fault = new Fault();
  await using world = await setUpLabels({ beforeChange: () => fault.before() });
  const id = await world.run();
  await world.proposals.start();
  await world.driver.remove(id, { force: true, volumes: true });
  const failures = () => world.records.filter(({ message }) => /take-away of .* failed/.test(message)).length;
  fault.endAfter(0);
  await world.until('it fails', () => failures() || undefined, applyLimits.everyMs);
  const before = failures();
  for (let passed = 0; passed < applyLimits.everyMs; passed += applyLimits.paceMs) {
    world.clock.advance(applyLimits.paceMs);
    for (let i = 0; i < 5; i++) await turn();
  }
  assert.ok(failures() - before <= 2, String(failures() - before));
  fault.endAfter(Infinity);
  await world.isGone();
});

test('while the audit trail can not be written nothing is made or taken away; then each is begun and ended in it', async () => {
  const trail = {
    isFull: true,
    records: [] as string[],
    async begin({ message }: LogRecord) {
      if (this.isFull) throw new AppError('UNAVAILABLE', 'the audit trail can not be written');
      this.records.push(message);
      return { end: async (record: LogRecord) => void this.records.push(record.message) };
    },
    tell: async () => {},
  };
  await using world = await setUpLabels({ trail });
  const id = await world.run();
  await world.proposals.start();
  await world.rest();
  assert.deepEqual([world.served.size, await statesOf(world)], [0, []]);
  trail.isFull = false;
  await world.until('it is served', () => world.served.has(HOST) || undefined, applyLimits.everyMs);
  trail.isFull = true;
  await world.driver.remove(id, { force: true, volumes: true });
  await world.until(
    'it is refused',
    () => world.records.find(({ message }) => /take-away of .* trail can not/.test(message)),
    applyLimits.everyMs,
  );
  assert.deepEqual(await statesOf(world), ['applied as-made']);
  trail.isFull = false;
  await world.isGone();
  await world.rest();
  assert.deepEqual(
    trail.records,
    ['create_proxy: begun', 'create_proxy: OK', 'delete_proxy: begun', 'delete_proxy: OK'].map(
      (text) => `system ${text}`,
    ),
  );
});

/** One that none may ask for, and mostly those that two want. */
const HOSTS = [HOST, HOST, HOST, 'b.apps.example.com', 'bank.example.com'];
const NAMES = ['one', 'two'];
const host = fc.constantFrom(...HOSTS);
const name = fc.constantFrom(...NAMES);
const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('run' as const), name, host }) },
  fc.record({ kind: fc.constantFrom('crash' as const, 'start' as const, 'remove' as const), name }),
  fc.record({ kind: fc.constant('relabel' as const), name, host }),
  fc.record({
    kind: fc.constantFrom('make' as const, 'edit' as const, 'delete' as const, 'route' as const),
    host,
  }),
  fc.record({ kind: fc.constantFrom('cut' as const, 'away' as const, 'back' as const, 'restart' as const) }),
  fc.record({
    kind: fc.constant('pass' as const),
    ms: fc.constantFrom(1000, rule.keep_ms / 2, 2 * rule.keep_ms),
  }),
  fc.record({ kind: fc.constantFrom('fail' as const, 'kill' as const), after: fc.nat(6) }),
);
type Command = { kind: string; name?: string; host?: string; ms?: number; after?: number };

/** What people made or changed, by hostname, as they left it. */
class Hands extends Map<string, { id: string; version: number }> {
  readonly #world: World;
  #routes = 0;
  #edits = 0;

  constructor(world: World) {
    super();
    this.#world = world;
  }

  async act(kind: string, hostname: string): Promise<void> {
    const { proxies, makeProxy } = this.#world;
    const own = (proxy: { id: string; version: number }) => void this.set(hostname, proxy);
    try {
      if (kind === 'make') own(await makeProxy(hostname));
      if (kind === 'edit')
        own(await proxies.update(hostname, { enabled: this.#edits++ % 2 > 0 }, undefined, by));
      if (kind === 'route') await this.#addRoute(hostname);
      if (kind !== 'delete') return;
      await proxies.delete(hostname, undefined, by);
      this.delete(hostname);
    } catch (cause) {
      // There is none, or there is one already: whoever asks is told so.
      if (!(cause instanceof AppError) || cause.code === 'INTERNAL') throw cause;
    }
  }

  async #addRoute(hostname: string): Promise<void> {
    const proxy = await this.#world.database.change({}, async (tx) => {
      const found = await tx
        .selectFrom('proxies')
        .selectAll()
        .where('hostname', '=', hostname)
        .executeTakeFirst();
      const row = { id: `rte_${this.#routes++}`, hostname, document: '{}', version: 1 };
      if (found) await tx.insertInto('routes').values(row).execute();
      return found;
    });
    if (proxy) this.set(hostname, { id: proxy.id, version: proxy.version });
  }

  async check(after: unknown): Promise<void> {
    const rows = await this.#world.database.read.selectFrom('proxies').selectAll().execute();
    for (const [hostname, { id, version }] of this) {
      const row = rows.find((one) => one.hostname === hostname);
      assert.deepEqual([row?.id, row?.version], [id, version], `${hostname} after ${JSON.stringify(after)}`);
    }
  }
}

/** A machine, the people who use it, and one process after the other that applies its labels. */
class Story {
  readonly hands: Hands;
  readonly #world: World;
  readonly #faults: { current: Fault };
  readonly #containers = new Map<string, string>();
  #process: World['proposals'];
  #port = 18_000;

  constructor(world: World, faults: { current: Fault }) {
    this.#world = world;
    this.#faults = faults;
    this.#process = world.proposals;
    this.hands = new Hands(world);
  }

  async begin(): Promise<void> {
    await this.#process.start();
  }

  async take(step: Command): Promise<void> {
    const { world } = this.#world;
    const { kind, host: hostname, name: who } = step;
    if (who !== undefined) await this.#withContainer(kind, who, hostname);
    else if (hostname !== undefined) await this.hands.act(kind, hostname);
    else if (kind === 'pass') await this.#pass(step.ms ?? 0);
    else if (kind === 'fail') this.#faults.current.failAfter(step.after ?? 0);
    else if (kind === 'kill') await this.#kill(step.after ?? 0);
    else if (kind === 'cut') world.cut();
    else if (kind === 'restart') await this.#restart();
    else world.isAway = kind === 'away';
    await this.#breathe();
  }

  /** Nothing fails any more: what was begun is ended, and what is served is what there are records and people for. */
  async end(): Promise<void> {
    this.#world.world.isAway = false;
    await this.#restart();
    await this.#breathe();
    const { database } = this.#world;
    const records = await this.#world.until('nothing is half done', async () => {
      const found = await standings(database.read);
      return found.some(({ state }) => state === 'making' || state === 'leaving') ? undefined : found;
    });
    const owned = new Set([
      ...records.map((one) => one.proxy_id),
      ...[...this.hands.values()].map(({ id }) => id),
    ]);
    const rows = await database.read.selectFrom('proxies').select(['id', 'hostname']).execute();
    assert.deepEqual(
      rows.filter(({ id }) => !owned.has(id)),
      [],
      'of nobody',
    );
    await this.#process[Symbol.asyncDispose]();
  }

  async #withContainer(kind: string, who: string, hostname = HOST): Promise<void> {
    const { driver, labels, run, world } = this.#world;
    const { isAway } = world;
    // Of this process only: the machine goes on.
    world.isAway = false;
    using _ = { [Symbol.dispose]: () => void (world.isAway = isAway) };
    const id = this.#containers.get(who);
    if (kind === 'run') {
      if (id === undefined)
        this.#containers.set(who, await run({ 'ohp.hostname': hostname }, this.#port++, who));
      return;
    }
    if (id === undefined) return;
    // One that runs can't be started, and one that does not can't crash.
    if (kind === 'crash') await driver.stop(id).catch(() => {});
    if (kind === 'start') await driver.start(id).catch(() => {});
    if (kind === 'relabel') labels.set(id, { 'ohp.hostname': hostname });
    if (kind !== 'remove') return;
    await driver.remove(id, { force: true, volumes: true });
    this.#containers.delete(who);
  }

  /** Before one of its changes; a look is wanted, so that there are some. */
  async #kill(after: number): Promise<void> {
    this.#faults.current.endAfter(after);
    this.#world.clock.advance(applyLimits.everyMs);
    await this.#breathe();
    await this.#restart();
  }

  async #restart(): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
    this.#faults.current = new Fault();
    this.#process = this.#world.open();
    await this.#process.start();
    // What a look makes room for is made by the next.
    this.#world.clock.advance(applyLimits.everyMs);
    await this.#breathe();
  }

  /** First it is seen, then its time is over. */
  async #pass(ms: number): Promise<void> {
    for (const part of [applyLimits.everyMs, ms]) {
      this.#world.clock.advance(part);
      await this.#breathe();
    }
  }

  async #breathe(): Promise<void> {
    for (let i = 0; i < 20; i++) await turn();
  }
}

test('whatever happens, in any order, only proxies that are recorded as applied are changed or deleted', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 40, size: 'max' }), async (steps) => {
      const faults = { current: new Fault() };
      await using world = await setUpLabels({ beforeChange: () => faults.current.before() });
      const story = new Story(world, faults);
      await story.begin();
      for (const step of steps) {
        await story.take(step);
        await story.hands.check(step);
      }
      await story.end();
      await story.hands.check('the end');
    }),
    { numRuns: 25 },
  );
});
