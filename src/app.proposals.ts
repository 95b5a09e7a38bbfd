/** The part of the composition root that gives proposals the containers that run and the rules for proxies. */
import { engineMachine } from './config/docker.ts';
import type { Config } from './config/config.ts';
import type { OwnAddress } from './proxies/target-policy.ts';
import { targetFault } from './proxies/target-policy.ts';
import type { ProxyService } from './proxies/service.ts';
import { ProposalService } from './proposals/service.ts';
import type { ContainerEngine } from './services/engine.ts';
import { requireEngine } from './services/require-engine.ts';
import type { Database } from './store/database.ts';

export interface ProposalsFrom {
  readonly database: Database;
  readonly engine: Pick<ContainerEngine, 'ping' | 'list'>;
  readonly proxies: Pick<ProxyService, 'check' | 'create'>;
  /** Where this process listens. */
  readonly own: () => readonly OwnAddress[];
}

export const openProposals = (
  config: Pick<Config, 'services' | 'docker' | 'broker'>,
  { database, engine, proxies, own }: ProposalsFrom,
): ProposalService =>
  new ProposalService({
    isOn: config.services.labels === 'propose',
    machine: engineMachine(config),
    async containers() {
      await requireEngine({ engine });
      return engine.list({ all: false });
    },
    proxies: {
      check: (wanted, by) => proxies.check(wanted, by),
      create: (wanted, caller) => proxies.create(wanted, caller),
      async has(pattern) {
        const query = database.read.selectFrom('proxies').select('id').where('hostname', '=', pattern);
        return (await query.executeTakeFirst()) !== undefined;
      },
      targetFault: (url) => targetFault(url, own()),
    },
  });
