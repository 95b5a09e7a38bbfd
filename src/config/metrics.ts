/** Where metrics are told, besides the control hosts. */
import { isIP } from 'node:net';
import { z } from 'zod';

const MAX_PORT = 65_535;
/** `[::1]:9464` or `127.0.0.1:9464`. */
const LISTEN = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/;

/** Undefined: it can't be read. */
export function parseListen(text: string): { address: string; port: number } | undefined {
  const [, six, four, digits] = LISTEN.exec(text) ?? [];
  const address = six ?? four ?? '';
  const port = Number(digits);
  return isIP(address) === (six === undefined ? 4 : 6) && port <= MAX_PORT ? { address, port } : undefined;
}

export const metricsSchema = z
  .strictObject({
    listen: z
      .string()
      .refine(
        (text) => parseListen(text) !== undefined,
        'has to be an IP address of this machine and a port, such as 127.0.0.1:9464 or [::1]:9464',
      )
      .optional()
      .describe(
        'Address and port of a listener of their own for metrics, in plain HTTP; absent: GET /metrics on the control hosts only',
      ),
    access: z
      .enum(['open', 'token'])
      .optional()
      .describe(
        'Who may read them there: anyone who reaches it, or who sends an API token with metrics:read; absent: open on an address of loopback or of a private network, token on any other',
      ),
  })
  .prefault({});
