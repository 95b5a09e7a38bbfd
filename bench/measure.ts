/** What the benchmarks share: CPU of a process tree, percentiles, tables. */
import { readdirSync, readFileSync } from 'node:fs';

const MICROSECONDS_PER_TICK = 10_000; // USER_HZ is 100 on every Linux that Node runs on.
const UTIME_FIELD = 11; // of /proc/<pid>/stat, counted behind the command's closing parenthesis
const PPID_FIELD = 1;

/** CPU that the process and its living descendants have used, in microseconds, by the kernel's own account. */
export function cpuMicroseconds(root: number): number {
  const stats = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => statOf(Number(name)));
  const tree = new Set([root]);
  for (let grown = true; grown; ) {
    grown = false;
    for (const { pid, parent } of stats)
      if (tree.has(parent) && !tree.has(pid)) grown = Boolean(tree.add(pid));
  }
  return stats.filter(({ pid }) => tree.has(pid)).reduce((sum, { cpu }) => sum + cpu, 0);
}

function statOf(pid: number): { pid: number; parent: number; cpu: number }[] {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
      .map(Number);
    const cpu = ((fields[UTIME_FIELD] ?? 0) + (fields[UTIME_FIELD + 1] ?? 0)) * MICROSECONDS_PER_TICK;
    return [{ pid, parent: fields[PPID_FIELD] ?? 0, cpu }];
  } catch {
    return []; // It ended between the listing and the reading.
  }
}

const NANOSECONDS = 1000;

/** Microseconds that each living thread of a process has run, by the threads' names; those of one name together. */
export function threadMicroseconds(pid: number): Map<string, number> {
  const sums = new Map<string, number>();
  const folder = `/proc/${pid}/task`;
  for (const task of readdirSync(folder)) {
    const name = readFileSync(`${folder}/${task}/comm`, 'utf8').trim();
    const [ran = '0'] = readFileSync(`${folder}/${task}/schedstat`, 'utf8').split(' ');
    sums.set(name, (sums.get(name) ?? 0) + Number(ran) / NANOSECONDS);
  }
  return sums;
}

export function residentMegabytes(pid: number): number {
  const [, kilobytes = '0'] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) / 1024;
}

export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  return ((sorted[Math.ceil(half) - 1] ?? Number.NaN) + (sorted[Math.floor(half)] ?? Number.NaN)) / 2;
}

/** `median (min–max)` */
export function spread(values: readonly number[], digits = 0): string {
  return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;
}

export function printTable(rows: readonly (readonly string[])[]): void {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  console.log([line(head), line(head.map(() => '---')), ...body.map(line)].join('\n'));
}
