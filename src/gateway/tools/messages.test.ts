import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { toolLimits } from './limits.ts';
import { readMessages, RPC } from './messages.ts';
import { strictJson } from './strict-json.ts';

const read = (text: string) => readMessages(Buffer.from(text));
const call = (params: string) => `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${params}}`;

test('property: JSON without a name twice is read as it is, and one with a name twice is refused', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.string(), (value, name) => {
      const text = JSON.stringify(value, null, 1);
      assert.deepEqual(strictJson(Buffer.from(text)), { ok: true, value: JSON.parse(text) });
      const key = JSON.stringify(name);
      const escaped = `"${[...Array(name.length).keys()].map((i) => `\\u${name.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')}"`;
      for (const twice of [`{${key}:1,${key}:2}`, `[{"a":{${key}:${text} , ${escaped}:2}}]`])
        assert.deepEqual(strictJson(Buffer.from(twice)), {
          ok: false,
          message: 'the body has a name twice in one object',
        });
      assert.equal(strictJson(Buffer.from(`[{${key}:1},{${key}:{${key}:[]}}]`)).ok, true);
    }),
  );
});

test('property: whatever the bytes, the reader never throws and takes no more than the parser does', () => {
  const almost = fc
    .array(fc.constantFrom('{', '}', '[', ']', ',', ':', '"', '\\', '"a"', '1', ' ', '\\u0041'))
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(fc.oneof(almost, fc.string()), (text) => {
      const { ok } = strictJson(Buffer.from(text));
      if (ok) assert.doesNotThrow(() => JSON.parse(text));
    }),
  );
  fc.assert(fc.property(fc.uint8Array(), (bytes) => void readMessages(Buffer.from(bytes))));
});

test('what nests or goes on without end is refused before it is parsed', () => {
  const { jsonDepth, jsonValues } = toolLimits;
  for (const text of [
    '['.repeat(jsonDepth + 1) + ']'.repeat(jsonDepth + 1),
    `[${'1,'.repeat(jsonValues)}1]`,
    '{"a":'.repeat(100_000),
  ])
    assert.equal(strictJson(Buffer.from(text)).ok, false);
  assert.equal(strictJson(Buffer.from('['.repeat(jsonDepth) + ']'.repeat(jsonDepth))).ok, true);
});

test('a message is a request, a notification or a response, with no other member', () => {
  const good = [
    '{"jsonrpc":"2.0","method":"ping","id":"a"}',
    '{"jsonrpc":"2.0","method":"notifications/x","params":{}}',
    '{"jsonrpc":"2.0","id":1,"result":{}}',
    '{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}',
  ];
  for (const text of [...good, `[${good.join(',')}]`]) assert.equal(read(text).ok, true, text);
  const bad = [
    'null',
    '"x"',
    '{}',
    '{"method":"ping","id":1}',
    '{"jsonrpc":"1.0","method":"ping"}',
    '{"jsonrpc":"2.0","method":"ping","Method":"tools/call"}',
    '{"jsonrpc":"2.0","method":"ping","extra":1}',
    '{"jsonrpc":"2.0","method":1}',
    '{"jsonrpc":"2.0","method":null,"id":1,"result":{}}',
    '{"jsonrpc":"2.0","method":"ping","result":{}}',
    '{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
    '{"jsonrpc":"2.0","id":1,"result":{},"params":{}}',
    '{"jsonrpc":"2.0","id":1}',
    '{"jsonrpc":"2.0","method":"ping","id":1.5}',
    '{"jsonrpc":"2.0","method":"ping","id":12345678901234567890}',
    '{"jsonrpc":"2.0","method":"ping","id":null}',
    '{"jsonrpc":"2.0","method":"ping","params":[]}',
    '{"jsonrpc":"2.0","method":"Tools/Call","id":1}',
    '{"jsonrpc":"2.0","method":" tools/list","id":1}',
    '{"jsonrpc":"2.0","method":"tools/ca\uff4cl","id":1}',
    '[]',
    '[[]]',
  ];
  for (const text of bad) assert.equal(read(text).ok, false, text);
});

test('a call names one tool, in one spelling', () => {
  const good = read(call('{"name":"x","arguments":{"Name":"y"},"_meta":{},"task":{}}'));
  assert.deepEqual(good.ok && good.calls, [{ id: 1, name: 'x', arguments: { Name: 'y' } }]);
  for (const params of [
    '{}',
    '{"name":1}',
    '{"name":"x","Name":"y"}',
    '{"name":"x","argumentſ":{}}',
    '{"name":"x","\uff4eame":"y"}',
    '{"name":"x","name":"y"}',
  ])
    assert.equal(read(call(params)).ok, false, params);
  assert.deepEqual(read('{"jsonrpc":"2.0","method":"tools/call"}'), {
    ok: false,
    code: RPC.invalidRequest,
    message: 'tools/call names a tool: params.name is a string',
  });
});
