/** The readers of what clients send, on their own. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import fc from 'fast-check';
import { isJSONRPCNotification, isJSONRPCRequest } from '@modelcontextprotocol/server';
import { ManualClock } from '../../core/clock.ts';
import { readAccept } from './accept.ts';
import { parseEventId } from './channel.ts';
import { offersForms } from './confirm.ts';
import { plainMessage } from './message.ts';
import { throttled } from './progress.ts';
import { createRequestStates } from './request-state.ts';

test('Accept is read with ranges, parameters and refusals', () => {
  const cases: [string | undefined, boolean, boolean, boolean][] = [
    [undefined, true, true, false],
    ['application/json, text/event-stream', true, true, false],
    ['text/event-stream;q=0.5 , application/json;q=1', true, true, false],
    ['application/json', true, false, true],
    ['application/json, text/event-stream;q=0', true, false, true],
    ['application/json, text/event-stream; q=0.000', true, false, true],
    ['application/*', true, false, false],
    ['text/*', false, true, false],
    ['*/*;q=0.1', true, true, false],
    ['text/html', false, false, false],
    ['application/jsonx', false, false, false],
  ];
  for (const [header, json, events, onlyJson] of cases) {
    const { strict: _strict, ...accepted } = readAccept(header);
    assert.deepEqual(accepted, { json, events, onlyJson }, header);
  }
});

test('property: what is taken for a plain message is one for the SDK too', () => {
  const member = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom('2.0', 'tools/call', 1, {}));
  const body = fc.record(
    {
      jsonrpc: fc.oneof(fc.constant('2.0'), member),
      id: member,
      method: member,
      params: member,
      extra: member,
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(body, (message) => {
      const plain = plainMessage(message);
      if (!plain) return;
      assert.equal(isJSONRPCRequest(message), plain.id !== undefined);
      assert.equal(isJSONRPCNotification(message), plain.id === undefined);
    }),
    { numRuns: 2000 },
  );
});

test('property: an event id is one of ours or none', () => {
  fc.assert(fc.property(fc.string(), (text) => assert.equal(parseEventId(text), undefined)));
  fc.assert(
    fc.property(
      fc.constantFrom('p', 'g'),
      fc.stringMatching(/^[0-9a-f]{16}$/),
      fc.nat(999_999_999),
      (kind, hex, sequence) => {
        const streamId = `${kind}${hex}`;
        assert.deepEqual(parseEventId(`${streamId}.${sequence}`), { kind, streamId, sequence });
      },
    ),
  );
});

test('property: no text is a state but one that was issued', () => {
  const states = createRequestStates(Buffer.alloc(32, 1), new ManualClock());
  const state = states.issue({ principalId: 'p', operation: 'o', inputDigest: 'd' });
  fc.assert(fc.property(fc.string(), (text) => assert.equal(states.read(text, 'p'), undefined)));
  fc.assert(
    fc.property(fc.nat(state.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
      const changed = state.slice(0, at) + character + state.slice(at + 1);
      // Base64 has more than one spelling for the last bits; what counts is that nothing else is read.
      const receipt = states.read(changed, 'p');
      if (changed === state || receipt) assert.equal(receipt?.operation, 'o');
      else assert.equal(receipt, undefined);
    }),
  );
  assert.equal(states.read(state, 'q'), undefined);
});

test('progress rises, and comes no more often than it can be followed, but for the last', () => {
  const clock = new ManualClock();
  const sent: number[] = [];
  const progress = throttled(clock, (update) => sent.push(update.progress));
  progress({ progress: 1 });
  progress({ progress: 2 });
  clock.advance(100);
  progress({ progress: 2 });
  progress({ progress: 3 });
  progress({ progress: 3 });
  progress({ progress: 10, total: 10 });
  assert.deepEqual(sent, [1, 2, 10]);
});

test('a client offers forms by saying so, or by naming no mode at all', () => {
  for (const [elicitation, offers] of [
    [{}, true],
    [{ form: {} }, true],
    [{ form: {}, url: {} }, true],
    [{ url: {} }, false],
    [undefined, false],
    ['x', false],
  ] as const)
    assert.equal(offersForms({ elicitation }), offers);
  assert.equal(offersForms(undefined), false);
});
