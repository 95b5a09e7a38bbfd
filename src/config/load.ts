/**
 * Environment and file → config. Pure but for the file that `OHP_CONFIG` names. A bad setting stops the start and
 * says the key, where it stands, what was found and what is allowed; nothing is guessed and nothing is ignored.
 */
import { isAlias, isMap, isPair, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { z } from 'zod';
import { messageOf } from '../core/errors.ts';
import { type Config, configSchema, environmentKeys } from './config.ts';

const PREFIX = 'OHP_';
const FILE_VARIABLE = 'OHP_CONFIG';
/** Read by the command-line client, so they may be present where the server starts. */
const clientVariables = ['OHP_URL', 'OHP_TOKEN', 'OHP_CA_FILE'];
const MAX_ALIASES = 100;
const MAX_SHOWN = 80;

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options?: { cause: unknown }) {
    super(
      `the configuration is not usable:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`,
      options,
    );
    this.problems = problems;
  }
}

type Environment = Readonly<Record<string, string | undefined>>;
type Path = readonly PropertyKey[];
/** Where a setting was found: `environment variable OHP_BIND` or `config.yaml:3`. */
type Locate = (path: Path) => string;

export function loadConfig(env: Environment, readFile: (path: string) => string): Config {
  refuseUnknownVariables(env);
  const file = readSettings(env[FILE_VARIABLE], readFile);
  const raw = structuredClone(file.value);
  const variables = new Map<string, string>();
  for (const [variable, key] of Object.entries(environmentKeys)) {
    const text = env[variable];
    if (text === undefined) continue;
    setKey(raw, key.split('.'), coerce(key, text));
    variables.set(key, variable);
  }
  return check(raw, (path) => {
    const variable = variables.get(path.join('.'));
    return variable === undefined ? file.locate(path) : `environment variable ${variable}`;
  });
}

function refuseUnknownVariables(env: Environment): void {
  const known = [...Object.keys(environmentKeys), FILE_VARIABLE, ...clientVariables];
  const unknown = Object.keys(env).filter((name) => name.startsWith(PREFIX) && !known.includes(name));
  if (unknown.length === 0) return;
  throw new ConfigError(
    unknown.map((name) => `environment variable ${name}: unknown; known are ${known.sort().join(', ')}`),
  );
}

function readSettings(
  path: string | undefined,
  readFile: (path: string) => string,
): { value: Record<string, unknown>; locate: Locate } {
  if (path === undefined) return { value: {}, locate: () => 'default' };
  const lines = new LineCounter();
  const document = parseDocument(readText(path, readFile), { lineCounter: lines, uniqueKeys: true });
  if (document.errors.length > 0)
    throw new ConfigError(
      document.errors.map(
        ({ message, pos }) => `${path}:${lines.linePos(pos[0]).line}: ${message.split('\n')[0]}`,
      ),
    );
  const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError([`${path}:1: has to be a mapping of settings, such as "http_port: 8080"`]);
  const locate: Locate = (keys) => `${path}:${lineOf(document.contents, keys, lines)}`;
  return { value: { ...value }, locate };
}

function readText(path: string, readFile: (path: string) => string): string {
  try {
    return readFile(path);
  } catch (cause) {
    throw new ConfigError(
      [`environment variable ${FILE_VARIABLE}: ${path} can't be read: ${messageOf(cause)}`],
      { cause },
    );
  }
}

/** The line of the deepest part of the path that is in the file. */
function lineOf(root: Node | null, keys: Path, lines: LineCounter): number {
  let node: unknown = root;
  let offset = 0;
  for (const key of keys) {
    const pair = isMap(node)
      ? node.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === key)
      : undefined;
    if (!pair) break;
    if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
    node = isAlias(pair.value) ? undefined : pair.value;
  }
  return lines.linePos(offset).line;
}

function setKey(target: Record<string, unknown>, keys: readonly string[], value: unknown): void {
  const [first = '', ...rest] = keys;
  if (rest.length === 0) {
    target[first] = value;
    return;
  }
  const inner = target[first];
  const next = typeof inner === 'object' && inner !== null ? (inner as Record<string, unknown>) : {};
  target[first] = next;
  setKey(next, rest, value);
}

/** A variable is text; ports are the only numbers among them. What is not a number stays text, for the error to show. */
function coerce(key: string, text: string): unknown {
  return key.endsWith('_port') && /^\d{1,5}$/.test(text) ? Number(text) : text;
}

function check(raw: Record<string, unknown>, locate: Locate): Config {
  const result = configSchema.safeParse(raw);
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap((issue) => problemsOf(issue, raw, locate));
  throw new ConfigError(problems, { cause: result.error });
}

function problemsOf(issue: z.core.$ZodIssue, raw: unknown, locate: Locate): string[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      return `${path.join('.')} (${locate(path)}): unknown setting; known here are ${knownKeys(issue.path).join(', ')}`;
    });
  const shown = isSecret(issue.path)
    ? 'a value that is not shown'
    : JSON.stringify(valueAt(raw, issue.path))?.slice(0, MAX_SHOWN);
  return [`${issue.path.join('.')} (${locate(issue.path)}): found ${shown ?? 'nothing'}; ${issue.message}`];
}

const valueAt = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (inner, key) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, key) : undefined),
    value,
  );

const isSecret = (path: Path): boolean => schemaAt(path)?.meta()?.secret === true;

function knownKeys(path: Path): string[] {
  const schema = schemaAt(path);
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

function schemaAt(path: Path): z.ZodType | undefined {
  let schema: unknown = configSchema;
  for (const key of path) {
    const inner = unwrap(schema);
    if (inner instanceof z.ZodObject) schema = inner.shape[String(key)];
    else if (inner instanceof z.ZodArray) schema = inner.element;
    else return undefined;
  }
  // A secret's mark sits on the outermost schema; an object's keys on the innermost.
  return unwrap(schema) instanceof z.ZodObject
    ? (unwrap(schema) as z.ZodObject)
    : schema instanceof z.ZodType
      ? schema
      : undefined;
}

function unwrap(schema: unknown): unknown {
  let inner = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional)
    inner = inner.unwrap();
  return inner;
}
