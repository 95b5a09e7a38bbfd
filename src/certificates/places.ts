/** Who is driven now: so many at each CA, that one which hangs holds up what was ordered there and nothing else. */
import type { Issuer } from './issuers.ts';

/** An order that is worked on. */
export interface Driven {
  readonly done: Promise<void>;
  /** Ends it, unless the CA has been asked to sign. */
  readonly cancel: AbortController;
  /** Of its CA; undefined: it is not known. */
  readonly directory: string | undefined;
}

/** Orders that are driven at once at one CA. */
export const MAX_AT_ONE_CA = 8;

export class Places {
  /** By directory; undefined: of those that are not known. */
  readonly #taken = new Map<string | undefined, number>();

  constructor(driven: Iterable<Driven>) {
    for (const { directory } of driven) this.take(directory);
  }

  take(directory: string | undefined): void {
    this.#taken.set(directory, (this.#taken.get(directory) ?? 0) + 1);
  }

  isFull(directory: string | undefined): boolean {
    return (this.#taken.get(directory) ?? 0) >= MAX_AT_ONE_CA;
  }

  /** Directories of those at which none can be begun; `heldAt`: for a reason of its own. */
  closedOf(issuers: readonly Issuer[], heldAt: string | undefined): string[] {
    const directories = issuers.map(({ directoryUrl }) => directoryUrl);
    return directories.filter((directory) => directory === heldAt || this.isFull(directory));
  }
}
