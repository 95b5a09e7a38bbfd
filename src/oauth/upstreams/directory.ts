/** The providers of the settings, side by side: none is asked for anything before somebody goes there. */
import { AppError } from '../../core/errors.ts';
import type { Clock } from '../../core/clock.ts';
import { createUpstreamFetch } from './fetch.ts';
import { GitHubUpstream } from './github.ts';
import { OidcUpstream } from './oidc.ts';
import type { Upstream, UpstreamSettings } from './upstream.ts';

export class UpstreamDirectory implements AsyncDisposable {
  readonly list: readonly UpstreamSettings[];
  readonly #upstreams: ReadonlyMap<string, Upstream>;
  readonly #stack = new AsyncDisposableStack();

  constructor(list: readonly UpstreamSettings[], clock: Clock) {
    this.list = list;
    this.#upstreams = new Map(
      list.map((settings) => {
        const fetch = this.#stack.use(createUpstreamFetch(settings.issuer, clock));
        const upstream =
          settings.kind === 'github'
            ? new GitHubUpstream(settings, { fetch })
            : new OidcUpstream(settings, { fetch, clock });
        return [settings.name, upstream];
      }),
    );
  }

  /** @throws AppError NOT_FOUND. */
  get(name: string): Upstream {
    const upstream = this.#upstreams.get(name);
    if (!upstream) throw new AppError('NOT_FOUND', 'there is no such provider');
    return upstream;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
