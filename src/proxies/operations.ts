/** What can be done with proxies. */
import { z } from 'zod';
import { cursorField, idempotencyKeyField, limitField, versionField } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { questionAbout } from '../core/question.ts';
import { type ClientAuth, clientAuthFacts } from './client-auth.ts';
import { type LoadBalancing, targetState } from './load-balancing.ts';
import { proxyChanges, proxyListSchema, proxyResult, proxySettings } from './schema.ts';
import type { ProxyService } from './service.ts';
import { leadsTo } from './service-targets.ts';
import { shownTo } from './shown.ts';

type Services = { proxies: ProxyService };

const hostnameField = hostname.describe('Its hostname');

export const listProxies = defineOperation({
  name: 'list_proxies',
  title: 'List proxies',
  description: 'Lists proxies by hostname: each serves a hostname and forwards to a target.',
  permission: 'proxies:read',
  confinement: 'filters',
  effect: 'read',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'GET', path: '/v1/proxies' },
  input: z.object({
    limit: limitField,
    cursor: cursorField,
    filter: z
      .string()
      .max(limits.shortText)
      .optional()
      .describe('Only those whose hostname or target contains this'),
  }),
  output: proxyListSchema,
  handler: (input, context, { proxies }: Services) => proxies.list(input, context),
});

export const getProxy = defineOperation({
  name: 'get_proxy',
  title: 'Get a proxy',
  description:
    'Shows every setting of one proxy; values of its request header rules only to who may change them.',
  permission: 'proxies:read',
  confinement: 'filters',
  effect: 'read',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'GET', path: '/v1/proxies/{hostname}' },
  input: z.object({ hostname: hostnameField }),
  output: proxyResult.extend({
    client_auth_facts: clientAuthFacts.optional().describe('Of client_auth: what is trusted, until when'),
    targets: z.array(targetState).optional().describe('Of load_balancing: how each target stands'),
    leads_to: leadsTo,
  }),
  async handler({ hostname }, context, { proxies }: Services) {
    const proxy = await proxies.get(hostname, context);
    const client_auth_facts = proxies.clientAuthFacts(proxy);
    const targets = proxies.targetStates(proxy);
    return {
      ...shownTo(context.principal, proxy),
      ...(client_auth_facts && { client_auth_facts }),
      ...(targets && { targets }),
      ...proxies.leadingTo(proxy, context.principal),
    };
  },
});

export const createProxy = defineOperation({
  name: 'create_proxy',
  title: 'Create a proxy',
  description:
    'Serves a hostname, over HTTPS with a certificate at once, and forwards its requests to a target. DNS is not changed.',
  permission: 'proxies:write',
  confinement: 'filters',
  effect: 'create',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'POST', path: '/v1/proxies' },
  input: z.object({
    hostname: hostname.describe('Such as app.example.com; *.example.com: every name one label below'),
    ...proxySettings.shape,
    idempotency_key: idempotencyKeyField,
  }),
  output: proxyResult,
  async handler(input, context, { proxies }: Services) {
    const { idempotency_key: _, ...wanted } = input;
    const proxy = await proxies.create(wanted, context);
    context.audit({ proxy: proxy.id });
    return proxy;
  },
});

export const updateProxy = defineOperation({
  name: 'update_proxy',
  title: 'Update a proxy',
  description: 'Changes settings of a proxy; what is left out stays. Header rules are replaced as a whole.',
  permission: 'proxies:write',
  confinement: 'filters',
  effect: 'update',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'PATCH', path: '/v1/proxies/{hostname}' },
  input: z.object({ hostname: hostnameField, ...proxyChanges.shape, version: versionField }),
  output: proxyResult,
  confirm: (changes) =>
    questionAbout(`Change the proxy ${changes.hostname}`, [
      changes.auth?.kind === 'none' && 'Its target is then open to anyone',
      changes.enabled === false && 'The hostname stops being served',
      changes.enable_https === false && 'It is no longer served over HTTPS',
      changes.redirect_to_https === false && 'Requests over plain HTTP are then forwarded, in the clear',
      changes.client_auth?.mode === 'off' && 'Clients are no longer asked for certificates',
      changes.client_auth?.mode === 'optional' && 'Clients without a certificate get through',
      ...effectsOfTrust(changes.client_auth),
      changes.target_url !== undefined && `Its requests go to ${changes.target_url}`,
      ...effectsOfTargets(changes.load_balancing),
      changes.verify_upstream_tls === false && 'Any certificate of an https target is then accepted',
    ]),
  handler: ({ hostname, version, ...changes }, context, { proxies }: Services) =>
    proxies.update(hostname, changes, version, context),
});

function effectsOfTargets(balancing: LoadBalancing | null | undefined): string[] {
  if (balancing === undefined) return [];
  if (balancing === null) return ['All of its requests go to target_url'];
  const targets = balancing.targets.map(({ url, drain }) => (drain ? `${url} (drained)` : url));
  return [`Its requests are spread over target_url and ${targets.join(', ')}`];
}

/** What was there before is not known here, and all of it is replaced. */
function effectsOfTrust(auth: ClientAuth | undefined): (string | false)[] {
  if (auth === undefined || auth.mode === 'off') return [];
  return [
    'Certificates count that are of the CAs of ca_pem, and of no others',
    auth.crl_pem === undefined &&
      'Without crl_pem no list is looked at, so that revoked certificates count too',
  ];
}

export const deleteProxy = defineOperation({
  name: 'delete_proxy',
  title: 'Delete a proxy',
  description: 'Stops serving a hostname and deletes its proxy and the routes that belong to it.',
  permission: 'proxies:write',
  confinement: 'filters',
  effect: 'delete',
  mcp: 'listed',
  toolset: 'proxies',
  http: { method: 'DELETE', path: '/v1/proxies/{hostname}' },
  input: z.object({ hostname: hostnameField, version: versionField }),
  output: z.object({ hostname, deleted_routes: z.int() }),
  confirm: ({ hostname }) =>
    `Delete the proxy ${hostname} and every route that belongs to it? The hostname stops being served at once.`,
  handler: ({ hostname, version }, context, { proxies }: Services) =>
    proxies.delete(hostname, version, context),
});

export const proxyOperations = [listProxies, getProxy, createProxy, updateProxy, deleteProxy] as const;
