/**
 * The text of a settings file → plain data, and where each setting stands in it. Says nothing about what the settings
 * mean. `load.ts` loads this when a file is named: without one, no start waits for a YAML parser.
 */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLError,
} from 'yaml';
import { messageOf } from '../core/errors.ts';
import { ConfigError, type Locate, type Path } from './problem.ts';

const MAX_ALIASES = 100;

/** @throws ConfigError with the first fault only: what a parser says after it mostly follows from it. */
export function parseSettings(
  path: string,
  text: string,
): { value: Record<string, unknown>; locate: Locate } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  const [fault] = [...document.errors, ...document.warnings];
  if (fault) throw new ConfigError([`${path}:${placeOf(fault, lines)}: ${wordsOf(fault)}`]);
  const value = plainValue(path, document);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError([`${path}:1: has to be a mapping of settings, such as "http_port: 8080"`]);
  const locate: Locate = (keys) => `${path}:${lineOf(document.contents, keys, lines)}`;
  return { value: { ...value }, locate };
}

function placeOf({ pos: [offset] }: YAMLError, lines: LineCounter): string {
  const { line, col } = lines.linePos(offset);
  return `${line}:${col}`;
}

const wordsOf = ({ code, message }: YAMLError): string =>
  code === 'MULTIPLE_DOCS'
    ? 'a second document begins here; keep one, without ---'
    : (message.split('\n')[0] ?? message);

/** An empty file holds no setting. */
function plainValue(path: string, document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
  } catch (cause) {
    throw new ConfigError([`${path}: ${messageOf(cause)}`], { cause });
  }
}

/** The line of the deepest part of the path that is in the file. */
function lineOf(root: Node | null, keys: Path, lines: LineCounter): number {
  let node: unknown = root;
  let offset = 0;
  for (const key of keys) {
    const part = partOf(node, key);
    if (!part) break;
    offset = part.offset ?? offset;
    // What an alias stands for is elsewhere; the place of the alias is where it was meant.
    node = isAlias(part.value) ? undefined : part.value;
  }
  return lines.linePos(offset).line;
}

/** A member of a mapping begins at its key, an item of a list at itself. */
function partOf(node: unknown, key: PropertyKey): { value: unknown; offset: number | undefined } | undefined {
  if (isSeq(node)) {
    const item: unknown = typeof key === 'number' ? node.items[key] : undefined;
    return isNode(item) ? { value: item, offset: item.range?.[0] } : undefined;
  }
  if (!isMap(node)) return undefined;
  for (const pair of node.items)
    if (isPair(pair) && isScalar(pair.key) && pair.key.value === key)
      return { value: pair.value, offset: pair.key.range?.[0] };
  return undefined;
}
