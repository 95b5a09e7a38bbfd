/** Which server a command talks to, with which token, trusting which CA. */
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { AppError, messageOf } from '../../core/errors.ts';
import type { Server } from './client.ts';
import { readCredentials } from './credentials.ts';
import type { CliIo } from './io.ts';

const DEFAULT_URL = 'https://localhost:8443';
const DEFAULT_DATA_DIR = './data';
const CA_FILE = 'ca.pem';

export interface ConnectionOptions {
  url?: string;
  caFile?: string;
}

export function addConnectionOptions(command: Command): Command {
  return command
    .addOption(new Option('--url <url>', 'the control host (OHP_URL; else the last login)'))
    .addOption(new Option('--ca-file <path>', 'CA certificate to trust, PEM (OHP_CA_FILE)'));
}

export async function resolveServer(
  options: ConnectionOptions,
  io: CliIo,
  { anonymous = false } = {},
): Promise<Server> {
  const { env } = io;
  const text = options.url ?? env.OHP_URL;
  const stored = text === undefined || env.OHP_TOKEN === undefined ? readCredentials(io) : { tokens: {} };
  const url = parseUrl(text ?? stored.current ?? DEFAULT_URL);
  const kept = Object.hasOwn(stored.tokens, url.origin) ? stored.tokens[url.origin] : undefined;
  const token = anonymous ? undefined : (env.OHP_TOKEN ?? kept);
  if (url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new AppError('INVALID_INPUT', `${url.origin}: a token would travel in clear; use https://`);
  return { url, token, ca: readCa(options, url, io) };
}

function parseUrl(text: string): URL {
  const url = URL.parse(text);
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    throw new AppError('INVALID_INPUT', 'url: has to be the control host, such as https://localhost:8443');
  if (
    url.username !== '' ||
    url.password !== '' ||
    url.pathname !== '/' ||
    url.search !== '' ||
    url.hash !== ''
  )
    throw new AppError(
      'INVALID_INPUT',
      'url: has to be scheme, host and port only, such as https://localhost:8443',
    );
  return url;
}

/** The CA that a server in this directory has just made is trusted for this machine only. */
function readCa({ caFile }: ConnectionOptions, url: URL, { env, cwd }: CliIo): string | undefined {
  const named = caFile ?? env.OHP_CA_FILE;
  if (named !== undefined) return readPem(resolve(cwd, named));
  const own = resolve(cwd, env.OHP_DATA_DIR ?? DEFAULT_DATA_DIR, CA_FILE);
  return isLoopback(url.hostname) && existsSync(own) ? readPem(own) : undefined;
}

function readPem(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AppError('INVALID_INPUT', `ca-file: ${messageOf(cause)}`, { cause });
  }
}

/** `.localhost` resolves to this machine by definition. @see {@link https://www.rfc-editor.org/rfc/rfc6761#section-6.3 | RFC 6761 §6.3} */
function isLoopback(hostname: string): boolean {
  if (hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '[::1]') return true;
  return isIP(hostname) === 4 && hostname.startsWith('127.');
}
