/** `health_check`: what works, found out by using it. The probes are in `health-probes`; `app` chooses them. */
import { z } from 'zod';
import { type Clock, SECOND } from '../core/clock.ts';
import { defineOperation } from '../core/operation.ts';
import { isConfined, type Principal } from '../core/principal.ts';
import { type Log, writeDebug } from '../core/record.ts';
import { ownWordsOf } from '../core/untrusted.ts';

const PROBE_TIMEOUT_MS = 2 * SECOND;
/** Anyone may ask, so an answer serves everyone for a while. */
const KEPT_MS = SECOND;
/** Without these nothing works; without any other, something still does. */
const ESSENTIAL: ReadonlySet<string> = new Set(['store', 'listeners']);

export const healthStatuses = ['ok', 'degraded', 'down', 'absent'] as const;
export type HealthStatus = (typeof healthStatuses)[number];
/** `message` says what is so and what to do; no hostnames, no secrets. */
export type Finding = { status: HealthStatus; message: string };
export type Probe = () => Promise<Finding>;

export interface Component extends Finding {
  name: string;
  latencyMs: number;
}

export interface HealthReport {
  status: Exclude<HealthStatus, 'absent'>;
  version: string;
  uptimeMs: number;
  components: readonly Component[];
}

export interface HealthService {
  check(): Promise<HealthReport>;
}

export interface HealthOptions {
  /** By the name of the component. */
  probes: Readonly<Record<string, Probe>>;
  clock: Clock;
  log: Log;
  version: string;
  /** Milliseconds since 1970. */
  startedAt: number;
}

export function createHealthService(options: HealthOptions): HealthService {
  const { probes, clock, version, startedAt } = options;
  const checks = Object.entries(probes).map(([name, probe]) => createCheck(name, probe, clock));
  let latest: { at: number; report: Promise<HealthReport> } | undefined;

  async function probeAll(): Promise<HealthReport> {
    const components = await Promise.all(checks.map((check) => check()));
    writeDebug(options, 'system', () => ({
      message: `health: ${components.map(({ name, status }) => `${name} ${status}`).join(', ')}`,
      detail: Object.fromEntries(
        components.map(({ name, message, latencyMs }) => [name, `${message} (${latencyMs} ms)`]),
      ),
    }));
    return {
      status: overallOf(components),
      version,
      uptimeMs: Math.max(0, clock.now() - startedAt),
      components,
    };
  }

  return {
    check() {
      const now = clock.now();
      if (!latest || Math.abs(now - latest.at) >= KEPT_MS) latest = { at: now, report: probeAll() };
      return latest.report;
    },
  };
}

function overallOf(components: readonly Component[]): HealthReport['status'] {
  if (components.some(({ name, status }) => status === 'down' && ESSENTIAL.has(name))) return 'down';
  return components.some(({ status }) => status === 'down' || status === 'degraded') ? 'degraded' : 'ok';
}

/** A probe that hangs is not started again: the next check waits for the same run. */
function createCheck(name: string, probe: Probe, clock: Clock): () => Promise<Component> {
  let running: Promise<Finding> | undefined;
  return async () => {
    const started = clock.now();
    running ??= settle(probe).finally(() => (running = undefined));
    const { status, message } = await inTime(running, clock);
    return { name, status, message, latencyMs: Math.max(0, clock.now() - started) };
  };
}

async function settle(probe: Probe): Promise<Finding> {
  try {
    return await probe();
  } catch (cause) {
    return { status: 'down', message: ownWordsOf(cause) };
  }
}

async function inTime(finding: Promise<Finding>, clock: Clock): Promise<Finding> {
  const late = Promise.withResolvers<Finding>();
  const timer = clock.after(PROBE_TIMEOUT_MS, () =>
    late.resolve({ status: 'down', message: `no answer within ${PROBE_TIMEOUT_MS} ms` }),
  );
  const first = await Promise.race([finding, late.promise]);
  timer.cancel();
  return first;
}

const componentSchema = z.object({
  name: z.string(),
  status: z.enum(healthStatuses),
  message: z.string().optional(),
  latency_ms: z.number().optional(),
});

export const healthCheck = defineOperation({
  name: 'health_check',
  title: 'Health check',
  description:
    'Probes the store, disk, certificates, container engine, listeners, connections, event loop, log writer and audit trail. Details need system:read.',
  permission: 'public',
  confinement: 'harmless',
  effect: 'read',
  mcp: 'listed',
  toolset: 'system',
  http: { method: 'GET', path: '/v1/health' },
  input: z.object({}),
  output: z.object({
    status: z.enum(['ok', 'degraded', 'down']),
    version: z.string().optional(),
    uptime_ms: z.number().optional(),
    components: z.array(componentSchema),
  }),
  async handler(_input, { principal }, { health }: { health: HealthService }) {
    const { status, version, uptimeMs, components } = await health.check();
    if (!maySeeDetails(principal))
      return { status, components: components.map(({ name, status: of }) => ({ name, status: of })) };
    return {
      status,
      version,
      uptime_ms: uptimeMs,
      components: components.map(({ message, latencyMs, ...component }) => ({
        ...component,
        message,
        latency_ms: latencyMs,
      })),
    };
  },
});

/** Messages tell about the machine: free space, addresses, faults. */
const maySeeDetails = (principal: Principal): boolean =>
  principal.permissions.has('system:read') && !isConfined(principal);
