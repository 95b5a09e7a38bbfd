/**
 * What a publication asks of the others, as each of their operations would do it: with the same rules, and as the same
 * principal. The composition root supplies it.
 */
import type { OperationContext } from '../core/operation.ts';
import type { Principal } from '../core/principal.ts';
import type { Proxy, ProxySettings } from '../proxies/schema.ts';
import type { CertificateChoice } from '../proxies/certificate-choice.ts';
import type { ServiceDetails, ServiceSettings } from '../services/schema.ts';
import type { ProtectionWish } from './schema.ts';

export type Caller = Pick<OperationContext, 'principal' | 'signal' | 'progress'>;
type By = { readonly principal: Principal };
export type PullMode = 'missing' | 'always' | 'never';

export interface ServiceProspect {
  /** Id of the service that has the name. */
  readonly takenBy: string | undefined;
  /** What the policy says against it. */
  readonly fault: string | undefined;
  readonly newVolumes: readonly string[];
  /** TCP ports that the image names; undefined: it is not here. */
  readonly imagePorts: readonly number[] | undefined;
}

export interface ServicesPort {
  /** Where its port is published, so that the gateway reaches it. @throws AppError PRECONDITION_FAILED when that is nowhere */
  address(): Promise<string>;
  /** @throws AppError UNAVAILABLE without an engine */
  prospect(name: string, settings: ServiceSettings): Promise<ServiceProspect>;
  fetchImage(image: string, mode: PullMode, caller: Caller): Promise<void>;
  create(
    wanted: { id: string; name: string; settings: ServiceSettings; healthyWithinMs: number },
    caller: Caller,
  ): Promise<ServiceDetails>;
  /** Undefined: there is none. */
  idOf(name: string): Promise<string | undefined>;
  /** Hostnames of proxies and ids of routes that lead to it; none where there is no such service. */
  users(name: string): Promise<string[]>;
  /** Only the one of this id; nothing happens where there is none. */
  remove(name: string, id: string, volumes: readonly string[]): Promise<void>;
}

export type NewProxy = ProxySettings & { hostname: string };

export interface ProxiesPort {
  /** @throws AppError what `create` would say now, whatever the target */
  check(wanted: Omit<NewProxy, 'target_url'>, by: By): Promise<void>;
  create(wanted: NewProxy, by: By, id: string): Promise<Proxy>;
  enable(hostname: string, by: By): Promise<Proxy>;
  /** Undefined: there is none. */
  idOf(hostname: string): Promise<string | undefined>;
  /** Ids of the routes that go with it. */
  routes(hostname: string): Promise<string[]>;
  /** Only the one of this id; nothing happens where there is none. */
  remove(hostname: string, id: string): Promise<void>;
}

export interface ProtectionPort {
  /** @throws AppError INVALID_INPUT for a user that there is not */
  check(wish: ProtectionWish): void;
  protect(hostname: string, wish: ProtectionWish, by: By): Promise<unknown>;
}

export type CertificateProspect =
  /** Served from the first handshake on. */
  | { readonly kind: 'there'; readonly id: string }
  | { readonly kind: 'ordered'; readonly issuer: string }
  /** Of the CA of this system; `why` no other is asked. */
  | { readonly kind: 'internal'; readonly why: string };

export interface CertificatesPort {
  prospect(hostname: string, choice: CertificateChoice): CertificateProspect;
  /** Ids of those for this hostname alone. */
  of(hostname: string): string[];
  /** Until it is served. @throws AppError UPSTREAM_FAILED with the words of the CA, TIMEOUT */
  obtain(hostname: string, choice: CertificateChoice, caller: Caller): Promise<void>;
  /**
   * Orders for this hostname alone end, certificates for it go unless they were imported.
   * @param kept that were there before; where there are some, all certificates stay, and renewals go on
   */
  discard(hostname: string, kept: readonly string[]): Promise<void>;
}

export interface Visited {
  readonly status: number;
  /** Who answered, as the gateway itself knows it: whatever the reply says. */
  readonly by: 'target' | 'protection' | 'gateway';
}

export interface EdgePort {
  /** The status that the target of a proxy answers with, reached as requests reach it. */
  ask(proxy: Proxy, path: string, signal: AbortSignal): Promise<number>;
  /** An HTTPS request to our own listener, as a stranger sends it. @throws where its certificate is not for the name */
  visit(hostname: string, path: string, signal: AbortSignal): Promise<Visited>;
}

export interface PublishingPorts {
  readonly services: ServicesPort;
  readonly proxies: ProxiesPort;
  readonly protection: ProtectionPort;
  readonly certificates: CertificatesPort;
  readonly edge: EdgePort;
}
