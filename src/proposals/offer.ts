/** Reads the labels of a container. Pure. No value of a label that is not a hostname or a port gets any further. */
import { parseHostname } from '../core/hostname.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Container } from '../services/engine.ts';
import { addressOf } from '../services/whereabouts.ts';

export const HOSTNAME_LABEL = 'ohp.hostname';
export const PORT_LABEL = 'ohp.port';

/** Of 64 hexadecimal digits, as people know it. */
const ID_LENGTH = 12;
export const shownId = (id: string): string => cleanText(id).slice(0, ID_LENGTH);
const MAX_NAME = 128;
const MAX_IMAGE = 256;
const MAX_PORTS_TOLD = 10;
const PORT = /^[1-9]\d{0,4}$/;
const MAX_PORT = 65_535;

export interface Offer {
  readonly id: string;
  /** Of whoever came first. Milliseconds since 1970. */
  readonly createdAt: number;
  /** The label that names the hostname. */
  readonly label: string;
  readonly container: string;
  readonly name: string;
  readonly image: string;
  readonly hostname: string | undefined;
  /** Undefined: `problem` says why. */
  readonly target_url: string | undefined;
  /** Of the container, which leads to `target_url`. */
  readonly port: number | undefined;
  readonly problem: string | undefined;
}

/**
 * Undefined: it asks for nothing. What was made here does not ask, since nobody but its image could give it such a label,
 * and is led to by its name.
 * @param machine where the engine is, when that is not this machine
 */
export function offerOf(
  container: Container,
  machine: string | undefined,
  label: string = HOSTNAME_LABEL,
): Offer | undefined {
  const { id, createdAt, names, image, managed, proposals } = container;
  const wanted = proposals[label];
  if (managed || wanted === undefined) return undefined;
  const hostname = parseHostname(wanted);
  const place = placeOf(container, machine);
  return {
    id,
    createdAt,
    label,
    container: shownId(id),
    name: cleanText(names[0] ?? '', MAX_NAME),
    image: cleanText(image, MAX_IMAGE),
    hostname,
    target_url: 'address' in place ? `http://${place.address}` : undefined,
    port: 'address' in place ? place.port : undefined,
    problem:
      hostname === undefined
        ? `its label ${label} is not one hostname such as app.example.com`
        : 'problem' in place
          ? place.problem
          : undefined,
  };
}

function placeOf(
  { ports, proposals, replicas }: Container,
  machine: string | undefined,
): { address: string; port: number } | { problem: string } {
  if (replicas) return { problem: 'it is a service of a swarm: name where it answers by create_proxy' };
  const asked = proposals[PORT_LABEL];
  if (asked !== undefined && !(PORT.test(asked) && Number(asked) <= MAX_PORT))
    return { problem: `its label ${PORT_LABEL} is no port` };
  const reached = new Map<number, string>();
  for (const { containerPort } of ports) {
    // Not in its networks: there its address is another one after each start.
    const address = addressOf({ id: '', ports, networks: [], replicas: undefined }, containerPort, machine);
    if (address !== undefined) reached.set(containerPort, address);
  }
  const [port = 0, ...more] = asked === undefined ? reached.keys() : [Number(asked)];
  const address = reached.get(port);
  if (address !== undefined && more.length === 0) return { address, port };
  const told = [...reached.keys()].slice(0, MAX_PORTS_TOLD).join(', ');
  if (reached.size === 0)
    return {
      problem: `it publishes no TCP port ${machine === undefined ? 'on this machine' : `of ${machine} that others reach`}`,
    };
  return {
    problem:
      asked === undefined
        ? `it publishes the ports ${told}; a label ${PORT_LABEL} has to say which`
        : `it publishes ${told}, not the port of its label ${PORT_LABEL}`,
  };
}
