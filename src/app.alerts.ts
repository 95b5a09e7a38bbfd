/** The part of the composition root that sets up where alerts are told, and what is watched by rules. */
import { statfs } from 'node:fs/promises';
import type { Channel } from './alerts/channel.ts';
import { mailChannel } from './alerts/mail.ts';
import type { Sources } from './alerts/rules/measure.ts';
import { withUsual } from './alerts/rules/schema.ts';
import { RuleWatch } from './alerts/rules/watch.ts';
import { ALERTS_URI } from './alerts/operations.ts';
import type { AlertService } from './alerts/service.ts';
import { maySee } from './alerts/shown.ts';
import { webhookChannel } from './alerts/webhook.ts';
import { mailServerOf, webhookOf } from './app.settings.ts';
import type { CertificateService } from './certificates/service.ts';
import type { Config } from './config/config.ts';
import { type Clock, HOUR, SECOND, type Timer } from './core/clock.ts';
import type { Events } from './core/events.ts';
import type { Gateway } from './gateway/gateway.ts';
import type { McpInterface } from './interfaces/mcp/mcp.ts';
import type { Log } from './core/record.ts';
import type { LogArchive } from './logs/archive.ts';
import type { LogFilter } from './logs/conditions.ts';
import { LogNews, type LogNewsParts } from './logs/news.ts';
import { LOGS_URI } from './logs/operations.ts';
import type { LogSink } from './logs/sink.ts';
import { OTHERS_SHOWN } from './logs/rollup.ts';
import type { StatsAnswer, StatsGroup } from './logs/stats.ts';

const SOURCE = 'rules';

export interface ChannelParts {
  /** For services that settings name. */
  readonly fetch: typeof globalThis.fetch;
}

export function channelsOf(config: Config, { fetch }: ChannelParts): Channel[] {
  const webhook = webhookOf(config);
  const server = mailServerOf(config);
  return [...(webhook ? [webhookChannel(webhook, fetch)] : []), ...(server ? [mailChannel(server)] : [])];
}

export const remindAfterOf = ({ alerts }: Config): number | undefined =>
  alerts.remind_after_hours === undefined ? undefined : alerts.remind_after_hours * HOUR;

/** Of many changes at once whoever follows alerts hears once. */
const TOLD_AFTER_MS = SECOND;

interface FollowedParts extends Pick<LogNewsParts, 'clock' | 'sink' | 'logs'> {
  readonly events: Events;
}

/** Clients of MCP that follow the list of alerts, or the log, hear when what they may see of it has changed. */
export function tellFollowers(
  { clock, events, sink, logs }: FollowedParts,
  mcp: Pick<McpInterface, 'resourceChanged' | 'followersOf'>,
  stack: AsyncDisposableStack,
): void {
  stack.use(new LogNews({ clock, sink, logs, followers: () => mcp.followersOf(LOGS_URI) }));
  let about = new Set<string>();
  let timer: Timer | undefined;
  const tell = () => {
    timer = undefined;
    const hostnames = [...about];
    about = new Set();
    mcp.resourceChanged(ALERTS_URI, (principal) => maySee(principal, hostnames));
  };
  const stop = events.on('alert.changed', ({ hostnames }) => {
    for (const hostname of hostnames) about.add(hostname);
    timer ??= clock.after(TOLD_AFTER_MS, tell);
  });
  stack.defer(() => {
    stop();
    timer?.cancel();
  });
}

interface RuleParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly sink: Pick<LogSink, 'stats'>;
  readonly archive: Pick<LogArchive, 'stats'>;
  readonly dataDir: string;
  readonly alerts: Pick<AlertService, 'all' | 'reconcile'>;
  readonly certificates: Pick<CertificateService, 'used'>;
  readonly gateway: Pick<Gateway, 'snapshot' | 'targets'>;
}

/** Once what is served is known. */
export function openRules({ alerts: settings }: Config, parts: RuleParts, stack: AsyncDisposableStack): void {
  const { clock, log, sink, alerts } = parts;
  const watch = new RuleWatch({
    clock,
    log,
    rules: withUsual(settings.rules, settings.defaults),
    sources: sourcesOf(parts),
    dropped: () => sink.stats().dropped,
    async told() {
      const all = await alerts.all();
      return all.flatMap(({ row, alert }) =>
        row.source === SOURCE && row.resolved_at === null ? [alert] : [],
      );
    },
    // How long it has to hold, and to be well, each rule says.
    tell: (current) => alerts.reconcile(SOURCE, current, { quietMs: 0 }),
  });
  stack.use(watch);
  watch.start();
}

const groups = {
  client_address: 'client',
  principal: 'principal',
  hostname: 'host',
} as const satisfies Record<string, StatsGroup>;

/** By this system: targets have refusals of their own. What a call over MCP was refused has a record of its request too. */
const REFUSED: LogFilter = {
  statusMin: 400,
  terms: [
    {
      match: 'is',
      column: 'outcome',
      values: ['UNAUTHENTICATED', 'FORBIDDEN'],
      negated: false,
      present: false,
    },
    { match: 'is', column: 'kind', values: ['audit'], negated: true, present: false },
  ],
};

/** A part of the count would end what still is, or say that nothing is wrong. */
export function whole(answer: StatsAnswer): StatsAnswer {
  if (answer.countedBackTo === undefined && answer.leftOut === undefined) return answer;
  throw new Error('the log could not be counted whole in the time allowed');
}

function sourcesOf({ archive, dataDir, certificates, gateway }: RuleParts): Sources {
  return {
    async traffic({ per, worstBy, top, ...span }, signal) {
      const filter: LogFilter = { kind: 'access' };
      const groupBy = per === 'hostname' ? 'host' : undefined;
      const question = {
        filter: { ...filter, ...span },
        groupBy,
        sortBy: worstBy,
        top,
        interval: undefined,
      } as const;
      const { total, groups: found } = whole(await archive.stats(question, signal));
      const told = groupBy === undefined ? [{ name: '', ...total }] : found;
      return told.map(({ name, count, server_errors, p50_ms, p95_ms, p99_ms }) => ({
        name,
        isRest: name === OTHERS_SHOWN,
        count,
        serverErrors: server_errors,
        p50: p50_ms,
        p95: p95_ms,
        p99: p99_ms,
      }));
    },
    async refusals({ by, top, ...span }, signal) {
      const groupBy = groups[by];
      const filter = { ...REFUSED, ...span };
      const question = { filter, groupBy, sortBy: 'count', top, interval: undefined } as const;
      return whole(await archive.stats(question, signal)).groups;
    },
    async disk() {
      const { bavail, blocks, bsize } = await statfs(dataDir);
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    },
    *certificates() {
      for (const [{ id, notAfter }, hostnames] of certificates.used()) yield { id, notAfter, hostnames };
    },
    *targets() {
      const { table } = gateway.snapshot();
      for (const hostname of table.hostnames()) {
        const id = table.proxyOf(hostname)?.id;
        const states = id === undefined ? undefined : gateway.targets(id);
        const asked = states?.filter(({ state }) => state !== 'drained') ?? [];
        const unhealthy = asked.filter(({ state }) => state !== 'healthy').length;
        yield { hostname, unhealthy, total: asked.length };
      }
    },
  };
}
