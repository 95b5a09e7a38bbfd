import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { AllowList, McpPolicy, ToolRule } from './auth-policy.ts';
import {
  decideTool,
  isRuleName,
  isToolName,
  ruleFor,
  scopesToAskFor,
  type ToolCaller,
} from './mcp-policy.ts';

const everyone: AllowList = { everyone: true, users: [], emails: [], domains: [], groups: [], clients: [] };
const only = (user: string): AllowList => ({ ...everyone, everyone: false, users: [user] });
const rule = (name: string, more: Partial<ToolRule> = {}): ToolRule => ({ name, scopes: [], ...more });
const policy = (tools: ToolRule[], fallback: McpPolicy['default'] = 'deny'): McpPolicy => ({
  path: '/',
  default: fallback,
  tools,
});
const caller = (user: string, scopes: string[] = []): ToolCaller => ({
  isNamedIn: (allow) => allow.everyone || allow.users.includes(user),
  lacks: (needed) => !needed.every((scope) => scopes.includes(scope)),
});
const kindOf = (rules: McpPolicy, name: unknown, who = caller('alice')) => decideTool(rules, name, who).kind;

test('a tool that no rule is about is under the default', () => {
  assert.equal(kindOf(policy([]), 'x'), 'hidden');
  assert.equal(kindOf(policy([], 'allow'), 'x'), 'allowed');
});

test('the rule that says most of the name decides alone, wherever it stands', () => {
  const rules = [
    rule('*', { allow: everyone }),
    rule('delete_*', { deny: true }),
    rule('delete_draft*', { allow: only('alice') }),
    rule('delete_draft', { allow: everyone }),
  ];
  for (const tools of [rules, rules.toReversed()]) {
    assert.equal(kindOf(policy(tools), 'read'), 'allowed');
    assert.equal(kindOf(policy(tools), 'delete_all'), 'hidden');
    assert.equal(kindOf(policy(tools), 'delete_'), 'hidden');
    assert.equal(kindOf(policy(tools), 'delete_drafts'), 'allowed');
    assert.equal(kindOf(policy(tools), 'delete_drafts', caller('bob')), 'hidden');
    assert.equal(kindOf(policy(tools), 'delete_draft', caller('bob')), 'allowed');
  }
});

test('who is not named is not allowed, also where everything else is', () => {
  const rules = policy([rule('x', { allow: only('alice'), scopes: ['s'] })], 'allow');
  assert.equal(kindOf(rules, 'x', caller('bob', ['s'])), 'hidden');
  assert.deepEqual(decideTool(rules, 'x', caller('alice')), { kind: 'lacks-scopes', scopes: ['s'] });
  assert.equal(kindOf(rules, 'x', caller('alice', ['s'])), 'allowed');
  assert.equal(kindOf(policy([rule('x')], 'allow'), 'x'), 'hidden', 'a rule that names nobody');
});

test('what is no plain name is no tool under any rule', () => {
  const open = policy([rule('*', { allow: everyone })], 'allow');
  for (const name of [
    '',
    ' x',
    'x ',
    'x\n',
    'x\u0000',
    'é',
    '\u202ex',
    'a*',
    'x'.repeat(129),
    1,
    null,
    undefined,
    ['x'],
  ])
    assert.equal(kindOf(open, name), 'hidden', String(name));
  for (const name of ['a', 'A.b-c_d', 'ns/tool', 'ns:tool', 'x'.repeat(128)])
    assert.equal(kindOf(open, name), 'allowed');
});

test('a name of a rule is a name of a tool, or the beginning of one with one * behind it', () => {
  for (const name of ['*', 'a', 'a*', 'a_b/*']) assert.ok(isRuleName(name), name);
  for (const name of ['', '**', '*a', 'a*b', 'a**', ' a', 'é*']) assert.ok(!isRuleName(name), name);
});

const toolName = fc.stringMatching(/^[ab_]{1,5}$/);
const ruleName = fc.oneof(
  toolName,
  toolName.map((name) => `${name}*`),
  fc.constant('*'),
);

test('property: the winner covers the name, none that covers it says more, and order makes no difference', () => {
  fc.assert(
    fc.property(fc.uniqueArray(ruleName, { maxLength: 12 }), toolName, fc.nat(), (names, name, shift) => {
      const rules = names.map((one) => rule(one));
      const found = ruleFor({ tools: rules }, name);
      const covering = names.filter(
        (one) => one === name || (one.endsWith('*') && name.startsWith(one.slice(0, -1))),
      );
      const rank = (one: string) => (one === name ? Number.POSITIVE_INFINITY : one.length);
      const best = covering.toSorted((a, b) => rank(b) - rank(a))[0];
      assert.equal(found?.name, best);
      const at = shift % (rules.length + 1);
      const turned = [...rules.slice(at), ...rules.slice(0, at)].toReversed();
      assert.equal(ruleFor({ tools: turned }, name)?.name, best);
    }),
  );
});

test('property: nobody who is named nowhere gets anything where the default is to deny', () => {
  const anyRule = fc.record({ name: ruleName, users: fc.array(fc.constantFrom('alice', 'bob')) });
  fc.assert(
    fc.property(
      fc.uniqueArray(anyRule, { selector: ({ name }) => name }),
      fc.oneof(toolName, fc.anything()),
      (some, name) => {
        const tools = some.map((one) =>
          rule(one.name, { allow: { ...everyone, everyone: false, users: one.users } }),
        );
        assert.equal(kindOf(policy(tools), name, caller('mallory', ['s'])), 'hidden');
        assert.ok(isToolName(name) || kindOf(policy(tools, 'allow'), name) === 'hidden');
      },
    ),
  );
});

test('clients can ask for the scopes of the policy and of its rules, each once', () => {
  const base = { kind: 'oauth', scopes: ['access'] } as unknown as Parameters<typeof scopesToAskFor>[0];
  assert.deepEqual(scopesToAskFor(base), ['access']);
  const mcp = policy([rule('a', { scopes: ['write', 'access'] }), rule('b', { scopes: ['write'] })]);
  assert.deepEqual(scopesToAskFor({ ...base, mcp }), ['access', 'write']);
});
