/**
 * A listener of its own for metrics, in plain HTTP, for scrapers on this machine or on a private network. It answers
 * `GET /metrics` and nothing else, and is no part of the gateway: no hostname, no route and no limit of clients there counts
 * here, so that a busy gateway can still be looked at.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { parseHostname } from '../core/hostname.ts';
import { bearerIn } from '../core/bearer.ts';
import { type Clock, SECOND } from '../core/clock.ts';
import { authorise } from '../core/dispatch.ts';
import { errorSurface, toAppError } from '../core/errors.ts';
import { anonymous, type Principal } from '../core/principal.ts';
import { METRICS_PATH, metricsGate } from './endpoint.ts';
import { contentTypes, formatFor } from './exposition.ts';
import type { MetricsService } from './service.ts';

/** Scrapers keep one connection each. */
const MAX_CONNECTIONS = 32;
const MAX_HEAD_BYTES = 16 * 1024;
const HEAD_TIMEOUT_MS = 10 * SECOND;
const IDLE_TIMEOUT_MS = 120 * SECOND;
/** A reader that takes nothing for as long is let go. */
const SILENCE_MS = 30 * SECOND;

export interface ListenerOptions {
  readonly address: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** Whoever reaches it may read. */
  readonly isOpen: boolean;
  /** Canonical hostnames that a reader may call it by, besides addresses and names without a dot. */
  readonly hosts: readonly string[];
  readonly metrics: Pick<MetricsService, 'text'>;
  readonly clock: Clock;
  /** The principal of an API token. */
  readonly authenticate: (credential: string) => Principal | undefined;
}

export interface MetricsListener extends AsyncDisposable {
  readonly address: AddressInfo;
}

/** @throws what listening failed with. */
export async function openMetricsListener(options: ListenerOptions): Promise<MetricsListener> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEAD_BYTES,
      headersTimeout: HEAD_TIMEOUT_MS,
      requestTimeout: HEAD_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      insecureHTTPParser: false,
    },
    (request, response) => {
      answer(options, request, response).catch(() => response.destroy());
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.setTimeout(SILENCE_MS);
  const address = await listening(server, options);
  return {
    address,
    async [Symbol.asyncDispose]() {
      const { promise, resolve } = Promise.withResolvers<void>();
      server.close(() => resolve());
      server.closeAllConnections();
      await promise;
    },
  };
}

function listening(server: Server, { address, port }: ListenerOptions): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: address, port }, () => {
      server.off('error', reject);
      // A server that listens on a port has an address of this form.
      resolve(server.address() as AddressInfo);
    });
  });
}

async function answer(
  options: ListenerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  request.resume();
  const { method, headers } = request;
  const refusal = refusalOf(options, request);
  if (refusal) {
    const { status, message, more } = refusal;
    send(response, status, { 'content-type': 'text/plain; charset=utf-8', ...more }, `${message}\n`);
    return;
  }
  const format = formatFor(headers.accept);
  const text = await options.metrics.text(format);
  send(response, OK, { 'content-type': contentTypes[format], vary: 'Accept' }, method === 'HEAD' ? '' : text);
}

const OK = 200;

function send(
  response: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string>>,
  text: string,
): void {
  response.writeHead(status, {
    ...headers,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(text);
}

interface Refused {
  readonly status: number;
  readonly message: string;
  readonly more?: Readonly<Record<string, string>>;
}

function refusalOf(
  options: ListenerOptions,
  { url = '', method, headers }: IncomingMessage,
): Refused | undefined {
  const refused = options.isOpen ? foreignName(options, headers) : wrongToken(options, headers.authorization);
  if (refused) return refused;
  const [path] = url.split('?');
  if (path !== METRICS_PATH) return { status: 404, message: `Only ${METRICS_PATH} is served here.` };
  if (method !== 'GET' && method !== 'HEAD')
    return { status: 405, message: 'Only GET is served here.', more: { allow: 'GET, HEAD' } };
  return undefined;
}

/**
 * Where everybody may read, a page in a browser on the same network must not: it can make its own name lead here, and that
 * name has a dot (incident 3). It says so in `Host`, or tells where it is from.
 */
function foreignName(
  { hosts }: ListenerOptions,
  { host = '', origin }: IncomingMessage['headers'],
): Refused | undefined {
  const bare = host.replace(/:\d{1,5}$/, '').replace(/^\[(.*)\]$/, '$1');
  const name = parseHostname(bare);
  const isOurs = isIP(bare) !== 0 || (name !== undefined && (!name.includes('.') || hosts.includes(name)));
  if (isOurs && origin === undefined) return undefined;
  return {
    status: 421,
    message:
      'Ask by an address, a name without a dot or a control host; for other names set metrics.access to token.',
  };
}

function wrongToken({ authenticate, clock }: ListenerOptions, authorization = ''): Refused | undefined {
  const credential = bearerIn(authorization);
  try {
    const principal = (credential === undefined ? undefined : authenticate(credential)) ?? anonymous;
    authorise(metricsGate, principal, clock.now(), undefined);
    return undefined;
  } catch (cause) {
    const { code, message } = toAppError(cause);
    const error = code === 'FORBIDDEN' ? ' error="insufficient_scope", scope="metrics:read"' : '';
    return { status: errorSurface[code].status, message, more: { 'www-authenticate': `Bearer${error}` } };
  }
}
