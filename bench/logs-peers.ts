/**
 * The same questions of the same records as a text log: DuckDB (its own file, loaded from the text; installed for the run
 * into a temporary folder), grep with tail, and GoAccess where it is installed. Called by logs-volume.ts.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import { percentile, printTable } from './measure.ts';

const DUCKDB = '@duckdb/node-api@1.5.5-r.5';
const ROUNDS = 5;
const INSTALL_MS = 300_000;
const MEGABYTE = 1024 * 1024;
/** As `textLine` writes it: virtual host, client, user, time, request, status, bytes, agent, trace, seconds. */
const LINE = String.raw`^(\S+):443 (\S+) - (\S+) \[([^\]]+)\] "(\S+) (\S+) HTTP/1.1" (\d+) (\d+) "-" "([^"]*)" (\S+) (\S+)$`;
const GOACCESS = [
  '--log-format=%v:%^ %h - %e [%d:%t %^] "%r" %s %b "%R" "%u" %^ %T',
  '--date-format=%d/%b/%Y',
  '--time-format=%T',
];

export interface Needles {
  trace: string;
  busyHost: string;
  rareHost: string;
  busyClient: string;
  rareClient: string;
  principal: string;
}

interface DuckConnection {
  runAndReadAll(sql: string): Promise<{ getRows(): unknown[][] }>;
}

export async function askPeers(textFile: string, needles: Needles): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-peers-'));
  const rows = [['peer', 'question', 'answer', 'first, ms', 'again p50, ms']];
  try {
    const duck = await openDuck(folder);
    if (duck) rows.push(...(await askDuck(duck, textFile, folder, needles)));
    rows.push(...askGrep(textFile, needles), ...askGoAccess(textFile, folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
  printTable(rows);
}

async function openDuck(folder: string): Promise<DuckConnection | undefined> {
  const { status } = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--prefix', folder, DUCKDB], {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: INSTALL_MS,
  });
  if (status !== 0) return undefined;
  const entry = createRequire(join(folder, 'package.json')).resolve('@duckdb/node-api');
  const { DuckDBInstance } = await import(pathToFileURL(entry).href);
  return (await DuckDBInstance.create(join(folder, 'log.duckdb'))).connect();
}

async function askDuck(
  duck: DuckConnection,
  textFile: string,
  folder: string,
  { trace, busyHost, rareHost, rareClient, principal }: Needles,
): Promise<string[][]> {
  const loaded = await timed(() =>
    duck.runAndReadAll(
      `create table records as select m.host, m.client, m.principal, m.method, m.path, m.agent, m.trace,
         strptime(m.time, '%d/%b/%Y:%H:%M:%S %z') as time, m.status::smallint as status, m.bytes::bigint as bytes,
         m.seconds::double as seconds
       from (select regexp_extract(line, '${LINE}', ['host', 'client', 'principal', 'time', 'method', 'path', 'status',
           'bytes', 'agent', 'trace', 'seconds']) as m
         from read_csv('${textFile}', columns = {'line': 'varchar'}, delim = '\x01', quote = '', escape = '', header = false));
       checkpoint`,
    ),
  );
  const size = (statSync(join(folder, 'log.duckdb')).size / MEGABYTE).toFixed(0);
  const newest = (where: string) => `select * from records where ${where} order by time desc limit 50`;
  const questions: Record<string, string> = {
    'host, rare': newest(`host = '${rareHost}'`),
    'client, rare': newest(`client = '${rareClient}'`),
    principal: newest(`principal = '${principal}'`),
    trace: newest(`trace = '${trace}'`),
    'busy host and 403': newest(`host = '${busyHost}' and status = 403`),
    'text that is nowhere': newest(`path ilike '%no such text%' or agent ilike '%no such text%'`),
    stats: `select count(*), quantile_cont(seconds, 0.95) from records`,
    'stats by host': `select host, count(*), quantile_cont(seconds, 0.95) from records group by 1 order by 2 desc limit 20`,
    'stats by principal': `select principal, count(*) from records group by 1 order by 2 desc limit 20`,
  };
  const rows = [['DuckDB', 'load', `${size} MB`, loaded.toFixed(0), '']];
  for (const [name, sql] of Object.entries(questions)) {
    const times: number[] = [];
    let count = 0;
    for (let round = 0; round <= ROUNDS; round += 1)
      times.push(await timed(async () => (count = (await duck.runAndReadAll(sql)).getRows().length)));
    rows.push(rowOf('DuckDB', name, `${count} rows`, times));
  }
  return rows;
}

function askGrep(textFile: string, { trace, rareHost, rareClient, principal }: Needles): string[][] {
  const questions: Record<string, string> = {
    'host, rare': `^${rareHost}:`,
    'client, rare': ` ${rareClient} - `,
    principal: ` - ${principal} `,
    trace,
    'text that is nowhere': 'no such text',
  };
  return Object.entries(questions).map(([name, pattern]) => {
    const times: number[] = [];
    let count = 0;
    for (let round = 0; round <= ROUNDS; round += 1) {
      const started = performance.now();
      const { stdout } = spawnSync('sh', [
        '-c',
        'LC_ALL=C grep -e "$1" "$2" | tail -n 50',
        'sh',
        pattern,
        textFile,
      ]);
      times.push(performance.now() - started);
      count = stdout.toString().split('\n').length - 1;
    }
    return rowOf('grep with tail', name, `${count} rows`, times);
  });
}

function askGoAccess(textFile: string, folder: string): string[][] {
  const report = join(folder, 'report.json');
  const started = performance.now();
  const { error } = spawnSync('goaccess', [textFile, ...GOACCESS, '--no-progress', '-o', report], {
    stdio: 'ignore',
  });
  if (error || !existsSync(report))
    return [['GoAccess', 'its report', 'is not installed, or refused the log', '', '']];
  return [
    [
      'GoAccess',
      'its report: hosts, paths, statuses, clients',
      '',
      (performance.now() - started).toFixed(0),
      '',
    ],
  ];
}

function rowOf(
  peer: string,
  name: string,
  answer: string,
  [first = Number.NaN, ...again]: number[],
): string[] {
  again.sort((a, b) => a - b);
  return [peer, name, answer, first.toFixed(1), percentile(again, 0.5).toFixed(1)];
}

async function timed(what: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await what();
  return performance.now() - started;
}
