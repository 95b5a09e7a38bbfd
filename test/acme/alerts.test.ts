/** The product with a webhook: what it has to tell is told after a `kill -9` too, once, signed. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'node:test';
import { startAcmeFront } from '../support/acme-front.ts';
import { configFile } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { startPebble, withoutPebble } from '../support/pebble.ts';
import { startProduct } from '../support/product.ts';

const LOGS = '/v1/logs?kind=system&level=error&lines=100&verbose=true';
const SECRET = 'a-secret-of-the-receiver';

test('an order that the CA refuses is told to the webhook; killed before the answer, the product tells it again with the same id', {
  skip: withoutPebble,
}, async (t) => {
  const messages: { headers: IncomingHttpHeaders; body: string }[] = [];
  let isSilent = true;
  const receiver = createServer((request, response) => {
    text(request).then(
      (body) => {
        messages.push({ headers: request.headers, body });
        if (!isSilent) response.writeHead(204).end();
      },
      (cause: Error) => response.destroy(cause),
    );
  });
  await new Promise<void>((resolve) => void receiver.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    receiver.closeAllConnections();
    receiver.close();
  });
  const { port } = receiver.address() as AddressInfo;
  const folder = mkdtempSync(join(tmpdir(), 'alerts-'));
  t.after(() => rmSync(folder, { recursive: true }));
  // The CA looks at ports where nobody listens.
  await using pebble = await startPebble();
  await using ca = await startAcmeFront(pebble, { isHurried: true });
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const settings = {
    acme: { directory: ca.directoryUrl, ca_file: file('trust.pem', ca.trustPem) },
    alerts: {
      webhook_url: `http://127.0.0.1:${port}/hook`,
      webhook_secret_file: file('secret', `${SECRET}\n`),
    },
  };
  const product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
  t.after(() => product[Symbol.asyncDispose]());
  const hostname = 'lost.example.com';
  await product.api('POST', '/v1/proxies', { hostname, target_url: 'http://127.0.0.1:9' });
  await eventually(async () => messages[0], 'a message').catch(() => assert.fail(product.output()));
  // Records are written after the message is on its way, and a kill takes those that are not.
  await eventually(async () => {
    const { body } = await product.api('GET', LOGS);
    return JSON.stringify(body).includes('certificate.failing') || undefined;
  }, 'its record');
  await product.kill();
  isSilent = false;
  await using again = await product.restart();
  await eventually(async () => messages[1], 'the message again');
  for (const { headers, body } of messages) {
    const { type, data } = JSON.parse(body);
    assert.equal(type, 'certificate.failing');
    assert.deepEqual([data.status, data.hostname], ['raised', hostname]);
    // Whoever got the free port meanwhile may answer there.
    assert.match(data.problem, /^(?:connection|unauthorized)$/);
    assert.match(data.summary, /^no certificate for lost\.example\.com: the CA could not check /);
    const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
    const signature = createHmac('sha256', SECRET).update(signed).digest('base64');
    assert.equal(headers['webhook-signature'], `v1,${signature}`);
  }
  assert.equal(messages[0]?.headers['webhook-id'], messages[1]?.headers['webhook-id']);
  const { body } = await again.api('GET', LOGS);
  assert.match(JSON.stringify(body), /certificate\.failing/);
  assert.doesNotMatch(JSON.stringify(body) + product.output() + again.output(), new RegExp(SECRET));
});
