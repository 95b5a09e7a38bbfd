import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { errorPage, formatOf, pageHeaders, type Refusal, rpcErrorPage, titleOf } from './error-page.ts';

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
  ['text/html;q=0.2, application/json', 'json'],
  ['application/json;q=0.9, text/html', 'html'],
  ['text/plain;q=0.5, text/html;q=0.7, application/json;q=0.6', 'html'],
  ['text/html;q=0, */*;q=0.1', 'text'],
  ['text/plain;q=0, text/html;q=0, */*', 'json'],
  ['text/plain;q=0, */*;q=0.1, text/html;q=0.1', 'html'],
  ['*/*, application/json', 'json'],
  ['text/*;q=0.3, application/json;q=0.2', 'text'],
  ['application/*, image/png', 'json'],
  ['text/html;charset=utf-8;q=0.4,application/json;Q=0.5', 'json'],
  ['application/json, text/html', 'json'],
  ['text/html;level=1, application/json', 'html'],
  ['*/*;q=0', 'text'],
  ['text/html;q=high, application/json;q=0.9', 'html'],
  [',,;q=1,text/html', 'html'],
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

test('HTML says what the trace id is for, and has a style that its policy allows and nothing to load', () => {
  const { body } = errorPage(refusal, 'text/html', 'abc123');
  assert.match(body, /Trace id <code>abc123<\/code>, give this to the operator\./);
  assert.match(body, /color-scheme:light dark/);
  const [, style = ''] = /<style>([^<]*)<\/style>/.exec(body) ?? [];
  const policy = pageHeaders['content-security-policy'] ?? '';
  assert.ok(policy.includes(`style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`));
  assert.ok(policy.startsWith("default-src 'none';") && !policy.includes('unsafe'));
  assert.doesNotMatch(body, /\b(?:src|href|style|on\w+)=|<script|<link|url\(|@import/i);
  assert.ok(body.length < 1500, 'small');
});

test('every status that the gateway answers with has a title', () => {
  for (const status of [400, 401, 403, 404, 405, 408, 413, 417, 421, 429, 431, 500, 501, 502, 503, 504, 508])
    assert.notEqual(titleOf(status), 'Error', String(status));
});

test('HTML is escaped', () => {
  const { body } = errorPage(refusal, 'text/html', '<i>');
  assert.ok(body.includes('It &lt;b&gt;failed&lt;/b&gt; &amp; &quot;so&quot;') && !body.includes('<i>'));
});

test('to MCP clients it is a JSON-RPC error without an id', () => {
  const { body } = rpcErrorPage({ status: 401, code: 'UNAUTHENTICATED', message: 'm' }, 'abc');
  assert.deepEqual(JSON.parse(body), {
    jsonrpc: '2.0',
    error: { code: 401, message: 'm', data: { code: 'UNAUTHENTICATED', status: 401, trace_id: 'abc' } },
  });
});
