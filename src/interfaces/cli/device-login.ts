/**
 * Signing in where there is no browser: a code is shown here and typed into a browser anywhere.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8628#section-3 | RFC 8628 §3}
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import { CLI_CLIENT_ID } from '../../core/own-client.ts';
import { cleanText } from '../../core/untrusted.ts';
import { postForm, type Server } from './client.ts';
import type { CliIo } from './io.ts';
import { discover, type Metadata, pathOf, type Tokens, tokensIn } from './session.ts';

const GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const MS_PER_SECOND = 1000;
/** §3.2 and §3.5: where the answer names no interval, and by how much it grows. */
const INTERVAL_SECONDS = 5;
const MAX_TEXT = 2048;

const deviceSchema = z.looseObject({
  device_code: z.string().min(1).max(MAX_TEXT),
  user_code: z.string().min(1).max(MAX_TEXT),
  verification_uri: z.url({ protocol: /^https?$/ }).max(MAX_TEXT),
  expires_in: z.number().positive(),
  interval: z.number().nonnegative().default(INTERVAL_SECONDS),
});
type Device = z.output<typeof deviceSchema>;

/** @throws AppError FORBIDDEN when the person said no, TIMEOUT when nobody said anything. */
export async function loginByDevice(server: Server, scope: string, io: CliIo): Promise<Tokens> {
  const metadata = await discover(server, io.signal);
  const device = await begin(server, metadata, scope, io.signal);
  io.stderr.write(
    `Open ${cleanText(device.verification_uri)}\nand enter the code ${cleanText(device.user_code)}\n`,
  );
  return wait(server, metadata, device, io.signal);
}

async function begin(
  server: Server,
  { device_authorization_endpoint }: Metadata,
  scope: string,
  signal: AbortSignal,
): Promise<Device> {
  const form = { client_id: CLI_CLIENT_ID, scope, resource: `${server.url.origin}/mcp` };
  const { status, answer } = await postForm(server, pathOf(device_authorization_endpoint), form, signal);
  const device = deviceSchema.safeParse(answer);
  if (status === 200 && device.success) return device.data;
  throw new AppError('UPSTREAM_FAILED', `${server.url.origin} began no sign-in: ${faultIn(answer)}`);
}

async function wait(
  server: Server,
  metadata: Metadata,
  { device_code, expires_in, interval }: Device,
  signal: AbortSignal,
): Promise<Tokens> {
  const form = { grant_type: GRANT, device_code, client_id: CLI_CLIENT_ID };
  const deadline = Date.now() + expires_in * MS_PER_SECOND;
  let seconds = interval;
  while (Date.now() < deadline) {
    await sleep(seconds * MS_PER_SECOND, undefined, { signal });
    const { status, answer } = await postForm(server, pathOf(metadata.token_endpoint), form, signal);
    if (status === 200) return tokensIn(answer, metadata, Date.now());
    switch (codeIn(answer)) {
      case 'authorization_pending':
        break;
      case 'slow_down':
        seconds += INTERVAL_SECONDS;
        break;
      case 'access_denied':
        throw new AppError('FORBIDDEN', 'it was not allowed; nothing was kept');
      case undefined:
      default:
        throw new AppError('UPSTREAM_FAILED', `the sign-in failed: ${faultIn(answer)}`);
    }
  }
  throw new AppError('TIMEOUT', 'nobody entered the code in time; nothing was kept');
}

const errorSchema = z.looseObject({ error: z.string(), error_description: z.string().optional() });

const codeIn = (answer: unknown): string | undefined => errorSchema.safeParse(answer).data?.error;

function faultIn(answer: unknown): string {
  const { error = 'no reason was given', error_description } = errorSchema.safeParse(answer).data ?? {};
  return cleanText(error_description === undefined ? error : `${error}: ${error_description}`);
}
