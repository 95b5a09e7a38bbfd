/**
 * The authorization server: one `oidc-provider` for each issuer URL under which the control host is reached, all on
 * the same records and keys. Takes an `Exchange` whose path is below `/oauth/` or one of the discovery documents;
 * `paths.ts` says which. Not the gate for tokens (`access-tokens.ts`), and not who someone is (`users/`).
 */
import type Provider from 'oidc-provider';
import type { Exchange } from '../core/exchange.ts';
import { noMeter, type OAuthMeter } from '../core/meter.ts';
import { answerWith, hold } from './bridge.ts';
import { countOn } from './counted.ts';
import { DevicePolls } from './device-polls.ts';
import { methodsOf } from './endpoints.ts';
import { adjust, polledCode } from './forms.ts';
import type { KeyRing } from './keys.ts';
import { openPaths, plainPath } from './paths.ts';
import type { ProviderOptions } from './provider.ts';

/** URLs under which one host is reached; the one that was asked for longest ago makes room. */
const MAX_ISSUERS = 16;

export type Middleware = Parameters<Provider['use']>[0];

export interface ServerOptions extends Omit<ProviderOptions, 'issuer' | 'keys'> {
  readonly keys: KeyRing;
  /** Before the library: sign-in, consent, limits on registration, defaults. */
  readonly middleware: (provider: Provider) => readonly Middleware[];
  /** Whether this is a URL under which the control host is served. */
  readonly isIssuer: (issuer: string) => boolean;
  /** Absent: nothing is counted. */
  readonly meter?: OAuthMeter | undefined;
}

export class AuthorizationServer {
  readonly #options: ServerOptions;
  readonly #providers = new Map<string, Promise<Provider>>();
  readonly #polls: DevicePolls;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#polls = new DevicePolls(options.records.clock);
  }

  async handle(exchange: Exchange, issuer: string): Promise<void> {
    const path = plainPath(exchange.path);
    const methods = methodsOf(exchange.path);
    if (openPaths.has(path)) allowEveryOrigin(exchange);
    if (methods && !methods.includes(exchange.method)) return refuseMethod(exchange, methods);
    if (methods && exchange.method === 'OPTIONS') return answerPreflight(exchange);
    const held = await hold(exchange, path);
    const type = exchange.headers['content-type'];
    const polled = polledCode(held, type);
    if (polled !== undefined && this.#polls.isTooSoon(polled)) return answerTooSoon(exchange);
    const respond = (await this.provider(issuer)).callback();
    await answerWith((request, response) => respond(request, response), exchange, adjust(held, type));
  }

  /** The library is loaded when it is first asked for: a start needs none of it. */
  provider(issuer: string): Promise<Provider> {
    const known = this.#providers.get(issuer);
    if (known) return known;
    if (!this.#options.isIssuer(issuer)) throw new Error(`${issuer} is no issuer of this server`);
    const [oldest] = this.#providers.keys();
    if (this.#providers.size >= MAX_ISSUERS && oldest !== undefined) this.#providers.delete(oldest);
    const made = this.#make(issuer);
    this.#providers.set(issuer, made);
    return made;
  }

  async #make(issuer: string): Promise<Provider> {
    const { createProvider } = await import('./provider.ts');
    const { keys, middleware, meter = noMeter, ...rest } = this.#options;
    const provider = createProvider({ ...rest, issuer, keys: keys.keys });
    for (const one of middleware(provider)) provider.use(one);
    countOn(provider, meter);
    return provider;
  }

  /** The keys have changed: what is asked from now on is answered with the new ones. */
  renew(): void {
    this.#providers.clear();
  }
}

function allowEveryOrigin({ reply, headers }: Exchange): void {
  if (headers.origin === undefined) return;
  reply.setHeader('access-control-allow-origin', '*');
  reply.setHeader('access-control-expose-headers', 'WWW-Authenticate, DPoP-Nonce');
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-15.5.6 | RFC 9110 §15.5.6} */
function refuseMethod(exchange: Exchange, methods: readonly string[]): void {
  exchange.reply.setHeader('allow', methods.join(', '));
  const error_description = `only ${methods.join(', ')} is answered here`;
  answerError(exchange, 405, { error: 'invalid_request', error_description });
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc8628#section-3.5 | RFC 8628 §3.5} */
function answerTooSoon(exchange: Exchange): void {
  const error_description = 'wait 5 seconds longer between two of these requests';
  answerError(exchange, 400, { error: 'slow_down', error_description });
}

function answerError({ reply, method }: Exchange, status: number, fault: object): void {
  const body = JSON.stringify(fault);
  reply.setHeader('content-type', 'application/json; charset=utf-8');
  reply.setHeader('cache-control', 'no-store');
  reply.setHeader('content-length', String(Buffer.byteLength(body)));
  reply.writeHead(status);
  reply.end(method === 'HEAD' ? undefined : body);
}

function answerPreflight({ reply }: Exchange): void {
  reply.setHeader('access-control-allow-methods', 'GET, POST, PUT, DELETE, OPTIONS');
  reply.setHeader('access-control-allow-headers', 'authorization, content-type, dpop, mcp-protocol-version');
  reply.setHeader('access-control-max-age', '600');
  reply.writeHead(204);
  reply.end();
}
