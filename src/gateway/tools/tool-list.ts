/**
 * The lists of tools in what a target answers, without those that the caller may not use. Found by their shape: on a
 * stream that was resumed nobody knows any more what was asked. Pure.
 */
import { toolLimits } from './limits.ts';
import { isRecord, type JsonObject } from './messages.ts';

/** Text that has none of these holds no list, whatever its escapes: cheaper to know than to parse. */
const MAY_HOLD_LIST = /tools|\\u/;

export const mayHoldList = (text: string): boolean => MAY_HOLD_LIST.test(text);

/** A message, or a batch of them, as the caller may see it; undefined: as it is. @throws when there are too many tools. */
export function withoutHidden(value: unknown, isShown: (name: unknown) => boolean): unknown {
  const parts: readonly unknown[] = Array.isArray(value) ? value : [value];
  const count = parts.reduce<number>((sum, part) => sum + (toolsIn(part)?.length ?? 0), 0);
  if (count > toolLimits.listTools) throw new Error(`the list has more than ${toolLimits.listTools} tools`);
  if (!Array.isArray(value)) return messageWithoutHidden(value, isShown);
  const changed = parts.map((part) => messageWithoutHidden(part, isShown));
  return changed.every((part) => part === undefined) ? undefined : parts.map((part, i) => changed[i] ?? part);
}

const toolsIn = (value: unknown): readonly unknown[] | undefined =>
  isRecord(value) && isRecord(value.result) && Array.isArray(value.result.tools)
    ? value.result.tools
    : undefined;

function messageWithoutHidden(value: unknown, isShown: (name: unknown) => boolean): unknown {
  const tools = toolsIn(value);
  if (!tools || !isRecord(value) || !isRecord(value.result)) return undefined;
  const shown = tools.filter((tool) => isRecord(tool) && isShown(tool.name));
  return { ...value, result: { ...value.result, tools: shown, ...privateScope(value.result) } };
}

/**
 * The list is this caller's and nobody else's, also where nothing was taken out of it.
 * @see MCP 2026-07-28, Caching: what varies by authorization is `private`
 */
const privateScope = (result: JsonObject): { cacheScope?: 'private' } =>
  Object.hasOwn(result, 'cacheScope') ? { cacheScope: 'private' } : {};
