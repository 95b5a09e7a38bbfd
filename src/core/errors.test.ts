import assert from 'node:assert/strict';
import test from 'node:test';
import { errorSurface } from './errors.ts';

/** @see {@link https://www.jsonrpc.org/specification#error_object | JSON-RPC 2.0 §5.1} */
const RESERVED = { from: -32_768, to: -32_000 };
const OF_THE_PROTOCOL = [-32_602, -32_603];

for (const [code, { jsonrpc }] of Object.entries(errorSurface)) {
  test(`${code} has a JSON-RPC number of the protocol, or one that applications may use`, () => {
    const isReserved = jsonrpc >= RESERVED.from && jsonrpc <= RESERVED.to;
    assert.ok(!isReserved || OF_THE_PROTOCOL.includes(jsonrpc), String(jsonrpc));
  });
}
