/**
 * The URL of a target, as it is written: of a proxy, of a route, of one target among several. `service://blog:8080/path`
 * names a service and a port of its container, `service://api` a service that is a URL elsewhere; where that is, is
 * `services/addresses.ts`'s to know.
 */
import { z } from 'zod';
import { isTargetName } from '../core/service-name.ts';

const MAX_URL = 2048;
const MAX_PORT = 65_535;
const SERVICE = 'service://';
/** One spelling only: what is compared as text is the same then. */
const SERVICE_URL = /^service:\/\/([^/:?#@]+)(?::([1-9]\d{0,4}))?(\/[^?#]*)?$/;

export const targetUrl = z
  .string()
  .max(MAX_URL)
  .refine((text) => targetFault(text) === undefined, {
    error: ({ input }) =>
      `has to be an http:// or https:// URL such as http://localhost:3000, or a service such as service://blog:8080: ${targetFault(String(input)) ?? ''}`,
  });

/** `URL` takes out line ends and reads a backslash as a slash: then people and programs would read two targets. */
const READ_DIFFERENTLY = /[\p{Cc}\s\\]/u;

function targetFault(text: string): string | undefined {
  if (READ_DIFFERENTLY.test(text)) return 'a space, a control character or a backslash does not belong in it';
  if (text.startsWith(SERVICE)) return serviceFault(text);
  const url = URL.parse(text);
  if (!url) return 'it is not a URL';
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `the scheme is ${url.protocol}`;
  if (url.username !== '' || url.password !== '') return 'a user name or password does not belong in it';
  if (url.hash !== '' || url.search !== '') return 'a query or fragment does not belong in it';
  return undefined;
}

function serviceFault(text: string): string | undefined {
  const [, name = '', port = '1'] = SERVICE_URL.exec(text) ?? [];
  if (name === '' || Number(port) > MAX_PORT)
    return 'it has to be service://, the name of a service, and :port of its container where it is one';
  return isTargetName(name) ? undefined : `${JSON.stringify(name)} can't be the name of a service`;
}

/** A service as a target names it. */
export interface ServiceTarget {
  readonly name: string;
  /** Of the container; undefined for a service that is a URL. */
  readonly port: number | undefined;
}

/** Undefined: the target is a URL of its own. */
export function serviceOf(target: string): ServiceTarget | undefined {
  if (!target.startsWith(SERVICE)) return undefined;
  const [, name = '', port] = SERVICE_URL.exec(target) ?? [];
  return { name, port: port === undefined ? undefined : Number(port) };
}

/** Who is asked: the same for targets that differ in their paths only. `URL` knows no origin of a service. */
export function originOf(target: string): string {
  const service = serviceOf(target);
  if (!service) return new URL(target).origin;
  return `${SERVICE}${service.name}${service.port === undefined ? '' : `:${service.port}`}`;
}

/** One text for the same target. */
export const normalTarget = (target: string): string => {
  const { href } = new URL(target);
  return serviceOf(target) && originOf(target) === href ? `${href}/` : href;
};

/** Where a service is reached, for as long as it is there: after every move it is another one. */
export interface Stay {
  /** Absolute; its path comes before the target's. */
  readonly url: string;
  /** What it is called as a host. */
  readonly host: string;
  /** No other ever has it. */
  readonly key: string;
  /** It is there no more: nobody may connect. */
  readonly isOver: boolean;
}

/** What is known of where a service is; follows it. */
export interface Place {
  /** Undefined: nowhere. Of a service with replicas the same one for as long as it is there. */
  readonly stay: Stay | undefined;
  /** Of a service with replicas: all of them. */
  readonly stays?: readonly Stay[];
  /** Of a service with replicas: where the next request goes, in turn. */
  next?(): Stay | undefined;
  /** Why it is nowhere. */
  readonly reason: string;
}

/** Port to where services are; its answers come from memory. */
export interface Whereabouts {
  placeOf(target: ServiceTarget): Place;
  /** Services that are led to from now on, and no others. */
  follow(targets: readonly ServiceTarget[]): void;
}

export const noServices: Whereabouts = {
  placeOf: () => ({ stay: undefined, reason: 'there are no services here' }),
  follow: () => {},
};

export const staysOf = ({ stay, stays = stay ? [stay] : [] }: Place): readonly Stay[] => stays;
