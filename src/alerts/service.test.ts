import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type TestContext } from 'node:test';
import { sql } from 'kysely';
import { DAY, HOUR, ManualClock, MINUTE } from '../core/clock.ts';
import { createEvents } from '../core/events.ts';
import type { LogRecord } from '../core/record.ts';
import type { Database } from '../store/database.ts';
import { migrations } from '../store/migrations.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { Alert } from './schema.ts';
import { AlertService } from './service.ts';
import { webhookChannel } from './webhook.ts';

const MAX_ACTIVE = 5;
const SECRET = 'a-secret-of-the-receiver';

interface Message {
  headers: IncomingHttpHeaders;
  body: string;
  path: string;
}

/** A receiver on loopback that answers as it is told. */
async function receiver(t: TestContext) {
  const messages: Message[] = [];
  const told = { status: 204, headers: {} as Record<string, string> };
  const server = createServer((request, response) => {
    text(request).then(
      (body) => {
        messages.push({ headers: request.headers, body, path: request.url ?? '' });
        response.writeHead(told.status, told.headers).end('thanks');
      },
      (cause: Error) => response.destroy(cause),
    );
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { messages, told, url: `http://127.0.0.1:${port}/hook?token=in-the-url` };
}

async function world(t: TestContext, url: string | undefined) {
  const clock = new ManualClock();
  const folder = mkdtempSync(join(tmpdir(), 'alerts-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const records: LogRecord[] = [];
  const log = { write: (record: LogRecord) => void records.push(record), enabled: () => true };
  async function start() {
    const database = await openSqlite(join(folder, 'state.db'), clock);
    const alerts = new AlertService({
      database,
      clock,
      log,
      events: createEvents(),
      maxActive: MAX_ACTIVE,
      channels: url === undefined ? [] : [webhookChannel({ url, secret: SECRET }, fetch)],
    });
    alerts.start();
    let stopped: Promise<void> | undefined;
    const stop = () =>
      (stopped ??= alerts[Symbol.asyncDispose]().then(() => database[Symbol.asyncDispose]()));
    t.after(stop);
    return { alerts, stop, database };
  }
  return { clock, records, start };
}

const expiring = (more: Partial<Alert> = {}): Alert => ({
  key: 'certificate.expiring/crt_1',
  stage: 1,
  code: 'certificate.expiring',
  level: 'warn',
  summary: 'the certificate of app.example.com ends',
  hostname: 'app.example.com',
  facts: { certificate_id: 'crt_1', threshold_days: 14 },
  ...more,
});

async function told(alerts: AlertService, current: readonly Alert[]): Promise<void> {
  await alerts.reconcile('certificates', current);
  await alerts.settle();
}

const statuses = (messages: readonly Message[]) =>
  messages.map(({ body }) => {
    const { type, data } = JSON.parse(body);
    return `${type} ${data.status} ${data.threshold_days}`;
  });

test('an alert is told once for each stage, by the log and the webhook, and once when it is over', async (t) => {
  const { messages, url } = await receiver(t);
  const { clock, records, start } = await world(t, url);
  const { alerts } = await start();
  await told(alerts, []);
  await told(alerts, [expiring()]);
  clock.advance(HOUR);
  await told(alerts, [expiring()]);
  const worse = expiring({ stage: 3, level: 'error', facts: { certificate_id: 'crt_1', threshold_days: 3 } });
  await told(alerts, [worse]);
  await told(alerts, [worse]);
  await told(alerts, []);
  await told(alerts, []);
  assert.deepEqual(statuses(messages), [
    'certificate.expiring raised 14',
    'certificate.expiring raised 3',
    'certificate.expiring resolved 3',
  ]);
  assert.deepEqual(
    records.map(({ level, hostname, detail }) => [level, hostname, detail?.code, detail?.status]),
    [
      ['warn', 'app.example.com', 'certificate.expiring', 'raised'],
      ['error', 'app.example.com', 'certificate.expiring', 'raised'],
      ['info', 'app.example.com', 'certificate.expiring', 'resolved'],
    ],
  );
});

test('a message is signed as Standard Webhooks has it, and holds no secret', async (t) => {
  const { messages, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  const { alerts } = await start();
  await told(alerts, [expiring()]);
  const [{ headers, body, path } = { headers: {}, body: '', path: '' }] = messages;
  assert.equal(path, '/hook?token=in-the-url');
  assert.equal(headers['content-type'], 'application/json');
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature } = headers;
  assert.match(String(id), /^alt_/);
  assert.equal(timestamp, String(Math.floor(clock.now() / 1000)));
  const expected = createHmac('sha256', SECRET)
    .update(`${String(id)}.${timestamp}.${body}`)
    .digest('base64');
  assert.equal(signature, `v1,${expected}`);
  assert.doesNotMatch(body + JSON.stringify(headers), new RegExp(SECRET));
  assert.deepEqual(JSON.parse(body), {
    type: 'certificate.expiring',
    timestamp: new Date(clock.now()).toISOString(),
    data: {
      status: 'raised',
      level: 'warn',
      summary: 'the certificate of app.example.com ends',
      hostname: 'app.example.com',
      certificate_id: 'crt_1',
      threshold_days: 14,
    },
  });
});

test('a receiver that fails is tried again with ever longer waits, with the same id, seven times at most, and its URL is in no record', async (t) => {
  const { messages, told: answer, url } = await receiver(t);
  const { clock, records, start } = await world(t, url);
  const { alerts } = await start();
  answer.status = 503;
  await told(alerts, [expiring()]);
  const times: number[] = [];
  for (let minutes = 0; minutes < 3 * 24 * 60; minutes += 15) {
    const before = messages.length;
    clock.advance(15 * MINUTE);
    await alerts.settle();
    if (messages.length > before) times.push(clock.now());
  }
  assert.equal(messages.length, 7);
  assert.equal(new Set(messages.map(({ headers }) => headers['webhook-id'])).size, 1);
  assert.match(records.at(-1)?.message ?? '', /the receiver answered 503; it is given up/);
  assert.doesNotMatch(JSON.stringify(records), /in-the-url|a-secret/);
  answer.status = 200;
  clock.advance(DAY);
  await alerts.settle();
  assert.equal(messages.length, 7);
});

test('a redirect is not followed: it counts as a failure', async (t) => {
  const elsewhere = await receiver(t);
  const { told: answer, url } = await receiver(t);
  const { records, start } = await world(t, url);
  Object.assign(answer, { status: 307, headers: { location: elsewhere.url } });
  const { alerts } = await start();
  await told(alerts, [expiring()]);
  assert.deepEqual(elsewhere.messages, []);
  assert.match(records.at(-1)?.message ?? '', /the receiver answered 307/);
});

test('what was raised before a stop, and not told, is told after the next start, and nothing is told twice', async (t) => {
  const { messages, told: answer, url } = await receiver(t);
  const { clock, records, start } = await world(t, url);
  answer.status = 500;
  const one = await start();
  await told(one.alerts, [expiring()]);
  await one.stop();
  answer.status = 200;
  clock.advance(MINUTE);
  const two = await start();
  await two.alerts.settle();
  await told(two.alerts, [expiring()]);
  await two.stop();
  const three = await start();
  await told(three.alerts, [expiring()]);
  await told(three.alerts, []);
  assert.deepEqual(statuses(messages), [
    'certificate.expiring raised 14',
    'certificate.expiring raised 14',
    'certificate.expiring resolved 14',
  ]);
  const [first, second] = messages.map(({ headers }) => headers['webhook-id']);
  assert.equal(first, second, 'the receiver knows it again');
  assert.equal(records.filter(({ detail }) => detail?.status === 'raised').length, 1);
});

test('without a webhook an alert is in the log, and nothing is kept to be sent', async (t) => {
  const { records, start } = await world(t, undefined);
  const { alerts } = await start();
  await told(alerts, [expiring()]);
  assert.equal(records.length, 1);
});

test('the log tells each hostname apart, and of no other; the webhook is told once', async (t) => {
  const { messages, url } = await receiver(t);
  const { records, start } = await world(t, url);
  const { alerts } = await start();
  const lines = ['a.example.com', 'b.example.com'].map((hostname) => ({
    hostname,
    summary: `${hostname} ends`,
  }));
  await told(alerts, [expiring({ lines })]);
  assert.deepEqual(
    records.map(({ hostname, message }) => [hostname, message]),
    lines.map(({ hostname, summary }) => [hostname, summary]),
  );
  assert.equal(messages.length, 1);
});

test('a row that another version wrote is reported once and passed over: the others are told', async (t) => {
  const { messages, url } = await receiver(t);
  const { records, start } = await world(t, url);
  const { alerts, database } = await start();
  await told(alerts, [expiring()]);
  await database.change({}, (tx) => tx.updateTable('alerts').set({ document: '{"v":2}' }).execute());
  const other = expiring({ key: 'certificate.expiring/crt_2' });
  await told(alerts, [expiring(), other]);
  await told(alerts, [other]);
  assert.deepEqual(statuses(messages), ['certificate.expiring raised 14', 'certificate.expiring raised 14']);
  assert.equal(records.filter(({ message }) => /can't be read/.test(message ?? '')).length, 1);
});

test('what could not be told for two days is told to nobody, also when the webhook was taken away and comes back', async (t) => {
  const { messages, told: answer, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  answer.status = 500;
  const one = await start();
  await told(one.alerts, [expiring()]);
  await one.stop();
  answer.status = 200;
  clock.advance(2 * DAY + MINUTE);
  const two = await start();
  await two.alerts.settle();
  assert.equal(messages.length, 1);
  assert.deepEqual(await two.database.read.selectFrom('alert_deliveries').selectAll().execute(), []);
});

test('of more alerts than are told the worst are, nothing that is still wrong is told to be over, and the rest is told in one record and one message, again when it is so again', async (t) => {
  const { messages, url } = await receiver(t);
  const { records, start } = await world(t, url);
  const { alerts } = await start();
  const many = Array.from({ length: MAX_ACTIVE }, (_, i) => expiring({ key: `certificate.expiring/${i}` }));
  await told(alerts, many);
  const worse = expiring({ key: 'certificate.failing/ord_1', stage: 4 });
  await told(alerts, [...many, worse]);
  await told(alerts, [worse, ...many.toReversed()]);
  assert.equal(records.filter(({ detail }) => detail?.status === 'resolved').length, 0);
  const isSum = ({ body }: Message) => JSON.parse(body).type === 'alerts.left_out';
  assert.equal(records.filter(({ detail }) => detail?.status === 'raised').length, MAX_ACTIVE + 2);
  assert.equal(records.filter(({ message }) => /1 of them are not told/.test(message ?? '')).length, 1);
  assert.deepEqual(JSON.parse(messages.find(isSum)?.body ?? '').data.left_out, 1);
  await told(alerts, many);
  await told(alerts, [...many, worse, expiring({ key: 'certificate.failing/ord_2', stage: 4 })]);
  assert.deepEqual(
    messages.filter(isSum).map(({ body }) => JSON.parse(body).data.status),
    ['raised', 'resolved', 'raised'],
  );
});

test('what was over and is wrong again is told again, after an hour, and at once when it is worse', async (t) => {
  const { messages, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  const { alerts, database } = await start();
  await told(alerts, [expiring()]);
  await told(alerts, []);
  await told(alerts, [expiring()]);
  assert.equal(messages.length, 2, 'not by turns');
  clock.advance(HOUR);
  await told(alerts, [expiring()]);
  await told(alerts, [expiring()]);
  await told(alerts, []);
  await told(alerts, [expiring({ stage: 2, facts: { threshold_days: 7 } })]);
  assert.deepEqual(statuses(messages), [
    'certificate.expiring raised 14',
    'certificate.expiring resolved 14',
    'certificate.expiring raised 14',
    'certificate.expiring resolved 14',
    'certificate.expiring raised 7',
  ]);
  await told(alerts, []);
  clock.advance(DAY);
  await told(alerts, []);
  assert.deepEqual(await database.read.selectFrom('alerts').selectAll().execute(), []);
});

test('what is wrong again within the hour is listed as active, and its end is told only if it was', async (t) => {
  const { messages, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  const { alerts } = await start();
  const states = async () => (await alerts.all()).map(({ row }) => row.resolved_at === null);
  await told(alerts, [expiring()]);
  await told(alerts, []);
  for (let times = 0; times < 5; times++) {
    clock.advance(MINUTE);
    await told(alerts, [expiring()]);
    assert.deepEqual(await states(), [true]);
    clock.advance(MINUTE);
    await told(alerts, []);
    assert.deepEqual(await states(), [false]);
  }
  assert.equal(messages.length, 2, 'neither by turns');
  await told(alerts, [expiring()]);
  clock.advance(HOUR);
  await told(alerts, [expiring()]);
  assert.equal(messages.length, 3, 'what lasts is told');
  await told(alerts, []);
  assert.equal(messages.length, 4);
});

test('an error that is back is told at once, and so is what was waited for before', async (t) => {
  const { messages, url } = await receiver(t);
  const { start } = await world(t, url);
  const { alerts } = await start();
  const down = expiring({ level: 'error' });
  for (const current of [[down], [], [down]]) await told(alerts, current);
  assert.equal(messages.length, 3);
  const waited = [expiring({ key: 'rule/errors/app.example.com' })];
  for (const current of [waited, [], waited, []]) await alerts.reconcile('rules', current, { quietMs: 0 });
  await alerts.settle();
  assert.equal(messages.length, 7);
});

test('of two processes that see the same at once one tells it', async (t) => {
  const { messages, url } = await receiver(t);
  const { records, start } = await world(t, url);
  const [one, two] = [await start(), await start()];
  const change: Database['change'] = one.database.change.bind(one.database);
  for (const current of [[expiring()], []]) {
    // The other is through between the look of this one and its word.
    const between = async (...args: Parameters<Database['change']>) => {
      await told(two.alerts, current);
      return change(...args);
    };
    t.mock.method(one.database, 'change', between, { times: 1 });
    await told(one.alerts, current);
  }
  assert.deepEqual(
    records.map(({ detail }) => detail?.status),
    ['raised', 'resolved'],
  );
  assert.equal(messages.length, 2);
});

test('what is down now is told before what will be, when there are too many', async (t) => {
  const { records, start } = await world(t, undefined);
  const { alerts } = await start();
  const later = Array.from({ length: MAX_ACTIVE }, (_, i) =>
    expiring({ key: `certificate.expiring/${i}`, stage: 2 }),
  );
  const down = expiring({ key: 'certificate.failing/ord_1', code: 'certificate.failing', level: 'error' });
  await told(alerts, [...later, down]);
  assert.equal(records[0]?.detail?.code, 'certificate.failing');
});

test('what ended before it could be told is not told after its end', async (t) => {
  const { messages, told: answer, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  const { alerts } = await start();
  answer.status = 503;
  await told(alerts, [expiring()]);
  answer.status = 204;
  await told(alerts, []);
  clock.advance(MINUTE);
  await alerts.settle();
  assert.deepEqual(statuses(messages), [
    'certificate.expiring raised 14',
    'certificate.expiring resolved 14',
  ]);
});

test('no stage of what ended is told after its end, however early it failed', async (t) => {
  const { messages, told: answer, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  const { alerts } = await start();
  answer.status = 503;
  await told(alerts, [expiring()]);
  await told(alerts, [expiring({ stage: 2, facts: { threshold_days: 7 } })]);
  answer.status = 204;
  const before = messages.length;
  await told(alerts, []);
  clock.advance(HOUR);
  await alerts.settle();
  assert.deepEqual(statuses(messages.slice(before)), ['certificate.expiring resolved 7']);
});

test('what the receiver took is not sent again while the store can not be told of it', async (t) => {
  const { messages, url } = await receiver(t);
  const { clock, start } = await world(t, url);
  const { alerts, database } = await start();
  const change: Database['change'] = database.change.bind(database);
  let isFull = false;
  t.mock.method(database, 'change', (...args: Parameters<Database['change']>) =>
    isFull ? Promise.reject(new Error('the disk is full')) : change(...args),
  );
  await alerts.reconcile('certificates', [expiring()]);
  isFull = true;
  await alerts.settle();
  for (let minutes = 0; minutes < 5; minutes++) {
    clock.advance(MINUTE);
    await alerts.settle();
  }
  isFull = false;
  clock.advance(MINUTE);
  await alerts.settle();
  assert.equal(messages.length, 1);
  assert.deepEqual(await database.read.selectFrom('alert_deliveries').selectAll().execute(), []);
});

test('an alert that an earlier version raised has an id and can be listed, and what it still had to tell goes to the webhook', async (t) => {
  const { messages, url } = await receiver(t);
  const { start } = await world(t, url);
  const { alerts, database } = await start();
  const step = migrations.findIndex(({ name }) => name === '0020-alert-channels');
  for (const later of migrations.slice(step).toReversed()) await later.down(database.read);
  const document = JSON.stringify(expiring());
  const body = JSON.stringify({
    type: 'certificate.expiring',
    data: { status: 'raised', threshold_days: 14 },
  });
  await sql`insert into alerts (key, source, document, raised_at) values ('k', 'certificates', ${document}, 5)`.execute(
    database.read,
  );
  await sql`insert into alert_deliveries values ('alt_1', ${body}, 0, 0, ${Date.UTC(2026, 0, 1)})`.execute(
    database.read,
  );
  for (const again of migrations.slice(step)) await again.up(database.read);
  const [{ row } = { row: undefined }] = await alerts.all();
  assert.match(row?.id ?? '', /^alr_[0-9a-f]{24}$/);
  assert.deepEqual([row?.acknowledged, row?.told_at], [null, 5]);
  alerts.deliver();
  await alerts.settle();
  assert.deepEqual(statuses(messages), ['certificate.expiring raised 14']);
});
