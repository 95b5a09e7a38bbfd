/** What a person reads: tables for lists, lines for the rest. Whatever a stranger wrote is cleaned before it is shown. */
import { z } from 'zod';
import type { AnyOperation } from '../../core/operation.ts';
import { cleanLines, cleanText } from '../../core/untrusted.ts';
import { pathParamsOf } from '../arguments.ts';

const GAP = '  ';
const MAX_CELL = 60;
/** The first column that does not fit is shown cut, if this much of it can be read. */
const LEAST_CUT = 20;
const MAX_VALUE = 64 * 1024;
/** What a terminal could obey or hide; inside JSON strings it can be written as an escape, so nothing is lost. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\p{Surrogate}\u2028\u2029]/gu;

type Row = Record<string, unknown>;

export interface TableShape {
  /** The property of the answer that holds the rows. */
  rows: string;
  /** Every property of a row, the one that names it first. */
  columns: readonly string[];
}

export function renderJson(output: unknown): string {
  const escaped = (found: string) => (found === '\n' ? found : unicodeEscape(found));
  return `${JSON.stringify(output, undefined, 2).replace(UNPRINTABLE, escaped)}\n`;
}

/** One escape per UTF-16 unit, as JSON has it. */
const unicodeEscape = (char: string): string =>
  Array.from(
    { length: char.length },
    (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');

/** A table when the answer is one list of objects; what its rows are called by comes from the paths below its own. */
export function tableShapeOf(
  { output, http }: AnyOperation,
  operations: readonly AnyOperation[],
): TableShape | undefined {
  const lists = Object.entries(output.shape).flatMap(([name, field]) => {
    const item = field instanceof z.ZodArray ? field.element : undefined;
    return item instanceof z.ZodObject ? [{ rows: name, item }] : [];
  });
  const [list] = lists;
  if (!list || lists.length > 1) return undefined;
  const names = Object.keys(list.item.shape);
  const below = operations.filter((other) => other.http.path.startsWith(`${http.path}/{`));
  const keys = new Set(
    below.flatMap((other) => pathParamsOf(other.http.path)).filter((name) => names.includes(name)),
  );
  return { rows: list.rows, columns: [...keys, ...names.filter((name) => !keys.has(name))] };
}

export function renderOutput(
  output: Row,
  shape: TableShape | undefined,
  width: number,
): { text: string; notes: string } {
  const rows = shape && output[shape.rows];
  if (!shape || !Array.isArray(rows)) return { text: renderRecord(output), notes: '' };
  const { text, hidden } = renderTable(rows as Row[], shape.columns, width);
  const rest = Object.entries(output).filter(([name]) => name !== shape.rows);
  const notes = [
    ...(rows.length === 0 ? [`no ${shape.rows}`] : []),
    ...(hidden.length > 0 ? [`not shown: ${hidden.join(', ')} (--json has everything)`] : []),
    ...rest.map(([name, value]) =>
      name === 'next_cursor'
        ? `more: --cursor ${cellOf(value, MAX_VALUE)}`
        : `${cleanText(name)}: ${cellOf(value)}`,
    ),
  ];
  return { text, notes: notes.map((note) => `${note}\n`).join('') };
}

function renderTable(rows: readonly Row[], columns: readonly string[], width: number) {
  const filled = columns.filter((name) => rows.some((row) => cellOf(row[name]) !== ''));
  const sized = filled.map((name) => {
    const cells = rows.map((row) => cutTo(MAX_CELL, cellOf(row[name])));
    return { name, cells, width: Math.max(name.length, ...cells.map((cell) => cell.length)) };
  });
  const shown: typeof sized = [];
  const hidden: string[] = [];
  let used = 0;
  for (const column of sized) {
    const start = used + (shown.length > 0 ? GAP.length : 0);
    used = start + column.width;
    const room = width - start;
    if (hidden.length === 0 && (shown.length === 0 || column.width <= room)) shown.push(column);
    else if (hidden.length === 0 && room >= LEAST_CUT) shown.push(cutColumn(column, room));
    else hidden.push(column.name);
  }
  const line = (cellsOf: (column: (typeof sized)[number]) => string) =>
    cutTo(
      width,
      shown
        .map((column) => cellsOf(column).padEnd(column.width))
        .join(GAP)
        .trimEnd(),
    );
  const lines = [
    line(({ name }) => name.toUpperCase()),
    ...rows.map((_, i) => line(({ cells }) => cells[i] ?? '')),
  ];
  return { text: rows.length === 0 ? '' : `${lines.join('\n')}\n`, hidden };
}

function cutColumn(column: { name: string; cells: string[] }, width: number) {
  return { name: column.name, cells: column.cells.map((cell) => cutTo(width, cell)), width };
}

const cutTo = (width: number, text: string): string =>
  text.length > width ? `${text.slice(0, width - 1)}…` : text;

function renderRecord(record: Row): string {
  const entries = Object.entries(record).filter(([, value]) => value !== undefined);
  const width = Math.max(0, ...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${lineOf(name, value, width)}\n`).join('');
}

function lineOf(name: string, value: unknown, width: number): string {
  const label = `${cleanText(name)}:`;
  if (isRowList(value)) return [label, ...value.map(blockOf)].join('\n');
  if (typeof value !== 'string' || !value.includes('\n'))
    return `${label.padEnd(width + 1)} ${valueOf(value)}`.trimEnd();
  const lines = cleanLines(value, MAX_VALUE).trimEnd().split('\n');
  return `${label}\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

/** One of a list within the answer: whole, since this is where its text is read. */
function blockOf(row: Row): string {
  const lines = renderRecord(row).trimEnd().split('\n');
  return lines.map((line, i) => `${i === 0 ? '  - ' : '    '}${line}`).join('\n');
}

function valueOf(value: unknown): string {
  if (typeof value === 'object' && value !== null && !isFlatList(value))
    return cleanText(JSON.stringify(value), MAX_VALUE);
  return cellOf(value, MAX_VALUE);
}

const isFlatList = (value: unknown): value is unknown[] =>
  Array.isArray(value) && value.every((item) => typeof item !== 'object' || item === null);

const isRowList = (value: unknown): value is Row[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((item) => typeof item === 'object' && item !== null && !Array.isArray(item));

function cellOf(value: unknown, max = MAX_CELL + 1): string {
  if (value === undefined || value === null) return '';
  if (isFlatList(value)) return cleanText(value.map(String).join(', '), max);
  return cleanText(typeof value === 'string' ? value : JSON.stringify(value), max);
}
