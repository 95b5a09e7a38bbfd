/** Where a request goes by its plan: the upstream, and the path and query there. */
import { upstreamPath } from '../routes/match.ts';
import type { Plan } from './snapshot.ts';
import type { Transit } from './transit.ts';
import type { Upstream } from './upstream.ts';

export function upstreamOf({ core }: Transit, plan: Plan): Upstream {
  if (!plan.upstream || plan.upstream.isClosed) plan.upstream = core.upstreams.of(plan.target);
  return plan.upstream;
}

/** The path and query that the upstream gets: the canonical ones. */
export function upstreamTarget({ path, query }: Transit, { match }: Plan): string {
  const target = upstreamPath(match, path);
  return query === '' ? target : `${target}?${query}`;
}

/** For an upstream that has as much to do as it may have at once; `what` there is too much of is for the log. */
export function refuseFull(transit: Transit, what: string): void {
  transit.refuse({
    status: 503,
    code: 'UNAVAILABLE',
    message: 'The upstream has more requests than it can answer.',
    reason: `limit of the upstream: ${what}`,
    headers: { 'retry-after': '1' },
  });
}
