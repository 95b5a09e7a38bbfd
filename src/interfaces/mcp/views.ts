/**
 * What one set of permissions sees through one URL: the tools, and the bytes of tools/list, made once and kept.
 * A courtesy to the reader of the list; `dispatch` decides what may run. The narrowing of the URL is enforced here,
 * because only this endpoint knows of it.
 */
import { mayRun } from '../../core/dispatch.ts';
import { AppError } from '../../core/errors.ts';
import { lazy } from '../../core/lazy.ts';
import { type AnyOperation, type Toolset, toolsets } from '../../core/operation.ts';
import { ordered } from '../../core/permissions.ts';
import { isConfined, type Principal } from '../../core/principal.ts';
import { META } from './message.ts';
import type { ServerProfile } from './profile.ts';
import { refuseMisspelt } from './misspelt.ts';
import { prepare } from './reply.ts';
import { CALL_OPERATION, callOperationDefinition, createFindOperations } from './search.ts';
import { LIST_TTL_MS, MAX_VIEWS, type McpSettings } from './settings.ts';
import { definitionOf, type ToolDefinition } from './tools.ts';

/** Longer queries are parsed every time, so that what is kept stays small. */
const KEPT_QUERY_CHARACTERS = 256;

export interface View {
  /** What tools/call and call_operation reach. Whether the principal may, `dispatch` says. */
  readonly operations: ReadonlyMap<string, AnyOperation>;
  readonly hasCallOperation: boolean;
  readonly tools: readonly ToolDefinition[];
  readonly toolsWithoutIcons: readonly ToolDefinition[];
  /** tools/list of the legacy era, ready to send. */
  readonly legacyList: Buffer;
  readonly legacyListWithoutIcons: Buffer;
  /** tools/list of the modern era, ready to send. */
  readonly modernList: Buffer;
}

export interface Views {
  /** @throws AppError INVALID_INPUT when the query names no toolset or mode that exists, or misspells that it narrows. */
  for(principal: Principal, query: string): View;
}

interface Narrowing {
  readonly key: string;
  readonly toolsets: ReadonlySet<Toolset>;
  readonly readOnly: boolean;
}

/** What MCP has of the operations. Nothing of this folder sees the others. */
export const servedByMcp = (operations: readonly AnyOperation[]): readonly AnyOperation[] =>
  operations.filter(({ mcp }) => mcp !== 'never');

export function createViews(
  all: readonly AnyOperation[],
  settings: Pick<McpSettings, 'toolsets' | 'readOnly'>,
  profile: ServerProfile,
  isOff: (operation: AnyOperation) => boolean = () => false,
): Views {
  const operations = servedByMcp(all);
  const off = new Set(operations.filter(isOff));
  const definitions = new Map(
    operations.map((operation) => [operation, lazy(() => definitionOf(operation))]),
  );
  const views = new Map<string, View>();
  const narrowings = new Map<string, Narrowing>();
  const byPrincipal = new WeakMap<Principal, Map<string, View>>();

  function narrowingOf(query: string): Narrowing {
    return remember(narrowings, query, () => parseNarrowing(query, settings));
  }

  function viewOf(principal: Principal, narrowing: Narrowing): View {
    return remember(views, `${grantsOf(principal)}/${narrowing.key}`, () =>
      buildView({ operations, off, definitions, principal, narrowing, profile }),
    );
  }

  return {
    for(principal, query) {
      if (query.length > KEPT_QUERY_CHARACTERS) return viewOf(principal, parseNarrowing(query, settings));
      const known = byPrincipal.get(principal);
      const found = known?.get(query);
      if (found) return found;
      const own = known ?? new Map<string, View>();
      if (!known) byPrincipal.set(principal, own);
      return remember(own, query, () => viewOf(principal, narrowingOf(query)));
    },
  };
}

/** Callers choose the keys, so the map starts again when it is full. */
function remember<Value>(map: Map<string, Value>, key: string, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  if (map.size >= MAX_VIEWS) map.clear();
  map.set(key, made);
  return made;
}

/** Everything of a principal that `mayRun` looks at. */
function grantsOf(principal: Principal): string {
  const granted = ordered(principal.permissions).join(' ');
  return `${principal.kind}${isConfined(principal) ? '!' : ''}${granted}`;
}

interface ViewSource {
  operations: readonly AnyOperation[];
  off: ReadonlySet<AnyOperation>;
  definitions: ReadonlyMap<AnyOperation, () => ToolDefinition>;
  principal: Principal;
  narrowing: Narrowing;
  profile: ServerProfile;
}

function buildView({ operations, off, definitions, principal, narrowing, profile }: ViewSource): View {
  const served = operations.filter((operation) => isServed(operation, narrowing));
  const permitted = served.filter((operation) => !off.has(operation) && mayRun(operation, principal));
  const find = createFindOperations(permitted);
  const hasSearch = mayRun(find, principal);
  const listed = permitted.filter(({ mcp }) => mcp === 'listed');
  const tools = [
    ...listed.map((operation) => definitions.get(operation)?.() ?? definitionOf(operation)),
    ...(hasSearch ? [definitionOf(find), callOperationDefinition(narrowing.readOnly)] : []),
  ];
  const toolsWithoutIcons = tools.map(({ icons: _icons, ...tool }): ToolDefinition => tool);
  const list = JSON.stringify(tools);
  const cache = `"ttlMs":${LIST_TTL_MS},"cacheScope":"private"`;
  const meta = JSON.stringify({ [META.serverInfo]: profile });
  return {
    operations: new Map([...served, find].map((operation) => [operation.name, operation])),
    hasCallOperation: hasSearch,
    tools,
    toolsWithoutIcons,
    legacyList: prepare(`{"tools":${list}}`),
    legacyListWithoutIcons: prepare(JSON.stringify({ tools: toolsWithoutIcons })),
    modernList: prepare(`{"tools":${list},"resultType":"complete",${cache},"_meta":${meta}}`),
  };
}

const isServed = (operation: AnyOperation, narrowing: Narrowing): boolean =>
  narrowing.toolsets.has(operation.toolset) && (operation.effect === 'read' || !narrowing.readOnly);

function parseNarrowing(query: string, settings: Pick<McpSettings, 'toolsets' | 'readOnly'>): Narrowing {
  const parameters = new URLSearchParams(query);
  refuseMisspelt(parameters.keys());
  const asked = parameters.getAll('toolsets').flatMap((names) => names.split(','));
  const wanted = asked.length === 0 ? settings.toolsets : asked.map(requireToolset);
  const kept = settings.toolsets.filter((toolset) => wanted.includes(toolset));
  const readOnly = settings.readOnly || parameters.getAll('read_only').some(requireBoolean);
  return { key: `${kept.join(',')}${readOnly ? '/ro' : ''}`, toolsets: new Set(kept), readOnly };
}

function requireToolset(text: string): Toolset {
  const found = toolsets.find((toolset) => toolset === text.trim());
  if (found) return found;
  throw new AppError(
    'INVALID_INPUT',
    `toolsets in the URL: no such toolset; valid are ${toolsets.join(', ')}`,
    {
      details: { valid_toolsets: toolsets },
    },
  );
}

function requireBoolean(text: string): boolean {
  if (text === 'true' || text === '1' || text === '') return true;
  if (text === 'false' || text === '0') return false;
  throw new AppError('INVALID_INPUT', 'read_only in the URL: valid are true and false');
}

export const isCallOperation = (view: View, name: string): boolean =>
  view.hasCallOperation && name === CALL_OPERATION;
