import assert from 'node:assert/strict';
import test from 'node:test';
import { escapeHtml } from './html.ts';

test('nothing in a text can open a tag, an entity or a quote, and all else stays as it is', () => {
  assert.equal(
    escapeHtml(`<a href="x" id='y'>&amp;`),
    '&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;amp;',
  );
  assert.equal(escapeHtml('grün / 100 %'), 'grün / 100 %');
});
