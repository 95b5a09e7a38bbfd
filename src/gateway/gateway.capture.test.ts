/** What the gateway tells of a captured request. With real clients of every kind: `test/e2e/capture-requests.test.ts`. */
import assert from 'node:assert/strict';
import test from 'node:test';
import type { Arrived, Ended, Recording } from '../core/capture.ts';
import { ask, proxyOf, startGateway, startUpstream } from '../../test/support/gateway.ts';
import {
  call,
  HOST,
  mcpServer,
  policyOf,
  post,
  protection,
  rules,
  tokens,
} from '../../test/support/tool-gateway.ts';

const text = (chunk: Uint8Array) => Buffer.from(chunk).toString();

/** Writes down what it is told. */
class Tap {
  isOn = true;
  readonly told: unknown[] = [];
  readonly over = Promise.withResolvers<Ended>();

  begin(request: Arrived): Recording {
    this.told.push(['begin', request.kind, request.hostname, request.path, request.query]);
    return {
      hearsBodies: true,
      takenBy: (name) => void this.told.push(['taken', name]),
      tried: (url) => void this.told.push(['tried', new URL(url).pathname]),
      failed: (reason) => void this.told.push(['failed', reason.split(':')[0]]),
      answered: (status, fields) => void this.told.push(['answered', status, fields.length > 0]),
      requestPart: (chunk) => void this.told.push(['request', text(chunk)]),
      responsePart: (chunk) => void this.told.push(['response', text(chunk)]),
      ended: (facts) => this.over.resolve(facts),
    };
  }
}

test('a proxied request tells its way in order: taken, tried, both bodies, the head, the end', async (t) => {
  const captures = new Tap();
  const upstream = await startUpstream((request, response) => {
    request.resume().on('end', () => response.end('answer'));
  });
  t.after(() => upstream[Symbol.asyncDispose]());
  await using gateway = await startGateway({ captures, proxies: [proxyOf(HOST, `${upstream.url}/base`)] });
  await ask(gateway, { method: 'POST', host: HOST, path: '/x?q=1', body: 'question' });
  const { status, upstreamStatus, outcome, bytesIn, bytesOut } = await captures.over.promise;
  assert.deepEqual([status, upstreamStatus, outcome, bytesIn, bytesOut], [200, 200, 'OK', 8, 6]);
  assert.deepEqual(captures.told, [
    ['begin', 'proxied', HOST, '/x', 'q=1'],
    ['taken', 'forwardProxied'],
    ['request', 'question'],
    ['tried', '/base/x'],
    ['answered', 200, true],
    ['response', 'answer'],
  ]);
});

test('an upstream that is away is told with the page that stands for it', async () => {
  const captures = new Tap();
  await using gateway = await startGateway({ captures, proxies: [proxyOf(HOST, 'http://127.0.0.1:9')] });
  await ask(gateway, { host: HOST, path: '/' });
  assert.deepEqual(
    [(await captures.over.promise).upstreamStatus, ...captures.told.slice(-3)],
    [0, ['taken', 'forwardProxied'], ['failed', 'ECONNREFUSED'], ['answered', 502, true]],
  );
});

test('a call of an MCP server that has rules for its tools is told with what was read of it', async (t) => {
  const captures = new Tap();
  const upstream = await startUpstream(mcpServer());
  t.after(() => upstream[Symbol.asyncDispose]());
  const auth = policyOf({ tools: rules });
  const proxies = [proxyOf(HOST, upstream.url, { auth, serve_mcp: false })];
  await using gateway = await startGateway({ captures, proxies, tokens, protection: protection() });
  await post(gateway, { body: call('open') });
  const { status } = await captures.over.promise;
  assert.equal(status, 200);
  const kinds = new Set(captures.told.map((one) => (one as string[])[0]));
  assert.deepEqual([...kinds], ['begin', 'taken', 'request', 'tried', 'answered', 'response']);
});

test('while nobody captures, nothing is asked but that', async (t) => {
  const captures = Object.assign(new Tap(), { isOn: false });
  const upstream = await startUpstream((_request, response) => void response.end());
  t.after(() => upstream[Symbol.asyncDispose]());
  await using gateway = await startGateway({ captures, proxies: [proxyOf(HOST, upstream.url)] });
  await ask(gateway, { host: HOST, path: '/' });
  assert.deepEqual(captures.told, []);
});
