import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { createEvents } from '../core/events.ts';
import { type Principal, system } from '../core/principal.ts';
import { silentLog } from '../core/record.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { Channel, ChannelMessage, Fault } from './channel.ts';
import { AlertDesk } from './desk.ts';
import type { Alert } from './schema.ts';
import { AlertService } from './service.ts';

const ADMIN: Principal = { ...system, id: 'tok_admin', kind: 'token' };
const confinedTo = (...hostnames: string[]): Principal => ({ ...ADMIN, id: 'tok_confined', hostnames });
const signal = new AbortController().signal;

/** Takes every message unless it is told to fail. */
function fakeChannel(name: Channel['name']) {
  const sent: ChannelMessage[] = [];
  const told: { fault: Fault | undefined } = { fault: undefined };
  const channel: Channel = {
    name,
    async send(message) {
      sent.push(message);
      return told.fault;
    },
  };
  const statuses = () => sent.map(({ body }) => JSON.parse(body).data.status);
  return { channel, sent, told, statuses };
}

async function world(
  t: TestContext,
  { channels = [] as Channel[], remindAfterMs = undefined as number | undefined } = {},
) {
  const clock = new ManualClock();
  const events = createEvents();
  const database = await openSqlite(':memory:', clock);
  const parts = { database, clock, log: silentLog, events };
  const alerts = new AlertService({ ...parts, channels, remindAfterMs });
  alerts.start();
  t.after(() => alerts[Symbol.asyncDispose]().then(() => database[Symbol.asyncDispose]()));
  const changes: (readonly string[])[] = [];
  events.on('alert.changed', ({ hostnames }) => changes.push(hostnames));
  const desk = new AlertDesk({ ...parts, alerts });
  const list = async (
    principal = ADMIN,
    state: 'active' | 'resolved' | 'all' = 'active',
    hostname?: string,
  ) => (await desk.list({ state, hostname }, { principal })).alerts;
  const tell = async (...current: Alert[]) => {
    await alerts.reconcile('rules', current);
    await alerts.settle();
  };
  const pass = async (ms: number) => {
    clock.advance(ms);
    await alerts.settle();
  };
  return { clock, alerts, desk, list, tell, pass, changes };
}

const failing = (hostname: string | undefined, more: Partial<Alert> = {}): Alert => ({
  key: `requests.failing/${hostname}`,
  stage: 1,
  code: 'requests.failing',
  level: 'error',
  summary: `${hostname} fails`,
  ...(hostname !== undefined && { hostname }),
  facts: { percent: 12 },
  ...more,
});

const code = (wanted: string) => (error: unknown) => error instanceof AppError && error.code === wanted;

test('what is wrong is listed with its beginning, and for a day what is over', async (t) => {
  const { list, tell, pass, clock } = await world(t);
  const since = new Date(clock.now()).toISOString();
  await tell(failing('a.example.com'));
  const [alert] = await list();
  assert.deepEqual(
    [alert?.state, alert?.since, alert?.summary, alert?.hostnames, alert?.facts],
    ['active', since, 'a.example.com fails', ['a.example.com'], { percent: 12 }],
  );
  await pass(MINUTE);
  await tell();
  assert.deepEqual(await list(), []);
  assert.equal((await list(ADMIN, 'resolved'))[0]?.resolved_at, new Date(clock.now()).toISOString());
  await pass(DAY);
  await tell();
  assert.deepEqual(await list(ADMIN, 'all'), []);
});

test('who is confined to hostnames sees what is about these, of it what is said of these, and nothing else', async (t) => {
  const { list, tell } = await world(t);
  const lines = ['a.example.com', 'b.example.org'].map((hostname) => ({
    hostname,
    summary: `${hostname} ends`,
  }));
  const summary = 'a.example.com, b.example.org end';
  const shared = failing('a.example.com', { key: 'both', lines, summary });
  await tell(shared, failing('b.example.org'), failing(undefined));
  const seen = await list(confinedTo('*.example.com'));
  assert.deepEqual(
    seen.map((alert) => [alert.summary, alert.hostnames]),
    [['a.example.com ends', ['a.example.com']]],
  );
  assert.equal((await list()).length, 3);
  assert.equal((await list(ADMIN, 'active', '*.example.org')).length, 2);
  assert.deepEqual(await list(confinedTo()), []);
});

test('an acknowledged alert is not told again, stays in the list with who and why, and is told when it gets worse', async (t) => {
  const { channel, told, statuses } = fakeChannel('webhook');
  const { desk, list, tell, pass } = await world(t, { channels: [channel], remindAfterMs: HOUR });
  told.fault = { why: 'away' };
  await tell(failing('a.example.com'));
  const [alert] = await list();
  assert.ok(alert);
  await desk.acknowledge({ id: alert.id, note: 'looking' }, { principal: ADMIN });
  told.fault = undefined;
  for (let hours = 0; hours < 5; hours++) await pass(HOUR);
  assert.deepEqual(statuses(), ['raised'], 'neither another attempt nor a reminder');
  const [seen] = await list();
  assert.deepEqual([seen?.acknowledged?.by, seen?.acknowledged?.note], ['tok_admin', 'looking']);
  await tell(failing('a.example.com', { stage: 2 }));
  const [worse] = await list();
  assert.deepEqual([worse?.id, worse?.acknowledged], [alert.id, undefined]);
  await tell();
  assert.deepEqual(statuses(), ['raised', 'raised', 'resolved']);
});

test('what lasts is told again after the time that is set, until somebody acknowledges it', async (t) => {
  const { channel, statuses } = fakeChannel('email');
  const { tell, pass } = await world(t, { channels: [channel], remindAfterMs: 4 * HOUR });
  await tell(failing('a.example.com'));
  for (let hours = 0; hours < 9; hours++) await pass(HOUR);
  assert.deepEqual(statuses(), ['raised', 'reminder', 'reminder']);
});

test('who may not see all of an alert does not silence it; who sees nothing of it hears that there is none', async (t) => {
  const { desk, list, tell } = await world(t);
  const lines = ['a.example.com', 'b.example.org'].map((hostname) => ({ hostname, summary: hostname }));
  await tell(failing('a.example.com', { lines }));
  const [{ id } = { id: '' }] = await list();
  const refused = (principal: Principal) => desk.acknowledge({ id }, { principal });
  await assert.rejects(refused(confinedTo('a.example.com')), code('FORBIDDEN'));
  await assert.rejects(refused(confinedTo('c.example.com')), code('NOT_FOUND'));
  await tell();
  await assert.rejects(refused(ADMIN), code('CONFLICT'));
});

test('the list comes in pages', async (t) => {
  const { desk, tell, pass } = await world(t);
  const all = Array.from({ length: 5 }, (_, index) => failing(`h${index}.example.com`));
  for (let count = 1; count <= all.length; count++) {
    await tell(...all.slice(0, count));
    await pass(count % 2 === 0 ? MINUTE : 0);
  }
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await desk.list({ state: 'all', limit: 2, cursor }, { principal: ADMIN });
    seen.push(...page.alerts.map(({ summary }) => summary));
    cursor = page.next_cursor;
  } while (cursor !== undefined);
  assert.deepEqual(seen.toSorted(), all.map(({ summary }) => summary).toSorted());
});

test('a test goes out at once by each channel, and says what came of each', async (t) => {
  const [webhook, email] = [fakeChannel('webhook'), fakeChannel('email')];
  const { desk } = await world(t, { channels: [webhook.channel, email.channel] });
  email.told.fault = { why: 'the mail server answered 550' };
  assert.deepEqual(await desk.test(undefined, { principal: ADMIN, signal }), {
    channels: [
      { channel: 'webhook', delivered: true },
      { channel: 'email', delivered: false, problem: 'the mail server answered 550' },
    ],
  });
  await desk.test('webhook', { principal: ADMIN, signal });
  assert.deepEqual(webhook.statuses(), ['test', 'test']);
  assert.equal(email.sent.length, 1);
});

test('without a channel a test says what to set', async (t) => {
  const { desk } = await world(t);
  await assert.rejects(desk.test(undefined, { principal: ADMIN, signal }), code('PRECONDITION_FAILED'));
});

test('a channel that fails holds up no other', async (t) => {
  const [webhook, email] = [fakeChannel('webhook'), fakeChannel('email')];
  const silent: Channel = {
    name: 'webhook',
    send: ({ signal: ends }) =>
      new Promise((resolve) => ends.addEventListener('abort', () => resolve({ why: 'stopped' }))),
  };
  const { alerts } = await world(t, { channels: [silent, email.channel] });
  await alerts.reconcile('rules', [failing('a.example.com')]);
  const [, box] = alerts.outboxes;
  await (box as unknown as { settle(): Promise<void> }).settle();
  assert.deepEqual(email.statuses(), ['raised']);
  assert.deepEqual(webhook.sent, []);
});

test('whoever follows alerts hears of each change, and about which hostnames', async (t) => {
  const { desk, list, tell, changes } = await world(t);
  await tell(failing('a.example.com'));
  const [{ id } = { id: '' }] = await list();
  await desk.acknowledge({ id }, { principal: ADMIN });
  await tell();
  assert.deepEqual(changes, [['a.example.com'], ['a.example.com'], ['a.example.com']]);
});
