/**
 * A day and a bit of the log of a busy server, made from a seed: the same records in every run. Hostnames, paths, clients
 * and callers by Zipf's law, more by day than by night, a stretch where one target is down, one where a scanner makes
 * names up, and now and then somebody who changes something. Used by logs-volume.ts; nothing here is a real name.
 */
import { DAY, HOUR, MINUTE } from '../src/core/clock.ts';
import type { LogRecord } from '../src/core/record.ts';

/** The newest record is younger than this; the hours before it are in the day's file before. */
export const END = Date.UTC(2026, 2, 10, 18);
export const SPAN_MS = 26 * HOUR;
const START = END - SPAN_MS;

const HOSTS = 200;
const ROUTES_EACH = 3;
const PATHS = 400;
const CLIENTS = 40_000;
const PRINCIPALS = 300;
/** Of hosts and paths; clients are flatter. */
const STEEP = 1;
const FLAT = 0.7;

const DOWN = { host: 3, from: END - 5 * HOUR, until: END - 5 * HOUR + 20 * MINUTE };
const SCAN = { from: END - 14 * HOUR, until: END - 14 * HOUR + 15 * MINUTE, share: 0.3 };
const AUDIT_EVERY = 5000;
const SHARES = {
  notFound: 0.02,
  denied: 0.006,
  error: 0.002,
  slow: 0.001,
  signedIn: 0.4,
  broughtTrace: 0.05,
};
/** One in so many is of a kind that no index finds. */
const RARE = 100_000;

const sections = ['/assets/app', '/api/items', '/api/users', '/blog', '/search', '/login', '/media'];
const agents = [
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148',
  'curl/8.9.1',
  'python-httpx/0.28.1',
];

export type Random = () => number;

/** Mulberry32: 32 bits of state, from 0 to below 1. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Ranks from 0, the first one most often. */
function zipf(count: number, exponent: number): (random: Random) => number {
  const ends = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank += 1) ends[rank] = sum += (rank + 1) ** -exponent;
  return (random) => firstAtLeast(ends, random() * sum);
}

function firstAtLeast(ends: Float64Array, value: number): number {
  let [low, high] = [0, ends.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ends[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** When record after record comes, in order: four times as many at three in the afternoon as at three at night. */
function timesOf(count: number): (index: number) => number {
  const minutes = SPAN_MS / MINUTE;
  const ends = new Float64Array(minutes);
  let sum = 0;
  for (let minute = 0; minute < minutes; minute += 1) {
    const ofDay = ((START + minute * MINUTE) % DAY) / DAY;
    ends[minute] = sum += 1 - 0.6 * Math.cos(2 * Math.PI * (ofDay - 0.125));
  }
  return (index) => {
    const wanted = ((index + 0.5) / count) * sum;
    const minute = firstAtLeast(ends, wanted);
    const before = minute === 0 ? 0 : (ends[minute - 1] ?? 0);
    return START + Math.floor((minute + (wanted - before) / ((ends[minute] ?? sum) - before)) * MINUTE);
  };
}

export const hostAt = (rank: number): string => `app${rank}.example.com`;
export const clientAt = (rank: number): string => `198.18.${rank >> 8}.${rank & 255}`;
export const principalAt = (rank: number): string => `tok_${hexOf(rank + 1, 3)}`;

/** As ids of this system look, without its chance. */
function hexOf(from: number, words: number): string {
  let text = '';
  for (let word = 0, mixed = from; word < words; word += 1) {
    mixed = Math.imul(mixed ^ (mixed >>> 16) ^ word, 0x45d9f3b) >>> 0;
    text += mixed.toString(16).padStart(8, '0');
  }
  return text;
}

/** Begins with its second, as `core/ids` makes them; a few come with the request and begin anyhow. */
function traceOf(time: number, random: Random): string {
  const word = () => ((random() * 2 ** 32) >>> 0).toString(16).padStart(8, '0');
  const second = Math.floor(time / 1000)
    .toString(16)
    .padStart(8, '0');
  return `${random() < SHARES.broughtTrace ? word() : second}${word()}${word()}${word()}`;
}

interface Choices {
  random: Random;
  host: (random: Random) => number;
  path: (random: Random) => number;
  client: (random: Random) => number;
  principal: (random: Random) => number;
}

/** So many records, oldest first. */
export function* recordsOf(count: number, seed = 1): Generator<LogRecord> {
  const choices: Choices = {
    random: seeded(seed),
    host: zipf(HOSTS, STEEP),
    path: zipf(PATHS, STEEP),
    client: zipf(CLIENTS, FLAT),
    principal: zipf(PRINCIPALS, STEEP),
  };
  const timeAt = timesOf(count);
  for (let index = 0; index < count; index += 1) {
    const time = timeAt(index);
    if (index % AUDIT_EVERY === AUDIT_EVERY - 1) yield auditRecord(time, choices);
    else yield isScan(time, choices.random) ? scanRecord(time, choices) : accessRecord(time, index, choices);
  }
}

const isScan = (time: number, random: Random): boolean =>
  time >= SCAN.from && time < SCAN.until && random() < SCAN.share;

function accessRecord(time: number, index: number, choices: Choices): LogRecord {
  const { random } = choices;
  const host = choices.host(random);
  const isDown = host === DOWN.host && time >= DOWN.from && time < DOWN.until;
  const { status, outcome, reason } = endOf(random, isDown);
  const rank = choices.path(random);
  const isRare = index % RARE === RARE >> 1;
  const path = isRare ? `/rare/export-${index}` : `${sections[rank % sections.length]}/${rank}`;
  const duration = random() < SHARES.slow ? 2000 + random() * 8000 : 1 + 40 * random() ** 4;
  const method = isRare ? 'PURGE' : random() < 0.9 ? 'GET' : 'POST';
  const hostname = hostAt(host);
  return {
    time,
    kind: 'access',
    level: status >= 500 ? 'warn' : 'info',
    component: 'gateway',
    message: `${method} ${hostname}${path} ${status}`,
    trace_id: traceOf(time, random),
    hostname,
    method,
    path,
    status,
    duration_ms: Math.round(duration),
    bytes_in: method === 'POST' ? Math.floor(random() * 4000) : 0,
    bytes_out: Math.floor(200 + random() * 20_000),
    client_address: clientAt(choices.client(random)),
    principal: random() < SHARES.signedIn ? principalAt(choices.principal(random)) : 'anonymous',
    user_agent: agents[Math.floor(random() * agents.length)],
    outcome,
    detail: {
      request: 'proxied',
      protocol: random() < 0.8 ? 'h2' : 'h1',
      scheme: 'https',
      proxy: `prx_${hexOf(host + 1, 3)}`,
      route: `rte_${hexOf(host * ROUTES_EACH + (rank % ROUTES_EACH) + 1, 3)}`,
      target: `http://10.0.${host >> 4}.${(host & 15) + 1}:8080`,
      ...(reason !== undefined && { reason }),
    },
  };
}

function endOf(random: Random, isDown: boolean): { status: number; outcome: string; reason?: string } {
  const chance = random();
  if (isDown || chance < SHARES.error)
    return { status: 502, outcome: 'BAD_GATEWAY', reason: 'connect ECONNREFUSED' };
  if (chance < SHARES.error + SHARES.denied)
    return { status: 403, outcome: 'FORBIDDEN', reason: 'the policy of the hostname does not let it in' };
  if (chance < SHARES.error + SHARES.denied + SHARES.notFound) return { status: 404, outcome: 'OK' };
  return { status: chance > 0.9 ? 304 : 200, outcome: 'OK' };
}

function scanRecord(time: number, { random }: Choices): LogRecord {
  const hostname = `x${Math.floor(random() * 5000)}.example.net`;
  const path = `/wp-admin/${Math.floor(random() * 100)}.php`;
  return {
    time,
    kind: 'access',
    level: 'info',
    component: 'gateway',
    message: `GET ${hostname}${path} 404`,
    trace_id: traceOf(time, random),
    hostname,
    method: 'GET',
    path,
    status: 404,
    duration_ms: 0,
    bytes_in: 0,
    bytes_out: 120,
    client_address: `203.0.113.${Math.floor(random() * 8)}`,
    principal: 'anonymous',
    user_agent: agents[2],
    outcome: 'NOT_FOUND',
    detail: { request: 'refused', protocol: 'h1', scheme: 'https' },
  };
}

function auditRecord(time: number, choices: Choices): LogRecord {
  const { random } = choices;
  const hostname = hostAt(choices.host(random));
  return {
    time,
    kind: 'audit',
    level: 'info',
    component: 'audit',
    message: `administrator update_proxy: OK`,
    trace_id: traceOf(time, random),
    hostname,
    principal: principalAt(0),
    operation: 'update_proxy',
    outcome: 'OK',
    duration_ms: 4,
    detail: { effect: 'update', surface: 'rest', target: { hostname } },
  };
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** The same record as a web server writes it: the combined format with the virtual host first, then trace and seconds. */
export function textLine(record: LogRecord): string {
  const {
    method,
    path,
    status,
    bytes_out: bytes,
    user_agent: agent,
    hostname,
    duration_ms: duration = 0,
  } = record;
  const [day = '', clock = ''] = new Date(record.time).toISOString().split(/[T.]/);
  const [year, month, date] = day.split('-');
  const time = `${date}/${MONTHS[Number(month) - 1]}/${year}:${clock} +0000`;
  const user = record.principal === 'anonymous' ? '-' : record.principal;
  return `${hostname}:443 ${record.client_address} - ${user} [${time}] "${method} ${path} HTTP/1.1" ${status} ${bytes} "-" "${agent}" ${record.trace_id} ${(duration / 1000).toFixed(3)}\n`;
}
