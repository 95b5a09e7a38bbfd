/** Marks behind ids of sessions. Over the wire: gateway.mcp-sessions.test.ts. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { sessionIn } from './sessions.ts';
import { MARK_LENGTH } from './sticky.ts';

const mark = 'm'.repeat(MARK_LENGTH);

test('an id is what stands before its mark, and a mark without an id is an id', () => {
  for (const [text, expected] of [
    [`a~${mark}`, { id: 'a', mark }],
    [`a~b~${mark}`, { id: 'a~b', mark }],
    [`~${mark}`, { id: `~${mark}`, mark: undefined }],
    [mark, { id: mark, mark: undefined }],
    [`a${mark}`, { id: `a${mark}`, mark: undefined }],
    [`a~${mark}x`, { id: `a~${mark}x`, mark: undefined }],
    ['', { id: '', mark: undefined }],
  ] as const)
    assert.deepEqual(sessionIn(text), expected);
});
