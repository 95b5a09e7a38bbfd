/** Where a container is reached from here, and a service that is somewhere else. Pure, but for the places that follow it. */
import { isIPv6 } from 'node:net';
import { reachedBy } from '../core/reached-by.ts';
import type { Place, ServiceTarget, Stay } from '../proxies/target-url.ts';
import type { ContainerDetails } from './engine.ts';

/**
 * What a target names, by its record: a container of ours that is found by its labels, a URL elsewhere, or a port of a
 * container that was made elsewhere (`container`: its whole id).
 */
export type Led =
  | { readonly id: string; readonly generation: number }
  | { readonly url: string }
  | { readonly container: string; readonly port: number };

export type Found = Pick<ContainerDetails, 'id' | 'ports' | 'networks' | 'replicas'>;

const LOOPBACK = /^(?:127\.|::1$)/;

/** Of each replica, where there are some; else the one address. */
export function addressesOf(found: Found, port: number, machine?: string): string[] {
  if (!found.replicas) return [addressOf(found, port, machine) ?? []].flat();
  const hosts = found.ports.flatMap(({ containerPort, protocol, hostAddress, hostPort }) => {
    if (containerPort !== port || protocol !== 'tcp' || hostAddress === undefined || !hostPort) return [];
    return machine !== undefined && LOOPBACK.test(hostAddress) ? [] : written(hostAddress, hostPort);
  });
  return [...new Set(hosts)].sort();
}

/**
 * `host:port`: of the port that is published, else of the container in one of its networks.
 * @param machine where the engine is, when that is not this machine: what is at loopback there, or inside, is out of reach
 */
export function addressOf({ ports, networks }: Found, port: number, machine?: string): string | undefined {
  const hosts = ports.flatMap(({ containerPort, protocol, hostAddress, hostPort }) => {
    if (containerPort !== port || protocol !== 'tcp' || hostAddress === undefined || !hostPort) return [];
    if (machine === undefined) return written(reachedBy(hostAddress), hostPort);
    return LOOPBACK.test(hostAddress) ? [] : written(machine, hostPort);
  });
  if (hosts.length > 0 || machine !== undefined) return hosts.sort(ipv4First)[0];
  const inside = networks.flatMap(({ address, address6 }) => address ?? address6 ?? [])[0];
  return inside === undefined ? undefined : written(inside, port);
}

const written = (host: string, port: number): string => `${isIPv6(host) ? `[${host}]` : host}:${port}`;
const ipv4First = (one: string, other: string): number =>
  Number(one.startsWith('[')) - Number(other.startsWith('['));

/** Why a target can't be; undefined: it can. */
export function targetFault({ name, port }: ServiceTarget, led: Led | undefined): string | undefined {
  if (!led) return `there is no service ${name}; list_services names them`;
  if ('url' in led)
    return port === undefined
      ? undefined
      : `the service ${name} is a URL: write service://${name}, without a port`;
  if ('container' in led)
    return port === undefined ? undefined : `${name} has a port: write service://${name}, without one`;
  return port === undefined ? `name the port of its container, such as service://${name}:8080` : undefined;
}

interface MutableStay extends Stay {
  isOver: boolean;
}

let stays = 0;

export class LedPlace implements Place {
  readonly #target: ServiceTarget;
  readonly #machine: string | undefined;
  stays: readonly MutableStay[] = [];
  #turn = 0;
  reason = 'where the service is, is not known yet';

  constructor(target: ServiceTarget, machine: string | undefined) {
    this.#target = target;
    this.#machine = machine;
  }

  get stay(): MutableStay | undefined {
    return this.stays[0];
  }

  next(): MutableStay | undefined {
    const stays = this.stays;
    if (stays.length < 2) return stays[0];
    this.#turn = (this.#turn + 1) % stays.length;
    return stays[this.#turn];
  }

  leadTo(led: Led | undefined, found: Found | undefined, reason: string): void {
    const fault = targetFault(this.#target, led);
    if (fault !== undefined || !led) this.leave(fault ?? reason);
    else if ('url' in led) this.#arrive([led.url], new URL(led.url).host, led.url);
    else if (!found) this.leave(reason);
    else this.#leadInto(found, 'container' in led ? led.port : this.#target.port);
  }

  /** Whoever waits to connect is told. */
  leave(reason: string): void {
    for (const stay of this.stays) stay.isOver = true;
    this.stays = [];
    this.reason = reason;
  }

  #leadInto(found: Found, port = 0): void {
    const { name } = this.#target;
    const urls = addressesOf(found, port, this.#machine).map((address) => `http://${address}`);
    if (urls.length > 0) this.#arrive(urls, `${name}:${port}`, found.id);
    else
      this.leave(
        this.#machine === undefined
          ? `the service ${name} is in no network and port ${port} is not published`
          : `port ${port} of the service ${name} is not published at an address of ${this.#machine} that others reach`,
      );
  }

  /**
   * Those that were there come first, so that the first is the same for as long as it is there.
   * @param whose what it is there, so that another one at the same address is a move too
   */
  #arrive(urls: readonly string[], host: string, whose: string): void {
    const before = this.stays;
    const kept = before.filter(({ url, key }) => urls.includes(url) && key.startsWith(`${whose} `));
    const more = urls.filter((url) => !kept.some((stay) => stay.url === url));
    this.stays = [...kept, ...more.map((url) => ({ url, host, key: `${whose} ${++stays}`, isOver: false }))];
    for (const stay of before) if (!kept.includes(stay)) stay.isOver = true;
    this.reason = '';
  }
}
