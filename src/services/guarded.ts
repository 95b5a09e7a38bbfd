/**
 * Ports that not everybody may reach. The engine publishes them to this machine only, at a number of their own; who may come
 * is decided by whoever opens the listeners, in front of it. They are open while the service runs, and closed otherwise.
 */
import { AppError, messageOf } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import { canonicalAddress, portTaken, toldPort } from './claims.ts';
import type { ServiceRecord } from './record.ts';
import type { KeptPort } from './schema.ts';

/** What stands in front of them: the gateway's, which knows nothing of services. */
export interface PortGuards {
  /** These and no others of the service are open; nothing happens where they are already. */
  open(service: GuardedService): Promise<void>;
  close(serviceId: string): void;
}

interface GuardedService {
  id: string;
  name: string;
  ports: {
    address: string;
    port: number;
    targetPort: number;
    sources: readonly string[] | undefined;
    permission: KeptPort['require_token'];
  }[];
}

/** Where the engine publishes them: nothing but this machine gets there. */
export const INNER_ADDRESS = '127.0.0.1';

export const isGuarded = ({ allow_sources, require_token }: KeptPort): boolean =>
  allow_sources !== undefined || require_token !== undefined;

export async function openGuards(guards: PortGuards, { id, name, settings }: ServiceRecord): Promise<void> {
  const ports = settings.ports.filter(isGuarded).map((port) => {
    // Given out with the record; without it nothing may be opened.
    if (port.inner_port === undefined)
      throw new AppError('INTERNAL', `a port of ${name} has no number inside`);
    return {
      address: canonicalAddress(port.host_address),
      port: port.host_port,
      targetPort: port.inner_port,
      sources: port.allow_sources,
      permission: port.require_token,
    };
  });
  try {
    await guards.open({ id, name, ports });
  } catch (cause) {
    throw cause instanceof AppError ? cause : notOpened(name, cause);
  }
}

function notOpened(name: string, cause: unknown): AppError {
  const facts: object = typeof cause === 'object' && cause !== null ? cause : {};
  const { code, address, port } = { code: '', address: '', port: 0, ...facts };
  const where = toldPort({ address, port, protocol: 'tcp' });
  if (code === 'EADDRINUSE') return portTaken(`${where} is used by something else on this machine`, port);
  return new AppError(
    'PRECONDITION_FAILED',
    `the guarded ports of ${name} can't be opened: ${cleanText(messageOf(cause))}`,
    { cause },
  );
}
