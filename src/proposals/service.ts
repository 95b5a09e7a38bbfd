/**
 * Proposals, made anew from what runs whenever somebody asks: nothing of them is kept. Accepted, a proposal is a proxy like
 * any other. What is applied without asking is `apply.ts`'s, and told here. Called by the operations of this folder, and by
 * the composition root for `start`.
 */
import type { z } from 'zod';
import { toTimestamp } from '../core/collection.ts';
import { AppError } from '../core/errors.ts';
import { wildcardOver } from '../core/hostname.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Permission } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { type Proxy, type ProxySettings, proxySettings } from '../proxies/schema.ts';
import type { Container } from '../services/engine.ts';
import { type AppliedFacts, keysOf, type LabelApplier } from './apply.ts';
import { keyOf } from './decide.ts';
import { HOSTNAME_LABEL, type Offer, offerOf, shownId } from './offer.ts';
import type { AcceptInput, AppliedProxy, Proposal, proposalsSchema } from './schema.ts';

const MAX_SHOWN = 100;
const MAX_RIVALS = 5;
/** Of who accepts, besides that of the operation: it says that there is such a container. */
const NEEDED: Permission = 'services:read';

type Caller = Pick<OperationContext, 'principal' | 'idempotency'>;
type NewProxy = ProxySettings & { hostname: string };

export interface ProposalParts {
  /** The setting. */
  readonly isOn: boolean;
  /** Where the engine is, when that is not this machine. */
  readonly machine: string | undefined;
  readonly applier: LabelApplier;
  /** That run. @throws AppError UNAVAILABLE without an engine */
  readonly containers: () => Promise<readonly Container[]>;
  readonly proxies: {
    /** @throws AppError what `create` would say now, whatever the target */
    check(wanted: Omit<NewProxy, 'target_url'>, by: { principal: Principal }): Promise<void>;
    create(wanted: NewProxy, caller: Caller): Promise<Proxy>;
    /** Whether there is a proxy of exactly this hostname or wildcard. */
    has(pattern: string): Promise<boolean>;
    /** Why the URL may not be a target. */
    targetFault(url: string): string | undefined;
  };
}

export class ProposalService implements AsyncDisposable {
  readonly #parts: ProposalParts;

  constructor(parts: ProposalParts) {
    this.#parts = parts;
  }

  /** From here on labels are applied, where the settings say so. Never throws. */
  start(): Promise<void> {
    return this.#parts.applier.start();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#parts.applier[Symbol.asyncDispose]();
  }

  get isOn(): boolean {
    return this.#parts.isOn;
  }

  async list({ principal }: Pick<Caller, 'principal'>): Promise<z.output<typeof proposalsSchema>> {
    const offers = await this.#offers();
    const facts = await this.#parts.applier.facts();
    const ids = new Map<string, string[]>();
    for (const { hostname = '', container } of offers)
      ids.set(hostname, [...(ids.get(hostname) ?? []), container]);
    const proposals: Proposal[] = [];
    for (const offer of offers.slice(0, MAX_SHOWN)) {
      const rivals = (ids.get(offer.hostname ?? '') ?? []).filter((id) => id !== offer.container);
      const proxy = facts.records.find(
        (record) =>
          record.state !== 'dismissed' && keyOf({ ...record, id: record.container }) === keyOf(offer),
      )?.proxy_id;
      const told = await this.#told(offer, rivals, principal);
      const problem = proxy === undefined ? (told.problem ?? facts.refusals.get(keyOf(offer))) : undefined;
      const { problem: _, ...more } = told;
      proposals.push({
        ...more,
        ...(problem !== undefined && { problem }),
        ...(proxy !== undefined && { applied: proxy }),
      });
    }
    return {
      proposals,
      left_out: offers.length - proposals.length,
      ...(facts.records.length > 0 && { applied: facts.records.slice(0, MAX_SHOWN).map(shownApplied) }),
    };
  }

  /** @throws AppError NOT_FOUND, CONFLICT when it asks for another hostname, else as `create_proxy` */
  async accept({ container, hostname, auth, enabled }: AcceptInput, caller: Caller): Promise<Proxy> {
    if (!caller.principal.permissions.has(NEEDED))
      throw new AppError('FORBIDDEN', `accept_proposal takes the permission ${NEEDED} as well`, {
        details: { required: NEEDED },
      });
    const asking = (await this.#offers()).filter(({ id }) => id.startsWith(container));
    const more = asking.filter(({ id }) => id !== asking[0]?.id);
    const offer = asking.find((one) => one.hostname === hostname) ?? asking[0];
    if (!offer)
      throw new AppError(
        'NOT_FOUND',
        `no container ${container} that runs asks for a hostname; list_proposals names those that do`,
      );
    if (more.length > 0)
      throw new AppError('CONFLICT', `several containers begin with ${container}; give more of the id`);
    if (offer.hostname !== hostname)
      throw new AppError(
        'CONFLICT',
        `the container ${container} does not ask for ${hostname}: its label says otherwise; see list_proposals`,
      );
    const { target_url, problem } = offer;
    if (target_url === undefined)
      throw new AppError('PRECONDITION_FAILED', `the container ${container} can't be led to: ${problem}`);
    return this.#parts.proxies.create({ ...settingsFor(target_url), auth, enabled, hostname }, caller);
  }

  async #offers(): Promise<Offer[]> {
    const { machine, containers, applier } = this.#parts;
    const keys = keysOf(applier);
    const found = (await containers()).flatMap((container) =>
      keys.flatMap((key) => offerOf(container, machine, key) ?? []),
    );
    return found.sort((a, b) => orderOf(a).localeCompare(orderOf(b)));
  }

  async #told(
    { id: _id, createdAt: _at, port: _port, label, hostname, target_url, problem, ...shown }: Offer,
    rivals: readonly string[],
    principal: Principal,
  ): Promise<Proposal> {
    const offer = { ...shown, ...(label !== HOSTNAME_LABEL && { label }) };
    if (hostname === undefined) return { ...offer, problem };
    const { proxies } = this.#parts;
    const why = problem ?? (await this.#problemOf(hostname, target_url ?? '', principal));
    const wildcard = wildcardOver(hostname);
    return {
      ...offer,
      hostname,
      ...(target_url !== undefined && { target_url }),
      ...(why !== undefined && { problem: why }),
      ...((await proxies.has(wildcard)) && { served_by: wildcard }),
      ...(rivals.length > 0 && { rivals: rivals.slice(0, MAX_RIVALS) }),
    };
  }

  /** As `create_proxy` would say it. */
  async #problemOf(hostname: string, url: string, principal: Principal): Promise<string | undefined> {
    const { proxies } = this.#parts;
    const fault = proxies.targetFault(url);
    if (fault !== undefined) return `${url} may not be a target: ${fault}`;
    try {
      const { target_url: _, ...settings } = settingsFor(url);
      await proxies.check({ ...settings, hostname }, { principal });
      return undefined;
    } catch (cause) {
      if (cause instanceof AppError && cause.code !== 'INTERNAL') return cause.message;
      throw cause;
    }
  }
}

export const settingsFor = (target_url: string): ProxySettings => proxySettings.parse({ target_url });

/** Those that can't be accepted in any case come last. */
const orderOf = ({ hostname, id }: Offer): string => `${hostname === undefined ? 1 : 0} ${hostname} ${id}`;

function shownApplied(record: AppliedFacts['records'][number]): AppliedProxy {
  const { hostname, proxy_id, label, container, proxy, state, missingSince } = record;
  const standing = proxy === 'changed' ? 'changed' : missingSince === undefined ? 'running' : 'down';
  return {
    hostname,
    proxy: proxy_id,
    label,
    container: shownId(container),
    state: state === 'dismissed' ? 'dismissed' : standing,
    ...(missingSince !== undefined && { down_since: toTimestamp(missingSince) }),
  };
}
