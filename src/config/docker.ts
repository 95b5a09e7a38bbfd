/** Where the container engine is, and its broker. */
import { z } from 'zod';

const MAX_TEXT = 500;
/** Of Linux; sockets have short paths. */
const MAX_SOCKET = 107;
const MAX_GROUP = 4_294_967_294;

const file = (what: string) => z.string().min(1).max(MAX_TEXT).optional().describe(what);

export const dockerSchema = z
  .strictObject({
    socket: z
      .string()
      .min(1)
      .default('/var/run/docker.sock')
      .describe('Unix socket of the container engine, Docker or Podman'),
    host: z
      .string()
      .max(MAX_TEXT)
      .regex(
        /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]):[0-9]{1,5}$/,
        'has to be a host and a port such as engine.example.internal:2376',
      )
      .optional()
      .describe('In the place of socket, an engine elsewhere by TLS with certificates on both sides'),
    ca_file: file('PEM file of the authority that signed the certificate of host'),
    cert_file: file('PEM file of the certificate that this system shows to host'),
    key_file: file('PEM file of its key'),
  })
  .check(({ value, issues }) => {
    for (const key of ['ca_file', 'cert_file', 'key_file'] as const)
      if ((value[key] === undefined) !== (value.host === undefined))
        issues.push({
          code: 'custom',
          input: value,
          path: [key],
          message: value.host === undefined ? 'is for host, which is not set' : 'is needed with host',
        });
  })
  .prefault({});

export const brokerSchema = z
  .strictObject({
    socket: z
      .string()
      .regex(/^\/[^\0]+$/, 'has to be an absolute path')
      .max(MAX_SOCKET)
      .optional()
      .describe(
        'Unix socket of ohp broker. The server asks there, and docker and services count in the settings of the broker only; absent: the server uses the engine itself',
      ),
    group: z
      .int()
      .min(0)
      .max(MAX_GROUP)
      .optional()
      .describe(
        'For ohp broker: number of the group that may use its socket too (mode 0660); absent: its own user alone (0600)',
      ),
  })
  .prefault({});

const THIS_MACHINE = /^(?:localhost|127\..*|::1)$/;

/**
 * Where the engine is, when that is not this machine: it has other ports, and its loopback is out of reach. A broker is on
 * this machine, and has an engine of its own.
 */
export function engineMachine({
  docker,
  broker,
}: {
  docker: { host?: string | undefined };
  broker: { socket?: string | undefined };
}): string | undefined {
  if (docker.host === undefined || broker.socket !== undefined) return undefined;
  const host = docker.host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return THIS_MACHINE.test(host) ? undefined : host;
}
