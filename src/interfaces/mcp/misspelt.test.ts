import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { refuseMisspelt } from './misspelt.ts';

const refused = (name: string, meant: string) =>
  assert.throws(() => refuseMisspelt([name]), new RegExp(`no such parameter; ${meant} is the one`), name);

test('a parameter that was meant to narrow and is misspelt is refused, naming the one that was meant', () => {
  for (const name of [
    'readonly',
    'readOnly',
    'read-only',
    'READ_ONLY',
    'Read_Only',
    'read_only ',
    'mcp.read_only',
    'amp;read_only',
    'read_onyl',
    'raed_only',
    'red_only',
    'reed_onli',
    'ｒead_only',
    'ro',
  ])
    refused(name, 'read_only');
  for (const name of [
    'toolset',
    'toolSets',
    'tool_sets',
    'TOOLSETS',
    'toolsest',
    'tools',
    'toolsets[]',
    'x-toolsets',
  ])
    refused(name, 'toolsets');
});

test('what narrows, and what clients add for themselves, is left alone', () => {
  const own =
    'sessionId session_id token key api_key v version profile client utm_source code state read only write';
  refuseMisspelt(['read_only', 'toolsets', '', ...own.split(' ')]);
});

test('property: one slip in a name is found, and no long text is expensive', () => {
  const letter = fc.constantFrom(...Array.from('abcdefghijklmnopqrstuvwxyz_'));
  fc.assert(
    fc.property(
      fc.constantFrom('read_only', 'toolsets'),
      fc.nat(8),
      letter,
      fc.boolean(),
      (name, at, other, isNew) => {
        const slip = name.slice(0, at) + other + name.slice(isNew ? at : at + 1);
        if (slip !== name) refused(slip, name);
      },
    ),
  );
  refuseMisspelt([`${'a'.repeat(30_000)}`, ...Array(500).fill('readthis')]);
});
