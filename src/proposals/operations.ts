/** Hostnames that containers ask for by labels: looked at, and accepted one by one. Called through `dispatch`. */
import { z } from 'zod';
import { defineOperation } from '../core/operation.ts';
import { proxyResult } from '../proxies/schema.ts';
import { acceptInput, proposalsSchema } from './schema.ts';
import type { ProposalService } from './service.ts';

type Services = { proposals: ProposalService };

const offBy = ({ proposals }: Services): string | undefined =>
  proposals.isOn ? undefined : 'services.labels: off';

export const listProposals = defineOperation({
  name: 'list_proposals',
  title: 'List proposals of containers',
  description:
    'Lists hostnames that running containers ask for by labels, where each would lead and what stands against it; and the proxies that labels made by themselves, where services.apply_labels lets them.',
  permission: 'services:read',
  confinement: 'refused',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'GET', path: '/v1/proposals' },
  input: z.object({}),
  output: proposalsSchema,
  offBy,
  handler: (_input, context, { proposals }: Services) => proposals.list(context),
});

export const acceptProposal = defineOperation({
  name: 'accept_proposal',
  title: 'Accept a proposal of a container',
  description:
    'Makes the proxy that a container asks for by its label: as create_proxy, to the port that the container publishes now.',
  permission: 'proxies:write',
  confinement: 'refused',
  effect: 'create',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'services',
  http: { method: 'POST', path: '/v1/accepted-proposals' },
  input: acceptInput,
  output: proxyResult,
  offBy,
  confirm: ({ container, hostname, auth, enabled }) =>
    `Serve ${hostname} from the container ${container}, which asked for it${enabled && auth.kind === 'none' ? ', open to anyone' : ''}?`,
  async handler(input, context, { proposals }: Services) {
    const proxy = await proposals.accept(input, context);
    context.audit({ proxy: proxy.id, container: input.container });
    return proxy;
  },
});

export const proposalOperations = [listProposals, acceptProposal] as const;
