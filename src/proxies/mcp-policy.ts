/** Which tools of an MCP server that stands behind a proxy a caller may use. Pure; asked for every call and every tool of a list. */
import type { AllowList, McpPolicy, OAuthPolicy, ToolRule } from './auth-policy.ts';

/**
 * What a tool can be called here. Nothing else is let through, under any rule: an upstream that trims, folds or
 * normalises names would run another tool than the one that was decided on.
 * @see MCP 2026-07-28, Tools, Tool Names
 */
const TOOL_NAME = /^[A-Za-z0-9_./:-]{1,128}$/;
const ANY = '*';

export const isToolName = (name: unknown): name is string => typeof name === 'string' && TOOL_NAME.test(name);

/** Of a rule: a name, how names begin with `*` behind it, or `*` alone. */
export const isRuleName = (name: string): boolean =>
  name === ANY || isToolName(name.endsWith(ANY) ? name.slice(0, -ANY.length) : name);

/** The caller, as far as rules are about it. */
export interface ToolCaller {
  isNamedIn(allow: AllowList): boolean;
  lacks(scopes: readonly string[]): boolean;
}

export type ToolDecision =
  | { readonly kind: 'allowed'; readonly callsPerMinute: number | undefined }
  /** As if the tool did not exist. */
  | { readonly kind: 'hidden' }
  /** A token with these would do. */
  | { readonly kind: 'lacks-scopes'; readonly scopes: readonly string[] };

const HIDDEN: ToolDecision = { kind: 'hidden' };
const ALLOWED: ToolDecision = { kind: 'allowed', callsPerMinute: undefined };

export function decideTool(policy: McpPolicy, name: unknown, caller: ToolCaller): ToolDecision {
  if (!isToolName(name)) return HIDDEN;
  const rule = ruleFor(policy, name);
  if (!rule) return policy.default === 'allow' ? ALLOWED : HIDDEN;
  const { allow, deny, scopes, calls_per_minute: callsPerMinute } = rule;
  if (deny || !allow || !caller.isNamedIn(allow)) return HIDDEN;
  if (scopes.length > 0 && caller.lacks(scopes)) return { kind: 'lacks-scopes', scopes };
  return { kind: 'allowed', callsPerMinute };
}

/** The one that says most of the name: the name itself, else the longest beginning. No two say the same (`protection/schema.ts`). */
export function ruleFor({ tools }: Pick<McpPolicy, 'tools'>, name: string): ToolRule | undefined {
  let best: ToolRule | undefined;
  for (const rule of tools) {
    if (rule.name === name) return rule;
    if (!rule.name.endsWith(ANY) || !name.startsWith(rule.name.slice(0, -ANY.length))) continue;
    if (!best || rule.name.length > best.name.length) best = rule;
  }
  return best;
}

/** What a client can ask for: the scopes of the policy and those of its rules for tools. */
export function scopesToAskFor({ scopes, mcp }: OAuthPolicy): readonly string[] {
  return mcp ? [...new Set([...scopes, ...mcp.tools.flatMap((rule) => rule.scopes)])] : scopes;
}
