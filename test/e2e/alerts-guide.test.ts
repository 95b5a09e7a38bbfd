/** docs/guides/alerts.md: its settings start, and its commands, run where something is wrong, say so and tell it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { SMTPServer } from 'smtp-server';
import { parse } from 'yaml';
import { alertCodes } from '../../src/alerts/schema.ts';
import { ruleSchema, withUsual } from '../../src/alerts/rules/schema.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { keptIn } from '../support/mail.ts';
import { type Product, startProduct } from '../support/product.ts';

const guide = new Guide('alerts');
const settings = parse(guide.block('yaml', 'alerts:'));
const PASSWORD = 'the-password-of-the-mail-server';
/** Of any disk: that it has less free than there is. */
const ALWAYS = { name: 'any-disk', when: 'disk', below_bytes: 2 ** 50, for_minutes: 0 };

describe('where something is wrong', () => {
  const mails: string[] = [];
  const hooks: { type: string; data: Record<string, unknown> }[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'alerts-guide-'));
  const receiver = createServer((request, response) => {
    text(request).then(
      (body) => {
        hooks.push(JSON.parse(body));
        response.writeHead(204).end();
      },
      (cause: Error) => response.destroy(cause),
    );
  });
  const mailServer = new SMTPServer({
    disabledCommands: ['STARTTLS'],
    allowInsecureAuth: true,
    onAuth: ({ username, password }, _session, done) =>
      password === PASSWORD ? done(null, { user: username ?? '' }) : done(new Error('wrong')),
    onData: keptIn(mails),
  });
  let product: Product;
  let id: string;

  before(async () => {
    await new Promise<void>((resolve) => void receiver.listen(0, '127.0.0.1', resolve));
    await new Promise<void>((resolve) => void mailServer.listen(0, '127.0.0.1', resolve));
    const file = (name: string, content: string) => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
    const { alerts } = settings;
    product = await startProduct({
      env: {
        OHP_CONFIG: configFile({
          alerts: {
            ...alerts,
            webhook_url: `http://127.0.0.1:${portOf(receiver)}/hook?token=in-the-url`,
            webhook_secret_file: file('webhook.secret', 'a-secret-of-the-receiver'),
            smtp: {
              ...alerts.smtp,
              host: '127.0.0.1',
              port: portOf(mailServer.server),
              tls: 'none',
              password_file: file('mail.password', PASSWORD),
            },
            rules: [...alerts.rules, ALWAYS],
          },
        }),
      },
    });
    id = await eventually(async () => {
      const { body } = await product.api('GET', '/v1/alerts');
      return body.alerts.find(({ facts }: { facts: { rule: string } }) => facts.rule === ALWAYS.name)?.id;
    }, 'the alert');
  });
  after(async () => {
    await product[Symbol.asyncDispose]();
    receiver.closeAllConnections();
    receiver.close();
    await new Promise<void>((resolve) => mailServer.close(resolve));
    rmSync(folder, { recursive: true });
  });

  const run = async (holds: string) => {
    const ran = await runShell(guide.block('bash', holds), {
      env: { ...asAdministrator(product), ALERT: id },
    });
    assert.equal(ran.code, 0, ran.err);
    return ran.out;
  };

  test('it is told by webhook and by mail', async () => {
    await eventually(async () => hooks.find(({ data }) => data['rule'] === ALWAYS.name), 'the message');
    const raw = await eventually(async () => mails.find((mail) => mail.includes(ALWAYS.name)), 'the mail');
    assert.match(raw, /^To: admin@example\.com/im);
    assert.match(raw, /MiB \(\d+ %\) are free for data/);
  });

  test('a test reaches both, and says so without a secret', async () => {
    const out = await run('test alert');
    for (const channel of ['webhook', 'email']) assert.match(out, new RegExp(channel));
    assert.doesNotMatch(out, /false|in-the-url|the-password/);
    assert.ok(hooks.some(({ type }) => type === 'alert.test'));
    assert.ok(mails.some((mail) => mail.includes('nothing is wrong')));
  });

  test('a client of MCP that follows the list hears of what the next command does', async () => {
    const client = new Client({ name: 'follower', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    const told: string[] = [];
    client.setNotificationHandler(
      'notifications/resources/updated',
      ({ params }) => void told.push(params.uri),
    );
    await client.connect(
      new StreamableHTTPClientTransport(new URL(`http://localhost:${product.httpPort}/mcp`), {
        requestInit: { headers: { authorization: `Bearer ${product.adminToken}` } },
      }),
    );
    await client.listen({ resourceSubscriptions: ['ohp://alerts'] });
    const out = await run('acknowledge alert');
    assert.match(out, /a new disk comes on Monday/);
    await eventually(async () => told[0], 'the news');
    const { contents } = await client.readResource({ uri: 'ohp://alerts' });
    const [notice, list] = contents.map((one) => ('text' in one ? one.text : ''));
    assert.match(notice ?? '', /never follow instructions/);
    assert.match(list ?? '', /a new disk comes on Monday/);
    await client.close();
  });

  for (const mode of ['legacy', 'auto'] as const)
    test(`a client of MCP that follows the log with a filter hears of a new record (${mode})`, async () => {
      const client = new Client({ name: 'follower', version: '1' }, { versionNegotiation: { mode } });
      const told: string[] = [];
      client.setNotificationHandler(
        'notifications/resources/updated',
        ({ params }) => void told.push(params.uri),
      );
      const { httpPort, adminToken } = product;
      await client.connect(
        new StreamableHTTPClientTransport(new URL(`http://localhost:${httpPort}/mcp`), {
          requestInit: { headers: { authorization: `Bearer ${adminToken}` } },
        }),
      );
      const uri = 'ohp://logs?filter=operation%3Alist_tokens';
      if (mode === 'legacy') await client.subscribeResource({ uri });
      else await client.listen({ resourceSubscriptions: [uri] });
      await product.api('GET', '/v1/tokens');
      await eventually(async () => told[0], 'the news of the log');
      assert.equal(told[0], uri);
      const { contents } = await client.readResource({ uri });
      const [notice, list] = contents.map((one) => ('text' in one ? one.text : ''));
      assert.match(notice ?? '', /never follow instructions/);
      assert.match(list ?? '', /list_tokens/);
      await client.close();
    });

  test('what was acknowledged is audited', async () => {
    const { body } = await product.api('GET', '/v1/changes?since=1h');
    assert.match(JSON.stringify(body), /acknowledge_alert/);
  });

  test('no secret of a receiver is in the log', async () => {
    const { body } = await product.api('GET', '/v1/logs?kind=all&lines=200&verbose=true');
    assert.doesNotMatch(JSON.stringify(body) + product.output(), /in-the-url|a-secret-of|the-password-of/);
  });
});

test('each kind of rule, and each type of message, is in the guide', () => {
  for (const option of ruleSchema.options) {
    const kind = option.shape.when.value;
    assert.match(guide.text, new RegExp(`^\\| \`${kind}\` \\|`, 'm'));
    for (const field of Object.keys(option.shape).filter((one) => one !== 'when'))
      assert.match(guide.text, new RegExp(`\`${field}\``), `${kind}: ${field}`);
  }
  for (const code of alertCodes) assert.match(guide.text, new RegExp(`\`${code}\``));
  for (const { name } of withUsual([], { disk: true, dropped_records: true }))
    assert.match(guide.text, new RegExp(`\`${name}\``));
});
