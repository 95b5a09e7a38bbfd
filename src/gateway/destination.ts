/** Where a request goes by its plan: which of several targets, the upstream, and the path and query there. */
import { upstreamPath } from '../routes/match.ts';
import type { Group } from './balancing.ts';
import { TargetAway } from './dialer.ts';
import { type Balance, isLed, type Plan } from './snapshot.ts';
import type { Transit } from './transit.ts';
import { isLate, isStaleConnection, refusalOf, serviceAway } from './upstream-failure.ts';
import type { Upstream } from './upstream.ts';

/** Without effect or with the same effect when sent twice. @see RFC 9110 §9.2.2 */
export const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

/** The plan for the target that gets the request; undefined: none may, and the client has been told. */
export function chosenPlan(transit: Transit, plan: Plan): Plan | undefined {
  const { balance } = plan;
  if (!balance) return isLed(plan) ? plan : refuseAway(transit, plan);
  balance.group.earn();
  const chosen = take(transit, balance);
  if (!chosen)
    transit.refuse({
      status: 503,
      code: 'UNAVAILABLE',
      message: 'None of the targets behind this hostname answers at the moment.',
      reason: 'all targets are down or drained; get_proxy tells how each stands',
      headers: { 'retry-after': '1' },
    });
  return chosen;
}

/** A service that is nowhere is passed over, and counts as no try. */
function take(transit: Transit, { group, plans }: Balance): Plan | undefined {
  for (;;) {
    const at = group.take(transit, transit.tried, transit.core.clock.now());
    if (at === undefined) return undefined;
    transit.endpoint?.release(transit);
    transit.endpoint = group.slots[at]?.endpoint;
    transit.tried |= 1 << at;
    const plan = plans[at];
    if (plan && !isLed(plan)) continue;
    transit.tries++;
    return plan;
  }
}

function refuseAway(transit: Transit, { place }: Plan): undefined {
  transit.refuse({ ...serviceAway, reason: place?.reason });
}

/**
 * The plan for another target after `error`; undefined: the error is the answer. What may have reached a target goes to
 * another only when it may be repeated and the budget allows; what was never sent, or waited for long, is no matter of that.
 */
export function planAfter(transit: Transit, plan: Plan, error: Error, isSent: boolean): Plan | undefined {
  if (isOver(transit)) return undefined;
  // It moved while a connection was waited for: nothing was sent.
  if (error instanceof TargetAway && isLed(plan)) return plan;
  return planElsewhere(transit, plan, error, isSent);
}

function planElsewhere(transit: Transit, plan: Plan, error: Error, isSent: boolean): Plan | undefined {
  const { endpoint } = transit;
  const { balance } = plan;
  if (!endpoint || !balance) return undefined;
  if (!isSent || isStaleConnection(error) || isLate(error))
    endpoint.failed(transit, refusalOf(error).reason ?? error.name);
  const { group } = balance;
  if (transit.response.headersSent || transit.tries >= group.tries) return undefined;
  return !isSent || maySendAgain(transit, group, error) ? take(transit, balance) : undefined;
}

/** Nobody waits for an answer any more, or it is the client that failed. */
const isOver = ({ isDone, isRefused, response, body }: Transit): boolean =>
  isDone || isRefused || response.writableEnded || Boolean(body?.errored);

const maySendAgain = (transit: Transit, group: Group, error: Error): boolean =>
  isStaleConnection(error) && mayRepeat(transit) && group.spend();

export const mayRepeat = ({ hasBody, method, upgrade }: Transit): boolean =>
  !hasBody && !upgrade && idempotent.has(method);

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
