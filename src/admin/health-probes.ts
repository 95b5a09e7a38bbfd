/** The probes of `health_check`. Each takes what it needs as plain functions, so that `admin` knows no other noun. */
import { randomUUID } from 'node:crypto';
import { statfs } from 'node:fs/promises';
import { type Clock, DAY, MINUTE } from '../core/clock.ts';
import type { EventLoopWatch } from './event-loop.ts';
import type { Finding, Probe } from './health.ts';

const MIB = 1024 ** 2;
const DISK_LOW_BYTES = 1024 * MIB;
const DISK_FULL_BYTES = 64 * MIB;
/** Of all inodes. */
const INODES_LOW_SHARE = 0.01;
const CERTIFICATE_NEAR_MS = 14 * DAY;
const EVENT_LOOP_SLOW_MS = 100;
/** How long lost records and refused connections are held against who lost or refused them. */
const LOSS_REMEMBERED_MS = 5 * MINUTE;

const ok = (message: string): Finding => ({ status: 'ok', message });
const degraded = (message: string): Finding => ({ status: 'degraded', message });
const down = (message: string): Finding => ({ status: 'down', message });
const absent = (message: string): Finding => ({ status: 'absent', message });

/** `roundTrip` writes the text durably and returns what is then read back. */
export function storeProbe(roundTrip: (text: string) => Promise<string | undefined>): Probe {
  return async () => {
    const written = randomUUID();
    const read = await roundTrip(written);
    return read === written ? ok('wrote and read back') : down('what was read is not what was written');
  };
}

export interface DiskSpace {
  freeBytes: number;
  freeFiles: number;
  /** 0 where the file system does not count them. */
  totalFiles: number;
}

export function diskProbe(folder: string, read: (folder: string) => Promise<DiskSpace> = readSpace): Probe {
  return async () => {
    const { freeBytes, freeFiles, totalFiles } = await read(folder);
    const message = `${Math.floor(freeBytes / MIB)} MiB free for data`;
    if (freeBytes < DISK_FULL_BYTES) return down(`${message}; make room, writing will fail soon`);
    if (freeBytes < DISK_LOW_BYTES) return degraded(`${message}; make room, or lower log.retention_bytes`);
    if (freeFiles < totalFiles * INODES_LOW_SHARE)
      return degraded(`${message}, but only ${freeFiles} inodes; remove files`);
    return ok(message);
  };
}

async function readSpace(folder: string): Promise<DiskSpace> {
  const { bavail, bsize, ffree, files } = await statfs(folder);
  return { freeBytes: bavail * bsize, freeFiles: ffree, totalFiles: files };
}

/** `soonestExpiry`: of the certificates in use, in milliseconds since 1970; undefined when there is none. */
export function certificatesProbe(soonestExpiry: () => Promise<number | undefined>, clock: Clock): Probe {
  return async () => {
    const expiry = await soonestExpiry();
    if (expiry === undefined) return absent('there is no certificate');
    const leftMs = expiry - clock.now();
    if (leftMs <= 0) return down('a certificate has expired; list_certificates shows which');
    const message = `the next certificate expires in ${Math.floor(leftMs / DAY)} days`;
    return leftMs < CERTIFICATE_NEAR_MS ? degraded(message) : ok(message);
  };
}

/** What `services/engine` answers to a ping, by shape. */
export type EnginePing = { connected: true; version: string } | { connected: false; reason: string };

export function engineProbe(engine: { ping(): Promise<EnginePing> }): Probe {
  return async () => {
    const answer = await engine.ping();
    return answer.connected ? ok(`container engine ${answer.version}`) : absent(answer.reason);
  };
}

export function eventLoopProbe(watch: Pick<EventLoopWatch, 'state'>): Probe {
  return async () => {
    const { p99Ms } = watch.state();
    const message = `99 % of turns wait less than ${Math.ceil(p99Ms)} ms`;
    return p99Ms >= EVENT_LOOP_SLOW_MS ? degraded(`${message}; the process is overloaded`) : ok(message);
  };
}

/** What the log's sink says of itself, by shape. */
export interface LogState {
  /** Records lost since the start. */
  dropped: number;
  /** `down`: its thread does not run. `failing`: it runs and can't write. */
  writer: 'ok' | 'failing' | 'down';
  problem: string | undefined;
}

export function logWriterProbe(read: () => LogState, clock: Clock): Probe {
  const roseLately = watchRise(clock);
  return async () => {
    const { dropped, writer, problem } = read();
    const isRecent = roseLately(dropped);
    const lost = `${dropped} records lost since the start`;
    if (writer === 'down') return down(`${problem ?? 'the log writer does not run'}; ${lost}`);
    if (writer === 'failing') return degraded(`${problem ?? 'records cannot be written'}; ${lost}`);
    return isRecent ? degraded(`${lost}, some of them just now`) : ok(lost);
  };
}

/** What is told to a collector, by shape; counts since the start. */
export interface TelemetryState {
  readonly counts: Readonly<
    Partial<Record<string, { readonly sent: number; readonly lost: number; readonly queued: number }>>
  >;
  readonly problem: string | undefined;
}

export function telemetryProbe(read: () => TelemetryState, clock: Clock): Probe {
  const roseLately = watchRise(clock);
  return async () => {
    const { counts, problem } = read();
    const signals = Object.entries(counts).flatMap(([name, of]) => (of ? [{ name, ...of }] : []));
    const isRecent = roseLately(signals.reduce((sum, { lost }) => sum + lost, 0));
    const told = signals.map(
      ({ name, sent, lost, queued }) => `${name}: ${sent} sent, ${lost} lost, ${queued} waiting`,
    );
    const message = told.join('; ');
    if (problem !== undefined) return degraded(`${problem}; see telemetry.otlp; ${message}`);
    return isRecent ? degraded(`${message}; some were lost just now`) : ok(message);
  };
}

/** What the audit trail says of itself, by shape. */
export interface AuditState {
  /** Why records can't be kept now. */
  problem: string | undefined;
  /** Records that could not be kept since the start. */
  lost: number;
  /** What was missing when it was opened. */
  gap: { why: string; suspect: boolean } | undefined;
}

export function auditProbe(read: () => AuditState, clock: Clock): Probe {
  const roseLately = watchRise(clock);
  return async () => {
    const { problem, lost, gap } = read();
    const isRecent = roseLately(lost);
    const told = `${lost} audit records lost since the start`;
    if (problem !== undefined) return down(`${problem}; changes are refused; ${told}`);
    if (gap?.suspect === true) return degraded(`${gap.why}; verify_audit shows where; ${told}`);
    return isRecent ? degraded(`${told}, some of them just now`) : ok(told);
  };
}

/** What the gateway counts, by shape. `refused`: since the start, because there were too many. */
export interface ConnectionCounts {
  open: number;
  refused: number;
  requests: number;
}

export function connectionsProbe(read: () => ConnectionCounts, clock: Clock): Probe {
  const roseLately = watchRise(clock);
  return async () => {
    const { open, refused, requests } = read();
    const message = `${open} open, ${requests} requests under way, ${refused} turned away since the start`;
    return roseLately(refused)
      ? degraded(`${message}, some of them just now; raise gateway.max_connections, or see who makes so many`)
      : ok(message);
  };
}

/** Tells of a number that only grows whether it grew between two questions, for a while after that. */
function watchRise(clock: Clock): (total: number) => boolean {
  let known = 0;
  let roseAt: number | undefined;
  return (total) => {
    if (total > known) roseAt = clock.now();
    known = total;
    return roseAt !== undefined && clock.now() - roseAt < LOSS_REMEMBERED_MS;
  };
}
