import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import test, { suite, type TestContext } from 'node:test';
import { startUpstream } from '../../../../test/support/upstream.ts';
import { systemClock } from '../../../core/clock.ts';
import { providerContract } from '../provider.contract.ts';
import { createWebhook } from './webhook.ts';

const ZONE = 'example.test';
const SECRET = 'a-shared-secret-of-the-webhook';
/** Of work that nobody cancels; the runner ends a test that hangs. */
const { signal } = new AbortController();
const ONE = { zone: ZONE, name: `_acme-challenge.${ZONE}`, value: 'a-value' };

/** As the guide says a webhook has to be. */
async function start(t: TestContext) {
  const values = new Map<string, Set<string>>();
  const bodies: string[] = [];
  const upstream = await startUpstream((request, response) => {
    void (async () => {
      const body = await text(request);
      if (request.headers.authorization !== `Bearer ${SECRET}`)
        return response.writeHead(401).end(`not ${request.headers.authorization}`);
      bodies.push(body);
      const { action, name, value } = JSON.parse(body);
      const known = values.get(name) ?? new Set();
      values.set(name, known);
      if (action === 'publish') known.add(value);
      else if (action === 'withdraw') known.delete(value);
      else return response.writeHead(400).end('no such action');
      response.writeHead(204).end();
    })();
  });
  t.after(() => upstream[Symbol.asyncDispose]());
  return { values, bodies, upstream };
}

const providerAt = (url: string, secret = SECRET) =>
  createWebhook(
    { provider: 'webhook', zones: [ZONE], url, secret: { env: 'SECRET' } },
    { clock: systemClock, fetch, readSecret: async () => secret },
  );

providerContract('a webhook', async (t) => {
  const { values, upstream } = await start(t);
  return {
    zone: ZONE,
    open: () => providerAt(upstream.url),
    openUnauthorised: (canary) => providerAt(upstream.url, canary),
    values: async (name) => [...(values.get(name) ?? [])],
    seed: async (name, value) => void values.set(name, new Set([value])),
  };
});

suite('a webhook', () => {
  test('gets action, name, value and zone as JSON, by POST', async (t) => {
    const { bodies, upstream } = await start(t);
    await providerAt(upstream.url).publish(ONE, signal);
    await providerAt(upstream.url).withdraw(ONE, signal);
    assert.deepEqual(
      bodies.map((body) => JSON.parse(body)),
      [
        { action: 'publish', name: ONE.name, value: 'a-value', zone: ZONE },
        { action: 'withdraw', name: ONE.name, value: 'a-value', zone: ZONE },
      ],
    );
    const [{ method, headers } = assert.fail()] = upstream.requests;
    assert.deepEqual([method, headers['content-type']], ['POST', 'application/json']);
  });

  test('any answer but success is an error that quotes it, clean and short', async (t) => {
    const upstream = await startUpstream((_, response) =>
      response.writeHead(500).end(`disk full\u202e${'x'.repeat(1000)}`),
    );
    t.after(() => upstream[Symbol.asyncDispose]());
    await assert.rejects(
      providerAt(upstream.url).publish(ONE, signal),
      /^AppError: the webhook at 127\.0\.0\.1:\d+ answered 500 \("disk full\ufffdx{1,300}…"\)$/,
    );
  });
});
