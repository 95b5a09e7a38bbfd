/** Which server a command talks to, with which token, trusting which CA. */
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { AppError, messageOf } from '../../core/errors.ts';
import type { Server } from './client.ts';
import { type Credentials, readCredentials, storeTokens } from './credentials.ts';
import type { CliIo } from './io.ts';
import { isStale, refresh } from './session.ts';

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
): Promise<Server & { caFile: string | undefined }> {
  const { OHP_URL, OHP_TOKEN, OHP_CA_FILE } = io.env;
  const [text, namedCa] = [options.url ?? OHP_URL, options.caFile ?? OHP_CA_FILE];
  // A file that nothing is needed from can't stand in the way.
  const isComplete = text !== undefined && OHP_TOKEN !== undefined && namedCa !== undefined;
  const kept = isComplete ? NOTHING : readCredentials(io);
  const url = parseUrl(text ?? kept.current ?? DEFAULT_URL);
  const trust = trustFor(url, namedCa ?? valueOf(kept.ca_files, url.origin) ?? ownCa(url, io), io);
  const server = { url, token: undefined, ...trust };
  return { ...server, token: anonymous ? undefined : (OHP_TOKEN ?? (await keptToken(server, kept, io))) };
}

const NOTHING: Credentials = { tokens: {}, ca_files: {}, sessions: {} };

/** Renewed where it has run out: a sign-in lasts longer than its tokens. */
async function keptToken(server: Server, kept: Credentials, io: CliIo): Promise<string | undefined> {
  const { origin } = server.url;
  const session = valueOf(kept.sessions, origin);
  if (!session || !isStale(session, Date.now())) return valueOf(kept.tokens, origin);
  const fresh = await refresh(server, session, io.signal);
  storeTokens(io, origin, fresh);
  return fresh.token;
}

/** An origin is text of a person, and no name of a property. */
export const valueOf = <Value>(record: Readonly<Record<string, Value>>, origin: string): Value | undefined =>
  Object.hasOwn(record, origin) ? record[origin] : undefined;

function trustFor({ protocol }: URL, caFile: string | undefined, { cwd }: CliIo) {
  if (caFile === undefined || protocol === 'http:') return { caFile: undefined, ca: undefined };
  const path = resolve(cwd, caFile);
  return { caFile: path, ca: readPem(path) };
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
  if (url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new AppError('INVALID_INPUT', `${url.origin}: a token would travel in clear; use https://`);
  return url;
}

/** The CA that a server in this directory has just made is trusted for this machine only. */
function ownCa(url: URL, { env, cwd }: CliIo): string | undefined {
  const own = resolve(cwd, env.OHP_DATA_DIR ?? DEFAULT_DATA_DIR, CA_FILE);
  return isLoopback(url.hostname) && existsSync(own) ? own : undefined;
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
