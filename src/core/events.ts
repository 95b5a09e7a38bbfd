/** News between nouns that must not know each other. Listeners run at once, in the order they were added. */
export interface EventMap {
  'proxy.changed': { hostnames: readonly string[] };
  'route.changed': { hostnames: readonly string[] };
  'certificate.ready': { id: string; names: readonly string[] };
  /** An attempt to order one; it is tried again. */
  'certificate.failed': { order: string; names: readonly string[] };
  'certificate.removed': { id: string; names: readonly string[] };
  /** One was raised, is over or was acknowledged; without hostnames it is about none in particular. */
  'alert.changed': { hostnames: readonly string[] };
  'token.revoked': { tokenId: string };
  /** One access token, before it expired; its grant goes on. */
  'access-token.revoked': { tokenId: string };
  'grant.ended': { grantId: string; userId: string; clientId: string };
  /** What is known of a user is different from now on, or they are gone. */
  'user.changed': { userId: string };
  /** What was opened with a user's rights ends; `signedOut`: their browser sessions too. */
  'user.cut': { userId: string; signedOut: boolean };
}

export type EventName = keyof EventMap;

export interface Events {
  on<Name extends EventName>(name: Name, listener: (news: EventMap[Name]) => void): () => void;
  emit<Name extends EventName>(name: Name, news: EventMap[Name]): void;
}

export function createEvents(): Events {
  const listeners = new Map<EventName, Set<(news: never) => void>>();
  return {
    on(name, listener) {
      const set = listeners.get(name) ?? new Set();
      listeners.set(name, set.add(listener));
      return () => void set.delete(listener);
    },
    emit(name, news) {
      for (const listener of listeners.get(name) ?? []) listener(news as never);
    },
  };
}
