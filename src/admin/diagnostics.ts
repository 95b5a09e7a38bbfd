/**
 * `get_diagnostics`: what the process spends its time and memory on. Numbers and names of kinds only. A heap snapshot
 * is left out on purpose: every key and credential of the process is in it (docs/decisions/0049).
 */
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import { defineOperation } from '../core/operation.ts';
import type { LoopState } from './event-loop.ts';

/** Of kinds of active resources; Node has about thirty. */
const MAX_KINDS = 60;
const MICROSECONDS_PER_MS = 1000;
const DECIMALS = 100;

const count = z.int();
const bytes = z.int();
const ms = z.number();

const diagnosticsSchema = z.object({
  uptime_ms: ms,
  node: z.string(),
  event_loop: z
    .object({
      p50_ms: ms,
      p90_ms: ms,
      p99_ms: ms,
      max_ms: ms,
      utilisation: z.number().describe('Share of the time in which it was busy, 0 to 1'),
    })
    .describe('How long work waited, over the last one to two minutes'),
  collections: z
    .array(z.object({ kind: z.string(), count, total_ms: ms }))
    .describe('Of garbage, since the start'),
  memory: z.object({ resident_bytes: bytes, external_bytes: bytes, array_buffers_bytes: bytes }),
  heap: z.object({
    used_bytes: bytes,
    total_bytes: bytes,
    limit_bytes: bytes,
    malloced_bytes: bytes,
    contexts: count,
    detached_contexts: count.describe('Above 0 for long: something is leaking'),
  }),
  heap_spaces: z.array(z.object({ name: z.string(), used_bytes: bytes, size_bytes: bytes })),
  cpu: z.object({ user_ms: ms, system_ms: ms }).describe('Since the start'),
  active: z
    .array(z.object({ kind: z.string(), count }))
    .describe('What keeps the event loop alive: sockets, timers, requests of the system; most first'),
  connections: z.object({
    open: count.describe('Of clients'),
    refused: count.describe('Since the start'),
    requests: count.describe('Being answered now'),
    upstreams: count.describe('With connections of their own'),
  }),
  log: z.object({ queued: count, written: count, dropped: count }),
});
export type Diagnosis = z.output<typeof diagnosticsSchema>;

export interface DiagnosticsParts {
  readonly clock: Clock;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly eventLoop: () => LoopState;
  readonly collections: () => readonly { kind: string; count: number; totalMs: number }[];
  readonly connections: () => Diagnosis['connections'];
  readonly log: () => Diagnosis['log'];
}

export type Diagnostics = () => Diagnosis;

export function createDiagnostics(parts: DiagnosticsParts): Diagnostics {
  return () => {
    const { rss, external, arrayBuffers } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const { open, refused, requests, upstreams } = parts.connections();
    const { queued, written, dropped } = parts.log();
    return {
      uptime_ms: parts.clock.now() - parts.startedAt,
      node: process.version,
      event_loop: loopOf(parts.eventLoop()),
      collections: parts
        .collections()
        .map(({ kind, count: times, totalMs }) => ({ kind, count: times, total_ms: rounded(totalMs) })),
      memory: { resident_bytes: rss, external_bytes: external, array_buffers_bytes: arrayBuffers },
      ...heapOf(),
      cpu: { user_ms: rounded(user / MICROSECONDS_PER_MS), system_ms: rounded(system / MICROSECONDS_PER_MS) },
      active: activeOf(process.getActiveResourcesInfo()),
      connections: { open, refused, requests, upstreams },
      log: { queued, written, dropped },
    };
  };
}

const rounded = (value: number): number => Math.round(value * DECIMALS) / DECIMALS;

const loopOf = ({ p50Ms, p90Ms, p99Ms, maxMs, utilisation }: LoopState): Diagnosis['event_loop'] => ({
  p50_ms: rounded(p50Ms),
  p90_ms: rounded(p90Ms),
  p99_ms: rounded(p99Ms),
  max_ms: rounded(maxMs),
  utilisation: rounded(utilisation),
});

function heapOf(): Pick<Diagnosis, 'heap' | 'heap_spaces'> {
  const heap = getHeapStatistics();
  return {
    heap: {
      used_bytes: heap.used_heap_size,
      total_bytes: heap.total_heap_size,
      limit_bytes: heap.heap_size_limit,
      malloced_bytes: heap.malloced_memory,
      contexts: heap.number_of_native_contexts,
      detached_contexts: heap.number_of_detached_contexts,
    },
    heap_spaces: getHeapSpaceStatistics().map(({ space_name, space_used_size, space_size }) => ({
      name: space_name,
      used_bytes: space_used_size,
      size_bytes: space_size,
    })),
  };
}

/** @param kinds a name for each resource. */
function activeOf(kinds: readonly string[]): Diagnosis['active'] {
  return [...Map.groupBy(kinds, (kind) => kind)]
    .map(([kind, { length }]) => ({ kind, count: length }))
    .sort((a, b) => b.count - a.count || (a.kind < b.kind ? -1 : 1))
    .slice(0, MAX_KINDS);
}

export const getDiagnostics = defineOperation({
  name: 'get_diagnostics',
  title: 'Diagnose the process',
  description:
    'What the process spends time and memory on: delay and use of the event loop, garbage collection, heap, active resources, connections, the queue of the log. Numbers only. health_check says whether all is well.',
  permission: 'system:write',
  confinement: 'refused',
  effect: 'read',
  mcp: 'searchable',
  toolset: 'system',
  http: { method: 'GET', path: '/v1/diagnostics' },
  input: z.object({}),
  output: diagnosticsSchema,
  handler: async (_input, _context, { diagnostics }: { diagnostics: Diagnostics }) => diagnostics(),
});
