/** The part of the composition root that gives proposals the containers that run and the rules for proxies. */
import { engineMachine } from './config/docker.ts';
import type { Config } from './config/config.ts';
import type { AuditTrail } from './core/audit.ts';
import type { Clock } from './core/clock.ts';
import { AppError } from './core/errors.ts';
import { wildcardOver } from './core/hostname.ts';
import { system } from './core/principal.ts';
import type { Log } from './core/record.ts';
import type { OwnAddress } from './proxies/target-policy.ts';
import { targetFault } from './proxies/target-policy.ts';
import type { ProxyService } from './proxies/service.ts';
import { type ApplyParts, LabelApplier } from './proposals/apply.ts';
import { ProposalService, settingsFor } from './proposals/service.ts';
import type { ServiceAddresses } from './services/addresses.ts';
import type { ContainerEngine } from './services/engine.ts';
import { requireEngine } from './services/require-engine.ts';
import type { Database } from './store/database.ts';

export interface ProposalsFrom {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly trail?: AuditTrail | undefined;
  readonly engine: Pick<ContainerEngine, 'ping' | 'list' | 'events'>;
  readonly proxies: Pick<ProxyService, 'check' | 'create' | 'delete'>;
  readonly addresses: Pick<ServiceAddresses, 'changed'>;
  /** Where this process listens. */
  readonly own: () => readonly OwnAddress[];
}

export function openProposals(
  config: Pick<Config, 'services' | 'docker' | 'broker'>,
  parts: ProposalsFrom,
): ProposalService {
  const { engine, proxies, own } = parts;
  const machine = engineMachine(config);
  const has = hasProxy(parts);
  return new ProposalService({
    isOn: config.services.labels === 'propose',
    machine,
    applier: new LabelApplier({
      ...parts,
      trail: parts.trail,
      machine,
      rules: config.services.apply_labels,
      proxies: appliedProxies(parts, has),
      moved: (id) => parts.addresses.changed(id),
    }),
    async containers() {
      await requireEngine({ engine });
      return engine.list({ all: false });
    },
    proxies: {
      check: (wanted, by) => proxies.check(wanted, by),
      create: (wanted, caller) => proxies.create(wanted, caller),
      has,
      targetFault: (url) => targetFault(url, own()),
    },
  });
}

const hasProxy =
  ({ database }: Pick<ProposalsFrom, 'database'>) =>
  async (pattern: string): Promise<boolean> => {
    const query = database.read.selectFrom('proxies').select('id').where('hostname', '=', pattern);
    return (await query.executeTakeFirst()) !== undefined;
  };

/** By the rules for everybody's proxies, in the name of the system. */
function appliedProxies(
  { proxies, own }: ProposalsFrom,
  has: (pattern: string) => Promise<boolean>,
): ApplyParts['proxies'] {
  const by = { principal: system };
  return {
    async fault(hostname, url) {
      const fault = targetFault(url, own());
      if (fault !== undefined) return `${url} may not be a target: ${fault}`;
      const { target_url: _, ...settings } = settingsFor(url);
      return refusalOf(proxies.check({ ...settings, hostname }, by));
    },
    async servedBy(hostname) {
      const wildcard = wildcardOver(hostname);
      return (await has(wildcard)) ? wildcard : undefined;
    },
    create: (hostname, target, id) => proxies.create({ ...settingsFor(target), hostname }, by, id),
    async remove(hostname, id) {
      try {
        await proxies.delete(hostname, FIRST_VERSION, by, { id, withoutRoutes: true });
        return 'removed';
      } catch (cause) {
        if (!(cause instanceof AppError)) throw cause;
        if (cause.code === 'NOT_FOUND') return 'gone';
        if (cause.code === 'CONFLICT' || cause.code === 'PRECONDITION_FAILED') return 'changed';
        throw cause;
      }
    },
  };
}

const FIRST_VERSION = 1;

async function refusalOf(work: Promise<void>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (cause) {
    if (cause instanceof AppError && cause.code !== 'INTERNAL') return cause.message;
    throw cause;
  }
}
