/** What each client address has at the moment, over all its connections, so that no single one takes everything. */
import { rateKey } from './client-address.ts';

export interface AddressUse {
  connections: number;
  /** That are being answered. */
  requests: number;
}

export class AddressUses {
  readonly #uses = new Map<string, AddressUse>();

  /** Of the address and of what counts as the same client. An address without connections has a new one each time. */
  of(address: string): AddressUse {
    return this.#uses.get(rateKey(address)) ?? { connections: 0, requests: 0 };
  }

  connected(address: string): void {
    const use = this.of(address);
    use.connections++;
    this.#uses.set(rateKey(address), use);
  }

  disconnected(address: string): void {
    const use = this.of(address);
    if (--use.connections <= 0) this.#uses.delete(rateKey(address));
  }

  get size(): number {
    return this.#uses.size;
  }
}
