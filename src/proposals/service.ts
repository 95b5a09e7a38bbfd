/**
 * Proposals, made anew from what runs whenever somebody asks: nothing of them is kept. Accepted, a proposal is a proxy like
 * any other. What is applied without asking is `apply.ts`'s, and told here. Called by the operations of this folder, and by
 * the composition root for `start`.
 */
import type { z } from 'zod';
import { toTimestamp } from '../core/collection.ts';
import { AppError, toAppError } from '../core/errors.ts';
import { wildcardOver } from '../core/hostname.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Permission } from '../core/permissions.ts';
import { mayBeToldNames, type Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
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

  /** Without an engine what was applied is told, and why no proposal. @throws AppError UNAVAILABLE where nothing was. */
  async list({ principal }: Pick<Caller, 'principal'>): Promise<z.output<typeof proposalsSchema>> {
    const { offers, fault } = await this.#offersOrFault();
    // Both name what has a hostname.
    const facts = mayBeToldNames(principal) ? await this.#parts.applier.facts() : notTold;
    const applied = facts.records.slice(0, MAX_SHOWN).map(shownApplied);
    if (fault && applied.length === 0) throw fault;
    const ids = new Map<string, string[]>();
    for (const { hostname = '', container } of offers)
      ids.set(hostname, [...(ids.get(hostname) ?? []), container]);
    const proposals: Proposal[] = [];
    for (const offer of offers.slice(0, MAX_SHOWN)) {
      const rivals = (ids.get(offer.hostname ?? '') ?? []).filter((id) => id !== offer.container);
      proposals.push(withFacts(await this.#told(offer, rivals, principal), offer, facts));
    }
    return {
      proposals,
      left_out: offers.length - proposals.length,
      ...(applied.length > 0 && { applied }),
      ...(fault && { engine_problem: cleanText(fault.message) }),
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

  async #offersOrFault(): Promise<{ offers: Offer[]; fault?: AppError }> {
    try {
      return { offers: await this.#offers() };
    } catch (cause) {
      const fault = toAppError(cause);
      if (fault.code === 'INTERNAL') throw cause;
      return { offers: [], fault };
    }
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
      ...(mayBeToldNames(principal) && (await proxies.has(wildcard)) && { served_by: wildcard }),
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
      if (!(cause instanceof AppError) || cause.code === 'INTERNAL') throw cause;
      return cause.code === 'CONFLICT' && !mayBeToldNames(principal)
        ? `${hostname} is taken; who has it is told with proxies:read and routes:read`
        : cause.message;
    }
  }
}

export const settingsFor = (target_url: string): ProxySettings => proxySettings.parse({ target_url });

/** Those that can't be accepted in any case come last. */
const orderOf = ({ hostname, id }: Offer): string => `${hostname === undefined ? 1 : 0} ${hostname} ${id}`;

const notTold: AppliedFacts = { records: [], refusals: new Map() };

function withFacts({ problem, ...told }: Proposal, offer: Offer, facts: AppliedFacts): Proposal {
  const key = keyOf(offer);
  const isOf = (record: AppliedFacts['records'][number]) =>
    record.state !== 'dismissed' && keyOf({ ...record, id: record.container }) === key;
  const applied = facts.records.find(isOf)?.proxy_id;
  if (applied !== undefined) return { ...told, applied };
  const why = problem ?? facts.refusals.get(key);
  return { ...told, ...(why !== undefined && { problem: why }) };
}

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
