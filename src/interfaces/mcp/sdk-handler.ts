/** The SDK's handler of the modern era, given a request that the gate and this endpoint have read already. */
import { createMcpHandler, type McpHttpHandler } from '@modelcontextprotocol/server';
import type { Exchange } from '../../core/exchange.ts';
import type { Scope } from './calls.ts';
import { headerOf } from './legacy.ts';
import type { CreateSdkServer } from './sdk-server.ts';
import { KEEP_ALIVE_MS } from './settings.ts';

export interface SdkHandlerParts {
  readonly createServer: CreateSdkServer;
  readonly onError: (error: Error) => void;
}

export interface SdkHandler {
  readonly notify: McpHttpHandler['notify'];
  /** Also aborts when the client of `scope` is gone. */
  fetch(body: unknown, scope: Scope, signal?: AbortSignal): Promise<Response>;
  /** Ends subscriptions, each with its result, and aborts calls. */
  close(): Promise<void>;
}

export function createSdkHandler({ createServer, onError }: SdkHandlerParts): SdkHandler {
  const scopes = new WeakMap<Request, Scope>();
  const handler = createMcpHandler(
    ({ requestInfo }) => createServer('modern', () => scopeOf(scopes, requestInfo)),
    // How many subscriptions there may be is counted in `Streams`, together with all other streams.
    { legacy: 'reject', onerror: onError, keepAliveMs: KEEP_ALIVE_MS, maxSubscriptions: Infinity },
  );
  return {
    notify: handler.notify,
    async fetch(body, scope, signal = scope.exchange.signal) {
      const request = new Request('http://localhost/mcp', {
        method: 'POST',
        headers: headersOf(scope.exchange),
        signal,
      });
      scopes.set(request, scope);
      return handler.fetch(request, { parsedBody: body });
    },
    close: () => handler.close(),
  };
}

function scopeOf(scopes: WeakMap<Request, Scope>, request: Request | undefined): Scope {
  const scope = request && scopes.get(request);
  if (!scope) throw new Error('a handler runs for a request of this endpoint');
  return scope;
}

/** Never the credential: what handles the message has no use for it. */
const RELAYED = /^(?:accept|content-type|mcp-.*)$/;

const headersOf = (exchange: Exchange): [string, string][] =>
  Object.keys(exchange.headers)
    .filter((name) => RELAYED.test(name))
    .map((name) => [name, headerOf(exchange, name) ?? '']);
