/**
 * `subscriptions/listen` of the modern era: streams that stay open until the client goes, its credential ends or the
 * process stops. Each has an SDK handler of its own, so that it can be told something, and ended with its result,
 * without the others. Called by `modern.ts`. @see MCP 2026-07-28, Subscriptions
 */
import type { Clock } from '../../core/clock.ts';
import type { Exchange } from '../../core/exchange.ts';
import type { Scope } from './calls.ts';
import { EVENT_HEADERS, type Streams } from './event-stream.ts';
import type { Principal } from '../../core/principal.ts';
import { ListNews } from './list-news.ts';
import { isRecord } from './message.ts';
import { sendJson } from './reply.ts';
import { type Follower, MAX_FOLLOWED } from './resources.ts';
import { createSdkHandler, type SdkHandler, type SdkHandlerParts } from './sdk-handler.ts';
import { isEventStream, pump } from './web-response.ts';
import { holderOf } from './sessions.ts';
import type { View } from './views.ts';

export const SUBSCRIBE = 'subscriptions/listen';

interface SubscriptionParts extends SdkHandlerParts {
  readonly streams: Streams;
  readonly clock: Clock;
}

interface Subscription {
  readonly holder: string;
  readonly principal: Principal;
  readonly sdk: SdkHandler;
  readonly news: ListNews;
  /** Resources that it asked for. */
  readonly uris: readonly string[];
}

export class Subscriptions {
  readonly #parts: SubscriptionParts;
  readonly #open = new Map<string, Set<Subscription>>();

  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
  }

  /** Resolves when it has ended. @throws AppError when there is no room for another stream. */
  async serve(body: unknown, scope: Scope): Promise<void> {
    const { streams } = this.#parts;
    const { exchange, principal, facts } = scope;
    const { caller } = exchange.gate;
    streams.requireRoom(caller);
    const cut = new AbortController();
    // The handler keeps it alive, and ends it by its own `close`.
    const entry = { caller, isStanding: false, close: () => cut.abort(), comment: () => {} };
    const untrack = streams.track(principal, entry);
    const subscription = this.#make(scope, urisIn(body));
    this.#list(subscription);
    try {
      const signal = AbortSignal.any([exchange.signal, cut.signal]);
      const response = await subscription.sdk.fetch(body, scope, signal);
      if (!response.ok) facts.outcome = response.status >= 500 ? 'INTERNAL' : 'INVALID_INPUT';
      await send(response, exchange);
    } finally {
      untrack();
      this.#unlist(subscription);
    }
  }

  /** A request of this principal would list these tools. */
  compare(principalId: string, view: View): void {
    for (const { news } of this.#open.get(principalId) ?? []) news.compare(view);
  }

  tellAll(): void {
    for (const subscription of this.#all()) subscription.sdk.notify.toolsChanged();
  }

  /** What is followed, by whom. */
  followed(): Follower[] {
    return this.#all().flatMap(({ holder, principal, sdk, uris }) =>
      uris.map((uri) => ({ holder, uri, principal, tell: () => sdk.notify.resourceUpdated(uri) })),
    );
  }

  async end(): Promise<void> {
    await Promise.all(this.#all().map(({ sdk }) => sdk.close()));
  }

  #make({ principal, view, exchange }: Scope, uris: readonly string[]): Subscription {
    const sdk = createSdkHandler(this.#parts);
    const tell = () => {
      sdk.notify.toolsChanged();
      return true;
    };
    const news = new ListNews({ clock: this.#parts.clock, tell, has: view });
    return { holder: holderOf(principal, exchange.gate.caller), principal, sdk, news, uris };
  }

  #list(subscription: Subscription): void {
    const own = this.#open.get(subscription.principal.id) ?? new Set();
    this.#open.set(subscription.principal.id, own.add(subscription));
  }

  #unlist(subscription: Subscription): void {
    const own = this.#open.get(subscription.principal.id);
    own?.delete(subscription);
    if (own?.size === 0) this.#open.delete(subscription.principal.id);
  }

  #all(): Subscription[] {
    return [...this.#open.values()].flatMap((own) => [...own]);
  }
}

/** The SDK says what is wrong with a body that is none. */
function urisIn(body: unknown): string[] {
  const params = isRecord(body) ? body.params : undefined;
  const wanted = isRecord(params) ? params.notifications : undefined;
  const uris = isRecord(wanted) ? wanted.resourceSubscriptions : undefined;
  const texts = Array.isArray(uris) ? uris.filter((uri) => typeof uri === 'string') : [];
  return [...new Set(texts)].slice(0, MAX_FOLLOWED);
}

async function send(response: Response, exchange: Exchange): Promise<void> {
  if (!isEventStream(response)) return sendJson(exchange, response.status, await response.text());
  exchange.reply.writeHead(response.status, EVENT_HEADERS);
  await pump(response, exchange);
}
