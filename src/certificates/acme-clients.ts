/** One client for each CA that is asked, opened when it is. */
import type { Clock } from '../core/clock.ts';
import { type AcmeClient, openAcmeClient } from './acme/client.ts';
import type { Issuer } from './issuers.ts';

export interface AcmeClientsOptions {
  clock: Clock;
  /** Tests and simulations have their own CA. */
  openClient?: ((issuer: Issuer) => AcmeClient) | undefined;
}

export class AcmeClients implements AsyncDisposable {
  readonly #options: AcmeClientsOptions;
  readonly #clients = new Map<string, AcmeClient>();

  constructor(options: AcmeClientsOptions) {
    this.#options = options;
  }

  of(issuer: Issuer): AcmeClient {
    const known = this.#clients.get(issuer.name);
    if (known) return known;
    const { clock, openClient } = this.#options;
    const client =
      openClient?.(issuer) ??
      openAcmeClient({ directoryUrl: issuer.directoryUrl, clock, extraTrustPem: issuer.trustPem });
    this.#clients.set(issuer.name, client);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients.values()) await client[Symbol.asyncDispose]();
  }
}
