/** Where a container is reached from here, and a service that is somewhere else. Pure, but for the places that follow it. */
import { isIPv6 } from 'node:net';
import type { Place, ServiceTarget, Stay } from '../proxies/target-url.ts';
import type { ContainerDetails } from './engine.ts';

/** What a service is by its record: a container that is found by its labels, or a URL elsewhere. */
export type Led = { readonly id: string; readonly generation: number } | { readonly url: string };

export type Found = Pick<ContainerDetails, 'id' | 'ports' | 'networks'>;

const EVERY_ADDRESS: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
const LOOPBACK = /^(?:127\.|::1$)/;

/**
 * `host:port`: of the port that is published, else of the container in one of its networks.
 * @param machine where the engine is, when that is not this machine: what is at loopback there, or inside, is out of reach
 */
export function addressOf({ ports, networks }: Found, port: number, machine?: string): string | undefined {
  const hosts = ports.flatMap(({ containerPort, protocol, hostAddress, hostPort }) => {
    if (containerPort !== port || protocol !== 'tcp' || hostAddress === undefined || !hostPort) return [];
    if (machine === undefined) return written(EVERY_ADDRESS[hostAddress] ?? hostAddress, hostPort);
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
  return port === undefined ? `name the port of its container, such as service://${name}:8080` : undefined;
}

interface MutableStay extends Stay {
  isOver: boolean;
}

let stays = 0;

export class LedPlace implements Place {
  readonly #target: ServiceTarget;
  readonly #machine: string | undefined;
  stay: MutableStay | undefined;
  reason = 'where the service is, is not known yet';

  constructor(target: ServiceTarget, machine: string | undefined) {
    this.#target = target;
    this.#machine = machine;
  }

  leadTo(led: Led | undefined, found: Found | undefined, reason: string): void {
    const fault = targetFault(this.#target, led);
    if (fault !== undefined || !led) this.leave(fault ?? reason);
    else if ('url' in led) this.#arrive(led.url, new URL(led.url).host, led.url);
    else if (!found) this.leave(reason);
    else this.#leadInto(found);
  }

  /** Whoever waits to connect is told. */
  leave(reason: string): void {
    if (this.stay) this.stay.isOver = true;
    this.stay = undefined;
    this.reason = reason;
  }

  #leadInto(found: Found): void {
    const { name, port = 0 } = this.#target;
    const address = addressOf(found, port, this.#machine);
    if (address !== undefined) this.#arrive(`http://${address}`, `${name}:${port}`, found.id);
    else
      this.leave(
        this.#machine === undefined
          ? `the service ${name} is in no network and port ${port} is not published`
          : `port ${port} of the service ${name} is not published at an address of ${this.#machine} that others reach`,
      );
  }

  /** @param whose what it is there, so that another one at the same address is a move too */
  #arrive(url: string, host: string, whose: string): void {
    if (this.stay?.url === url && this.stay.key.startsWith(`${whose} `)) return;
    this.leave('');
    this.stay = { url, host, key: `${whose} ${++stays}`, isOver: false };
  }
}
