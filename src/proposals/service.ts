/**
 * Proposals, made anew from what runs whenever somebody asks: nothing of them is kept, and none is applied by itself.
 * Accepted, a proposal is a proxy like any other. Called by the operations of this folder.
 */
import { AppError } from '../core/errors.ts';
import { wildcardOver } from '../core/hostname.ts';
import type { OperationContext } from '../core/operation.ts';
import type { Permission } from '../core/permissions.ts';
import type { Principal } from '../core/principal.ts';
import { type Proxy, type ProxySettings, proxySettings } from '../proxies/schema.ts';
import type { Container } from '../services/engine.ts';
import { HOSTNAME_LABEL, type Offer, offerOf } from './offer.ts';
import type { AcceptInput, Proposal } from './schema.ts';

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

export class ProposalService {
  readonly #parts: ProposalParts;

  constructor(parts: ProposalParts) {
    this.#parts = parts;
  }

  get isOn(): boolean {
    return this.#parts.isOn;
  }

  async list({ principal }: Pick<Caller, 'principal'>): Promise<{ proposals: Proposal[]; left_out: number }> {
    const offers = await this.#offers();
    const ids = new Map<string, string[]>();
    for (const { hostname = '', container } of offers)
      ids.set(hostname, [...(ids.get(hostname) ?? []), container]);
    const proposals: Proposal[] = [];
    for (const offer of offers.slice(0, MAX_SHOWN)) {
      const rivals = (ids.get(offer.hostname ?? '') ?? []).filter((id) => id !== offer.container);
      proposals.push(await this.#told(offer, rivals, principal));
    }
    return { proposals, left_out: offers.length - proposals.length };
  }

  /** @throws AppError NOT_FOUND, CONFLICT when it asks for another hostname, else as `create_proxy` */
  async accept({ container, hostname, auth, enabled }: AcceptInput, caller: Caller): Promise<Proxy> {
    if (!caller.principal.permissions.has(NEEDED))
      throw new AppError('FORBIDDEN', `accept_proposal takes the permission ${NEEDED} as well`, {
        details: { required: NEEDED },
      });
    const [offer, ...more] = (await this.#offers()).filter(({ id }) => id.startsWith(container));
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
        `the container ${container} does not ask for ${hostname}: its label ${HOSTNAME_LABEL} says otherwise; see list_proposals`,
      );
    const { target_url, problem } = offer;
    if (target_url === undefined)
      throw new AppError('PRECONDITION_FAILED', `the container ${container} can't be led to: ${problem}`);
    return this.#parts.proxies.create({ ...settingsFor(target_url), auth, enabled, hostname }, caller);
  }

  async #offers(): Promise<Offer[]> {
    const { machine, containers } = this.#parts;
    const found = (await containers()).flatMap((container) => offerOf(container, machine) ?? []);
    return found.sort((a, b) => orderOf(a).localeCompare(orderOf(b)));
  }

  async #told(
    { id: _id, hostname, target_url, problem, ...offer }: Offer,
    rivals: readonly string[],
    principal: Principal,
  ): Promise<Proposal> {
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

const settingsFor = (target_url: string): ProxySettings => proxySettings.parse({ target_url });

/** Those that can't be accepted in any case come last. */
const orderOf = ({ hostname, id }: Offer): string => `${hostname === undefined ? 1 : 0} ${hostname} ${id}`;
