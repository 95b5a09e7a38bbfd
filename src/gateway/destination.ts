/** Where a request goes by its plan: which of several targets, the upstream, and the path and query there. */
import { upstreamPath } from '../routes/match.ts';
import type { Group } from './balancing.ts';
import { TargetAway } from './dialer.ts';
import { type Balance, isLed, type Plan } from './snapshot.ts';
import { SESSION_FIELD, sessionIn } from './sessions.ts';
import { pinnedPlace } from './sticky.ts';
import { refuseSession } from './tools/refuse-calls.ts';
import type { Transit } from './transit.ts';
import { isLate, isStaleConnection, refusalOf, serviceAway } from './upstream-failure.ts';
import type { Unpooled, Upstream } from './upstream.ts';

/** Without effect or with the same effect when sent twice. @see RFC 9110 §9.2.2 */
export const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

/** The plan for the target that gets the request; undefined: none may, and the client has been told. */
export function chosenPlan(transit: Transit, plan: Plan): Plan | undefined {
  const { balance } = plan;
  const session = transit.tools ? transit.tools.session : transit.headers[SESSION_FIELD];
  if (!balance) {
    if (typeof session === 'string') unmark(transit, plan, session);
    return isLed(plan) ? plan : refuseAway(transit, plan);
  }
  balance.group.earn();
  if (typeof session === 'string') return planOfSession(transit, balance, session);
  const chosen = takePinned(transit, balance) ?? takeAny(transit, balance);
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

/** It was opened when there were several targets. */
function unmark(transit: Transit, { match }: Plan, text: string): void {
  const { id, mark } = sessionIn(text);
  if (mark === undefined) return;
  if (mark === transit.core.balancers.mark(match.proxy.id, match.targetUrl)) transit.session = id;
}

/** No other target knows the session: where its own gets nothing, its client has to begin another. */
function planOfSession(transit: Transit, balance: Balance, text: string): Plan | undefined {
  const { group } = balance;
  const { id, mark } = sessionIn(text);
  const at = group.takePinned(transit, group.placeOf(mark), transit.core.clock.now());
  transit.isHeld = true;
  transit.session = id;
  const plan = take(transit, balance, at);
  if (plan) return plan;
  refuseSession(transit, 'its target is out, sick or gone; get_proxy tells how each stands');
  return undefined;
}

function takePinned(transit: Transit, balance: Balance): Plan | undefined {
  const { group } = balance;
  if (!group.sticky) return undefined;
  transit.pinned = pinnedPlace(transit.headers.cookie, group.sticky, group.marks);
  return take(transit, balance, group.takePinned(transit, transit.pinned, transit.core.clock.now()));
}

function takeAny(transit: Transit, balance: Balance): Plan | undefined {
  const now = transit.core.clock.now();
  for (;;) {
    const at = balance.group.take(transit, transit.tried, now);
    if (at === undefined) return undefined;
    const plan = take(transit, balance, at);
    if (plan) return plan;
  }
}

/** A service that is nowhere is passed over, and counts as no try. */
function take(transit: Transit, { group, plans }: Balance, at: number | undefined): Plan | undefined {
  if (at === undefined) return undefined;
  transit.endpoint?.release(transit);
  transit.endpoint = group.slots[at]?.endpoint;
  transit.tried |= 1 << at;
  const plan = plans[at];
  if (plan && !isLed(plan)) return undefined;
  transit.tries++;
  return plan;
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
  if (transit.isHeld || transit.response.headersSent || transit.tries >= group.tries) return undefined;
  return !isSent || maySendAgain(transit, group, error) ? takeAny(transit, balance) : undefined;
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

const tooMany = {
  request: 'requests',
  single: 'requests over connections of their own',
  tunnel: 'tunnels',
} as const satisfies Record<'request' | Unpooled, string>;

/**
 * The plan for a target that has room for it, which is another one where the chosen one is full: nothing was sent, so
 * that any request may go there. Undefined: none has, and the client has been told.
 */
export function planWithRoom(transit: Transit, chosen: Plan, what: 'request' | Unpooled): Plan | undefined {
  let plan: Plan | undefined = chosen;
  while (plan && upstreamOf(transit, plan).isFullOf(what)) plan = planBeside(transit, plan);
  if (!plan) refuseFull(transit, tooMany[what]);
  return plan;
}

const planBeside = (transit: Transit, { balance }: Plan): Plan | undefined =>
  balance && !transit.isHeld && transit.tries < balance.group.tries ? takeAny(transit, balance) : undefined;

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
