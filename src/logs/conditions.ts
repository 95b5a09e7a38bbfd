/** What is asked, as SQL. The words matter: SQLite takes a partial index only where they are the same. Pure. */
import { DAY, HOUR, MINUTE } from '../core/clock.ts';
import type { LogLevel, RecordKind } from '../core/record.ts';
import type { Column, Range, Term } from './filter.ts';
import { levelRank } from './levels.ts';
import { IN_EACH_SLOT } from './slots.ts';

/** Every part that is present has to hold. */
export interface LogFilter {
  /** This level and above. */
  level?: LogLevel | undefined;
  kind?: RecordKind | undefined;
  /** Canonical; `*.example.com` is every name below it. */
  hostname?: string | undefined;
  /** As `hostname`, or of nothing in particular. */
  hostnameOrNone?: string | undefined;
  statusMin?: number | undefined;
  statusMax?: number | undefined;
  clientAddress?: string | undefined;
  principal?: string | undefined;
  pathPrefix?: string | undefined;
  traceId?: string | undefined;
  operation?: string | undefined;
  /** In message, path, user agent or detail; the case of ASCII letters doesn't matter. */
  contains?: string | undefined;
  /** Milliseconds since 1970; `since` is included, `until` is not. */
  since?: number | undefined;
  until?: number | undefined;
  /** Of `filter`; they all have to hold as well. */
  terms?: readonly Term[] | undefined;
  /** What was refused, whoever said so. */
  refused?: boolean | undefined;
  /** Without what only says that somebody looked: see `isRoutine`. */
  withoutRoutine?: boolean | undefined;
  /** Confinement: canonical patterns; undefined means everything, an empty list nothing. */
  hostnames?: readonly string[] | undefined;
}

/** Where a page ended: the next one begins with what is older. Row ids count from 1 in every file. */
export interface Position {
  time: number;
  id: number;
}

/** What is rarest comes first: of several indexes, the first one here is used. */
const ORDER = [
  'trace_id',
  'refused',
  'client_address',
  'principal',
  'slow',
  'trouble',
  'audit',
  'notOk',
  'hostname',
  'failed',
  'hostnames',
] as const;
function order(name: (typeof ORDER)[number]): number {
  return ORDER.indexOf(name);
}

interface Condition {
  sql: string;
  values: readonly (string | number)[];
  /** The condition can be answered by an index; of several, the least number says which is used. */
  index?: number;
  /** There is one of failed requests alone. */
  ofFailed?: true;
  /** It is of one hostname, and says no more. */
  ofOneHost?: true;
  /** The index begins with the slot. */
  bySlot?: true;
}

interface Where {
  where: string[];
  values: unknown[];
  /** Longest time that is asked about at once, milliseconds: nobody looks at the clock meanwhile. */
  widest: number;
}

/** After a quiet time a busy one may come: without an index, so much of it is read at most. */
const WIDEST_SCAN_MS = 10 * MINUTE;

/** Values come after the window's two bounds and before the limit. */
export function statementOf(filter: LogFilter, after?: Position): Omit<Where, 'where'> & { sql: string } {
  const { where, values, widest } = whereOf(filter);
  if (after) {
    where.push('(time < ? or id < ?)');
    values.push(after.time, after.id);
  }
  const sql = `select * from records where ${['time >= ? and time < ?', ...where].join(' and ')}
    order by time desc, id desc limit ?`;
  return { sql, values, widest };
}

/** Runs a statement that gives names. */
export type AskNames = (sql: string, values: readonly unknown[]) => readonly string[];

/**
 * The same of one file, with the names that it has below a wildcard in the wildcard's place, where no better index is:
 * they are looked up once for all of its windows.
 */
export function withNames(filter: LogFilter, ask: AskNames): LogFilter {
  if (driverOf(conditionsOf(filter))?.index !== order('hostnames')) return filter;
  const { hostname, terms = [] } = filter;
  const asTerm = hostname === undefined ? [] : [{ ...ONE_OF, values: [hostname] }];
  const named = [...asTerm, ...terms].map((term) =>
    term.match === 'host' && !term.negated && term.values.some(isWildcard)
      ? { ...term, values: namesOf(term.values, ask) }
      : term,
  );
  return { ...filter, hostname: undefined, terms: named };
}

const ONE_OF = { negated: false, present: false, match: 'host', column: 'hostname' } as const;
const isWildcard = (hostname: string): boolean => hostname.startsWith('*.');

function namesOf(patterns: readonly string[], ask: AskNames): readonly string[] {
  const { sql, values } = anyOf(patterns.map((pattern) => hostnameCondition(pattern, 'name')));
  return ask(`${NAMES} where ${sql}`, values);
}

/** The condition whose index is used. */
const driverOf = (conditions: readonly Condition[]): Condition | undefined =>
  conditions.filter(({ index }) => index !== undefined).sort((a, b) => (a.index ?? 0) - (b.index ?? 0))[0];

/** What has to hold, and its values in their order; the range of time apart. */
export function whereOf(filter: LogFilter): Where {
  const conditions = conditionsOf(filter);
  const driver = driverOf(conditions);
  const isBare = (it: Condition): boolean =>
    it.index === undefined || it === driver || (it === FAILED && driver?.ofFailed === true);
  const isOfFailed = driver?.ofFailed === true && conditions.includes(FAILED);
  const bySlot = driver?.bySlot === true && !isOfFailed;
  return {
    widest: driver?.index === order('trace_id') ? DAY : driver ? HOUR : WIDEST_SCAN_MS,
    where: [
      ...(bySlot ? [IN_EACH_SLOT] : []),
      // Unary plus keeps SQLite, which has no statistics of a growing file, from preferring another index.
      ...conditions.map((it) => (isBare(it) ? it.sql : `+${it.sql}`)),
    ],
    values: conditions.flatMap(({ values }) => values),
  };
}

/** As `whereOf`, of hostnames alone, for the counts by minute and hour: where they are, there may be no records. */
export function whereOfHosts({ hostname, hostnames, terms = [] }: LogFilter) {
  const conditions = [
    ...when(hostname, (name) => hostnameCondition(name)),
    ...when(hostnames, confinementCondition),
    ...terms.flatMap((term) => (term.match === 'host' ? [ofHosts(term)] : [])),
  ];
  return {
    where: conditions.map(({ sql }) => sql),
    values: conditions.flatMap(({ values }) => values),
    ofOneHost: conditions.length === 1 && conditions[0]?.ofOneHost === true,
  };
}

function ofHosts({
  values: names,
  negated,
}: Pick<Term & { match: 'host' }, 'values' | 'negated'>): Condition {
  const any = anyOf(names.map((name) => hostnameCondition(name)));
  return negated ? { sql: `(${any.sql}) is not true`, values: any.values } : { ...any, sql: `(${any.sql})` };
}

function conditionsOf(filter: LogFilter): Condition[] {
  const { traceId, clientAddress, kind, operation, pathPrefix, contains, withoutRoutine } = filter;
  return [
    ...when(traceId, (id) => isOf('trace_id', id)),
    ...when(clientAddress, (address) => isOf('client_address', address)),
    ...principalConditions(filter),
    ...troubleConditions(filter),
    ...(filter.refused ? [REFUSED] : []),
    ...when(filter.hostname, (name) => hostnamesCondition([name])),
    ...when(filter.hostnames, confinementCondition),
    ...when(kind, kindCondition),
    ...when(filter.hostnameOrNone, ofHostnameOrNone),
    ...when(operation, (it) => ({ sql: 'operation = ?', values: [it] })),
    ...when(pathPrefix, (it) => beginsWith('path', it)),
    ...when(contains, containsCondition),
    ...(filter.terms ?? []).flatMap(termConditions),
    ...(withoutRoutine ? [notRoutine] : []),
  ];
}

function when<T>(value: T | undefined, make: (value: T) => Condition): Condition[] {
  return value === undefined ? [] : [make(value)];
}

/**
 * What this system logs of being asked: reads that went well, MCP messages that went well or ran an operation (its
 * audit record tells what came of it), and requests for its own endpoints that were answered. Who asks what happened
 * would read little else.
 */
const isRoutine = `case kind
  when 'audit' then outcome = 'OK' and json_extract(detail, '$.effect') = 'read'
  when 'mcp' then outcome = 'OK' or json_extract(detail, '$.tool') is not null
  when 'access' then status < 400 and json_extract(detail, '$.request') in ('control', 'mcp', 'metadata')
  end`;
const notRoutine: Condition = { sql: `(${isRoutine}) is not true`, values: [] };

const ANONYMOUS = 'anonymous';

/** The partial index leaves out anonymous callers; it is used when the statement says the same words. */
function principalConditions({ principal }: Pick<LogFilter, 'principal'>): Condition[] {
  if (principal === undefined) return [];
  if (principal === ANONYMOUS) return [{ sql: 'principal = ?', values: [principal] }];
  return [
    { sql: "principal <> 'anonymous'", values: [] },
    { sql: 'principal = ?', values: [principal], index: order('principal') },
  ];
}

const FIRST_FAILED_STATUS = 400;
/** As above: the words of partial indexes on time. */
const FAILED: Condition = { sql: `status >= ${FIRST_FAILED_STATUS}`, values: [], index: order('failed') };
const TROUBLE: Condition = { sql: 'level >= 2', values: [], index: order('trouble') };
const SLOW_MS = 1000;
const SLOW: Condition = { sql: `duration_ms >= ${SLOW_MS}`, values: [], index: order('slow') };
const NOT_OK: Condition = { sql: "outcome <> 'OK'", values: [], index: order('notOk') };

/** The words of the index, which has hostname, principal and client as well: who asks for one reads no other record. */
export const REFUSED_SQL = `(status in (401, 403) or outcome in ('FORBIDDEN', 'UNAUTHENTICATED'))`;
const REFUSED: Condition = { sql: REFUSED_SQL, values: [], index: order('refused') };

function troubleConditions({ level, statusMin, statusMax }: LogFilter): Condition[] {
  const least = level === undefined ? 0 : levelRank(level);
  const conditions: Condition[] = [];
  if (least >= levelRank('warn')) conditions.push(TROUBLE);
  if (least > 0) conditions.push({ sql: '+level >= ?', values: [least] });
  if (statusMin !== undefined && statusMin >= FIRST_FAILED_STATUS) conditions.push(FAILED);
  if (statusMin !== undefined) conditions.push({ sql: '+status >= ?', values: [statusMin] });
  if (statusMax !== undefined) conditions.push({ sql: '+status <= ?', values: [statusMax] });
  return conditions;
}

/** The hostnames that a file has, by one step in their index for each. */
const NAMES = `with recursive names(name) as (
  select min(hostname) from records union all
  select (select min(hostname) from records where hostname > name) from names where name is not null)
  select name from names`;

/** Those below a wildcard are looked up first, and then asked for by their names. */
function hostnamesCondition(hostnames: readonly string[]): Condition {
  const [first, ...more] = hostnames;
  if (first !== undefined && more.length === 0 && !first.startsWith('*.'))
    return { sql: 'hostname = ?', values: [first], index: order('hostname'), ofFailed: true };
  if (!hostnames.some(isWildcard)) {
    const sql = 'hostname in (select value from json_each(?))';
    return { sql, values: [JSON.stringify(hostnames)], index: order('hostnames') };
  }
  const { sql, values } = anyOf(hostnames.map((name) => hostnameCondition(name, 'name')));
  return { sql: `hostname in (${NAMES} where ${sql})`, values, index: order('hostnames') };
}

function hostnameCondition(hostname: string, column: 'hostname' | 'name' = 'hostname'): Condition {
  if (!hostname.startsWith('*.')) return { sql: `${column} = ?`, values: [hostname], ofOneHost: true };
  const below = hostname.slice(1);
  return {
    sql: `(${column} = ? or substr(${column}, -length(?)) = ?)`,
    values: [hostname, below, below],
  };
}

/** The rule of `core/hostname` `confines`, in SQL: the name itself, or any name below a wildcard. */
function confinementCondition(hostnames: readonly string[]): Condition {
  const below = hostnames.filter((name) => name.startsWith('*.')).map((name) => name.slice(1));
  const exact = 'hostname in (select value from json_each(?))';
  if (below.length === 0)
    return { sql: exact, values: [JSON.stringify(hostnames)], index: order('hostnames') };
  return {
    sql: `(${exact} or exists (select 1 from json_each(?) as zone where substr(hostname, -length(zone.value)) = zone.value))`,
    values: [JSON.stringify(hostnames), JSON.stringify(below)],
  };
}

const containsCondition = (text: string): Condition =>
  like(['message', 'path', 'user_agent', 'detail'], text);

function like(within: readonly string[], text: string): Condition {
  const pattern = `%${text.replace(/[\\%_]/g, (found) => `\\${found}`)}%`;
  return {
    sql: `(${within.map((column) => `${column} like ? escape '\\'`).join(' or ')})`,
    values: within.map(() => pattern),
  };
}

/** As above: of audit records, which are few, there is an index. */
const kindCondition = (kind: RecordKind): Condition =>
  kind === 'audit' ? AUDIT : { sql: 'kind = ?', values: [kind] };
const AUDIT: Condition = { sql: "kind = 'audit'", values: [], index: order('audit') };

function ofHostnameOrNone(hostname: string): Condition {
  return anyOf([hostnameCondition(hostname), { sql: 'hostname is null', values: [] }]);
}

/** A column that has an index by slots. */
function isOf(column: 'trace_id' | 'client_address', ...values: readonly string[]): Condition {
  const sql = values.length === 1 ? `${column} = ?` : `${column} in (${values.map(() => '?').join(', ')})`;
  const condition: Condition = { sql, values, index: order(column), bySlot: true };
  return column === 'client_address' ? { ...condition, ofFailed: true } : condition;
}

function termConditions(term: Term): Condition[] {
  const plain = plainConditions(term);
  if (!term.negated) return plain;
  const values = plain.flatMap((it) => it.values);
  const not = { sql: `(${plain.map(({ sql }) => sql).join(' and ')}) is not true`, values };
  return term.present && 'column' in term ? [not, { sql: `${term.column} is not null`, values: [] }] : [not];
}

function plainConditions(term: Term): Condition[] {
  switch (term.match) {
    case 'is':
      return isConditions(term.column, term.values);
    case 'begins':
      return [anyOf(term.values.map((value) => beginsWith(term.column, value)))];
    case 'contains':
      return [anyOf(term.values.map((value) => like([term.column], value)))];
    case 'words':
      return [anyOf(term.values.map(containsCondition))];
    case 'host':
      return [
        term.negated
          ? anyOf(term.values.map((name) => hostnameCondition(name)))
          : hostnamesCondition(term.values),
      ];
    case 'within':
      return withinConditions(term.column, term.ranges);
  }
}

function isConditions(column: Column, values: readonly string[]): Condition[] {
  const [value, ...more] = values;
  const words = column === 'outcome' && !values.includes('OK') ? [NOT_OK] : [];
  if (column === 'trace_id' || column === 'client_address') return [isOf(column, ...values)];
  if (value === undefined || more.length > 0)
    return [...words, { sql: `${column} in (${values.map(() => '?').join(', ')})`, values }];
  if (column === 'principal') return principalConditions({ principal: value });
  if (column === 'kind' && value === 'audit') return [AUDIT];
  return [...words, { sql: `${column} = ?`, values: [value] }];
}

function withinConditions(column: Column, ranges: readonly Range[]): Condition[] {
  const within = anyOf(ranges.map((range) => rangeCondition(column, range)));
  const least = Math.min(...ranges.map(({ from, above }) => from ?? above ?? -Infinity));
  if (column === 'status' && least >= FIRST_FAILED_STATUS) return [FAILED, within];
  if (column === 'level' && least >= levelRank('warn')) return [TROUBLE, within];
  if (column === 'duration_ms' && least >= SLOW_MS) return [SLOW, within];
  return [within];
}

function rangeCondition(column: Column, { from, above, to, below }: Range): Condition {
  const bounds: [string, number | undefined][] = [
    ['>=', from],
    ['>', above],
    ['<=', to],
    ['<', below],
  ];
  const said = bounds.flatMap(([operator, value]) => (value === undefined ? [] : [{ operator, value }]));
  return {
    sql: said.map(({ operator }) => `+${column} ${operator} ?`).join(' and '),
    values: said.map(({ value }) => value),
  };
}

const beginsWith = (column: Column, value: string): Condition => ({
  sql: `substr(${column}, 1, length(?)) = ?`,
  values: [value, value],
});

/** One keeps its index; of several none is used. */
function anyOf(conditions: readonly Condition[]): Condition {
  const [first, ...more] = conditions;
  if (first && more.length === 0) return first;
  return {
    sql: `(${conditions.map(({ sql }) => `(${sql})`).join(' or ')})`,
    values: conditions.flatMap(({ values }) => values),
  };
}
