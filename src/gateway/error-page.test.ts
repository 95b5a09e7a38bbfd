import assert from 'node:assert/strict';
import test from 'node:test';
import { errorPage, formatOf, type Refusal, rpcErrorPage } from './error-page.ts';

const refusal: Refusal = {
  status: 502,
  code: 'UPSTREAM_FAILED',
  message: 'It <b>failed</b> & "so"',
  reason: 'secret',
};

const formats: [string | undefined, string][] = [
  [undefined, 'text'],
  ['', 'text'],
  ['*/*', 'text'],
  ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'html'],
  ['application/json, text/event-stream', 'json'],
  ['application/problem+json', 'json'],
  ['image/png, application/json', 'json'],
  ['TEXT/HTML', 'html'],
  ['image/avif,image/webp', 'text'],
  ['application/jsonx', 'text'],
];

for (const [accept, format] of formats)
  test(`Accept: ${accept} gets ${format}`, () => assert.equal(formatOf(accept), format));

test('every form has the trace id and none the reason', () => {
  for (const accept of ['text/html', 'application/json', '*/*']) {
    const { body } = errorPage(refusal, accept, 'abc123');
    assert.ok(body.includes('abc123') && !body.includes('secret'), accept);
  }
  assert.ok(!rpcErrorPage(refusal, 'abc123').body.includes('secret'));
});

test('HTML is escaped', () => {
  const { body } = errorPage(refusal, 'text/html', '<i>');
  assert.ok(body.includes('It &lt;b&gt;failed&lt;/b&gt; &amp; &quot;so&quot;') && !body.includes('<i>'));
});

test('to MCP clients it is a JSON-RPC error without an id', () => {
  const { body } = rpcErrorPage({ status: 401, code: 'UNAUTHENTICATED', message: 'm' }, 'abc');
  assert.deepEqual(JSON.parse(body), {
    jsonrpc: '2.0',
    error: { code: -32001, message: 'm', data: { code: 'UNAUTHENTICATED', status: 401, trace_id: 'abc' } },
  });
});
