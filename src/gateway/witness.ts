/**
 * Who answered a request of this process to its own listener, as the gateway itself knows it: what a reply says of that
 * its target could say as well. A request is known by both ends of its connection, which no program can have twice.
 */
import type { Transit } from './transit.ts';

/** `gateway`: neither of the two, or no such request came. */
export type AnsweredBy = 'target' | 'protection' | 'gateway';

export interface Watch extends Disposable {
  /** Of the request that came by the connection, once its reply has begun. */
  answeredBy(): AnsweredBy;
}

/** The other end of a connection, as its owner sees it. */
export interface End {
  readonly address: string;
  readonly port: number;
}

const keyOf = ({ address, port }: End): string => `${address} ${port}`;

export class Witnesses {
  readonly #watched = new Map<string, Transit | undefined>();

  /** To be called before the request is sent. */
  watch(end: End): Watch {
    const key = keyOf(end);
    this.#watched.set(key, undefined);
    return {
      answeredBy: () => answeredBy(this.#watched.get(key)),
      [Symbol.dispose]: () => void this.#watched.delete(key),
    };
  }

  sees(transit: Transit): void {
    if (this.#watched.size === 0) return;
    const { remotePort: port } = transit.request.socket;
    const key = keyOf({ address: transit.peer.address, port: port ?? 0 });
    if (this.#watched.has(key)) this.#watched.set(key, transit);
  }
}

function answeredBy(transit: Transit | undefined): AnsweredBy {
  if (!transit?.match) return 'gateway';
  if (transit.isAuthorised) return transit.isRefused ? 'gateway' : 'target';
  return transit.match.auth.kind === 'none' ? 'gateway' : 'protection';
}
