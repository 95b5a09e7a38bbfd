import assert from 'node:assert/strict';
import test from 'node:test';
import { ClientGone, tooLarge } from './client-body.ts';
import { TargetRefused } from './dialer.ts';
import { isStaleConnection, refusalOf } from './upstream-failure.ts';

const failed = (code: string) => Object.assign(new Error(`at 10.0.0.1: ${code}`), { code });

const cases: [Error, number][] = [
  [failed('ECONNREFUSED'), 502],
  [failed('ENOTFOUND'), 502],
  [failed('ECONNRESET'), 502],
  [failed('UND_ERR_SOCKET'), 502],
  [failed('HPE_INVALID_CONSTANT'), 502],
  [failed('CERT_HAS_EXPIRED'), 502],
  [failed('UND_ERR_CONNECT_TIMEOUT'), 504],
  [failed('UND_ERR_HEADERS_TIMEOUT'), 504],
  [new TargetRefused('10.0.0.1 is link-local'), 502],
  [tooLarge(10), 413],
  [new ClientGone(), 400],
  [new Error('at 10.0.0.1: who knows'), 502],
];

for (const [error, status] of cases)
  test(`${error.message} is ${status} and keeps its reason for the log`, () => {
    const refusal = refusalOf(error);
    assert.equal(refusal.status, status);
    assert.ok(refusal.reason?.includes(error.message));
    assert.ok(!refusal.message.includes('10.0.0.1'));
  });

test('only a connection that broke is stale, not one that was refused', () => {
  assert.ok(isStaleConnection(failed('UND_ERR_SOCKET')));
  for (const code of ['ECONNREFUSED', 'UND_ERR_HEADERS_TIMEOUT', 'HPE_INVALID_CONSTANT'])
    assert.ok(!isStaleConnection(failed(code)), code);
});
