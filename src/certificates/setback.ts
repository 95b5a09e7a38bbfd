/** What follows from a failure: what is kept of the order, when it is tried again, and at which CA. Pure. */
import { AcmeError, AcmeFault, type Consequence } from './acme/fault.ts';
import { AcmeProblem, acmeType, consequenceOf } from './acme/problem.ts';
import { type Stage, Unpublished } from './challenge-records.ts';
import { type ChallengeType, challengesFor, type Dns01Port, type Issuer, whyNot } from './issuers.ts';
import { Held } from './counts.ts';
import { Denied, ProofFailed } from './issuing.ts';
import type { OrderDocument } from './order-schema.ts';
import type { StoredOrder } from './order-rows.ts';
import type { Step } from './orders.ts';
import { chance, isGivenUp, waitAfter } from './renewal.ts';
import { DAY, MINUTE, SECOND } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';

/** Failures in a row, when it is only that no CA answers: some hours. */
const STUCK_AFTER = 8;

export interface Situation {
  readonly order: StoredOrder;
  readonly issuer: Issuer;
  /** In order of preference. */
  readonly issuers: readonly Issuer[];
  readonly dns01: Dns01Port | undefined;
  readonly now: number;
  /** How long what is served now is valid; undefined: nothing of a CA is served. */
  readonly restMs: number | undefined;
  /** Orders that are open. */
  readonly waiting: number;
}

interface Fault {
  readonly consequence: Consequence;
  readonly retryAfterMs: number | undefined;
  /** Whether the order at the CA is over: the next attempt makes another one. */
  readonly isOver: boolean;
}

export const cutOff = (ms: number): AcmeFault =>
  new AcmeFault('deadline', `the order was not through in ${ms / SECOND} s, and is gone on with later`);

/** The step that is written after a failed attempt. */
export function setbackOf(cause: unknown, situation: Situation): Step {
  if (!(cause instanceof Denied)) return setbackBy(cause, situation);
  const { order } = situation;
  const { denials, failures } = order.document;
  if (denials < MAX_DENIALS) return denied(cause, situation);
  // All of them were one failure: what is ordered anew has not waited for long.
  const document = { ...order.document, failures: Math.max(0, failures - denials) };
  return setbackBy(cause.refusal, { ...situation, order: { ...order, document } });
}

/** A second order may be a second certificate, which CAs count: a CA that denies what it made is asked again so often. */
export const MAX_DENIALS = 4;

function denied({ refusal }: Denied, { order, now, restMs }: Situation): Step {
  const denials = order.document.denials + 1;
  const { retryAfterMs } = refusal;
  const wait = {
    consequence: 'retry_later',
    retryAfterMs,
    failures: denials,
    restMs,
    seed: order.id,
  } as const;
  const nextAttemptAt = now + waitAfter(wait);
  const failures = order.document.failures + 1;
  return {
    document: { denials, failures, not_before: nextAttemptAt },
    nextAttemptAt,
    event: { ...eventOf(refusal), text: 'the CA refused to tell of the order that it has made' },
  };
}

function setbackBy(cause: unknown, situation: Situation): Step {
  const { order, now } = situation;
  const after = stepAfter(cause, situation);
  const refusals = order.document.refusals + (isOfNames(cause) ? 1 : 0);
  const step = { ...after, document: { ...after.document, refusals } };
  if (order.document.reason !== 'on-demand' || (step.nextAttemptAt ?? now) <= now) return step;
  // Nobody waits for it any more, and names are a stranger's choice: whoever comes next has it ordered anew.
  return {
    ...step,
    state: 'abandoned',
    ...(step.event && {
      event: { ...step.event, text: `${step.event.text}; it is ordered again when somebody comes` },
    }),
  };
}

/** Whether it may be the fault of one of several names. */
const isOfNames = (cause: unknown): boolean =>
  cause instanceof ProofFailed ||
  cause instanceof Unpublished ||
  (cause instanceof AcmeError && cause.consequence === 'order');

function stepAfter(cause: unknown, situation: Situation): Step {
  const { order, now } = situation;
  if (cause instanceof Held) return heldStep(cause, situation);
  if (cause instanceof Unpublished) return unpublished(cause, situation);
  const fault = faultOf(cause, situation);
  const failures = order.document.failures + 1;
  const event = eventOf(cause);
  if (order.document.cancelled) return cancelledStep(fault, situation, event);
  const failed = cause instanceof ProofFailed ? { failedName: cause.hostname } : {};
  const other = fault.isOver ? otherChallenge(cause, situation) : undefined;
  // The names may still be shown to be ours in another way: that is tried at once, once.
  if (other) return { ...fresh(other, failures), nextAttemptAt: now, event, ...failed };
  const next = nextIssuer(fault, situation);
  if (next)
    return {
      ...fresh(at(next), failures),
      nextAttemptAt: now,
      event: { ...event, text: `${event.text}; ${next.name} is asked next` },
      ...failed,
    };
  const waitMs = waitAfter({ ...fault, failures, restMs: situation.restMs, seed: order.id });
  const kept = afterWait(fault, situation);
  const isElsewhere = kept.document?.issuer !== undefined;
  const askedMs = isElsewhere ? 0 : (fault.retryAfterMs ?? 0);
  return {
    ...kept,
    document: { ...kept.document, not_before: now + Math.max(askedMs, MIN_BETWEEN_MS) },
    nextAttemptAt: now + waitMs,
    event,
    ...failed,
  };
}

/** Its CA is asked until it says whether it has signed; no other one is. */
function cancelledStep(fault: Fault, { order, now, restMs }: Situation, event: Step['event'] & object): Step {
  if (fault.isOver)
    return { state: 'abandoned', event: { ...event, text: `${event.text}; somebody had cancelled it` } };
  const failures = order.document.failures + 1;
  const waitMs = waitAfter({ ...fault, failures, restMs, seed: order.id });
  return { document: { failures }, nextAttemptAt: now + waitMs, event };
}

/** Whoever asks on by hand has no attempt sooner than so long after one that failed. */
const MIN_BETWEEN_MS = 5 * MINUTE;

/** When all CAs were asked, the first one is asked again, and every challenge may be tried again. */
function afterWait(fault: Fault, situation: Situation): Step {
  const { order, issuer } = situation;
  const failures = order.document.failures + 1;
  const tries = order.document.failures_at_issuer + 1;
  const stuck = fault.isOver || failures >= STUCK_AFTER || order.document.stuck;
  const [first = issuer] = possibleIssuers(situation);
  const isFirstNext = isGivenUp(fault, tries) && first.name !== issuer.name;
  if (isFirstNext) return fresh({ ...at(first), stuck }, failures);
  if (fault.isOver) return fresh({ failures_at_issuer: tries, failed_proofs: {}, stuck }, failures);
  return { document: { failures, failures_at_issuer: tries, stuck } };
}

const MIN_CROWD = 50;

function heldStep(held: Held, situation: Situation): Step {
  const { order, issuer, now } = situation;
  const { until, limit } = held;
  const text = `${held.message}: there is room again at ${new Date(until).toISOString()}`;
  const event = { kind: 'held', text } as const;
  // What an owner may order is the same at every CA.
  const fault = { consequence: 'retry_later', retryAfterMs: until - now, isOver: false } as const;
  const isOfCa = limit.issuer !== '' && isGivenUp(fault, 0);
  const next = isOfCa ? nextIssuer(fault, situation) : undefined;
  const { failures } = order.document;
  if (next)
    return {
      ...fresh(at(next), failures),
      nextAttemptAt: now,
      event: { ...event, text: `${text}; ${next.name} is asked next` },
    };
  const [first = issuer] = possibleIssuers(situation);
  if (isOfCa && first.name !== issuer.name) {
    const waitMs = waitAfter({
      consequence: 'retry_later',
      retryAfterMs: undefined,
      failures: failures + 1,
      restMs: situation.restMs,
      seed: order.id,
    });
    return { ...fresh(at(first), failures + 1), nextAttemptAt: Math.min(until, now + waitMs), event };
  }
  return {
    // One that the CA may have heard of is looked for there first.
    ...(order.state !== 'sending' && { state: 'waiting' as const }),
    document: { not_before: until },
    nextAttemptAt: spread(held, situation),
    event,
  };
}

const problems: Readonly<Record<Stage, string>> = {
  nowhere: 'recordNowhere',
  refused: 'recordRefused',
  not_visible: 'recordNotVisible',
};

/** The CA was not told: its order stays, another challenge is tried for it at once, and no other CA would help. */
function unpublished(cause: Unpublished, { order, dns01, now, restMs }: Situation): Step {
  const { hostname, stage, retryAfterMs } = cause;
  const event = { kind: 'failed' as const, text: cause.message, problem: problems[stage] };
  const failures = order.document.failures + 1;
  const other = untried(hostname, 'dns-01', { order, dns01 });
  if (other) return { document: { ...other, failures }, nextAttemptAt: now, event };
  const waitMs = waitAfter({ consequence: 'retry_later', retryAfterMs, failures, restMs, seed: order.id });
  const not_before = now + Math.max(retryAfterMs ?? 0, MIN_BETWEEN_MS);
  const stuck = stage !== 'not_visible' || failures >= STUCK_AFTER || order.document.stuck;
  return {
    document: { failures, failed_proofs: {}, stuck, not_before },
    nextAttemptAt: now + waitMs,
    event,
  };
}

/** Where far more wait than there will be room for, not all of them come back for the one place that is free next. */
function spread({ until, limit }: Held, { order, waiting }: Situation): number {
  const crowd = Math.min(1, Math.max(0, waiting - Math.max(limit.allowed, MIN_CROWD)) / limit.allowed);
  return until + Math.floor(limit.withinMs * crowd * chance(`${order.id} ${until}`));
}

/** For an order whose CA is not set up any more. */
export const moveTo = (issuer: Issuer, { document }: StoredOrder): Step =>
  fresh(at(issuer), document.failures);

/** Nothing was asked there yet. */
const at = ({ name, directoryUrl }: Issuer) => ({
  issuer: name,
  directory: directoryUrl,
  failures_at_issuer: 0,
  failed_proofs: {},
});

/** A new order at a CA: of the one before nothing is left. */
const fresh = (document: Partial<OrderDocument>, failures: number): Step => ({
  state: 'waiting',
  document: {
    not_before: undefined,
    ...document,
    failures,
    denials: 0,
    order_url: undefined,
    sent_at: undefined,
  },
});

/** CAs let an order be open for a week; one that nothing has been heard of for longer is given up. */
const ORDER_LIFE_MS = 8 * DAY;

function faultOf(cause: unknown, { order, now }: Pick<Situation, 'order' | 'now'>): Fault {
  if (cause instanceof ProofFailed) {
    const consequence = cause.problem ? consequenceOf(cause.problem, 'order') : 'order';
    return { consequence, retryAfterMs: undefined, isOver: true };
  }
  // A store that can't be written, say: a fault of ours, which leaves the order at the CA as it is.
  if (!(cause instanceof AcmeError))
    return { consequence: 'network', retryAfterMs: undefined, isOver: false };
  const { consequence, retryAfterMs } = cause;
  const isOld = now - (order.document.sent_at ?? now) > ORDER_LIFE_MS;
  const isOver = isOld || (consequence !== 'network' && consequence !== 'retry_later');
  return { consequence, retryAfterMs, isOver };
}

function eventOf(cause: unknown): NonNullable<Step['event']> {
  const problem =
    cause instanceof ProofFailed ? cause.problem : cause instanceof AcmeProblem ? cause.problem : undefined;
  const text =
    cause instanceof ProofFailed || !(problem && cause instanceof Error)
      ? messageOf(cause)
      : 'the CA refused';
  return {
    kind: 'failed',
    text,
    ...(problem && { ca_words: problem.raw, problem: acmeType(problem) ?? problem.type }),
  };
}

/** Another challenge for the name that failed, while there is one that has not failed since the last wait. */
function otherChallenge(cause: unknown, situation: Situation): Partial<OrderDocument> | undefined {
  if (!(cause instanceof ProofFailed) || cause.challenge === undefined) return undefined;
  return untried(cause.hostname, cause.challenge, situation);
}

/** One name may be reached by port 80 only, and another one by 443 only. */
function untried(
  hostname: string,
  challenge: ChallengeType,
  { order, dns01 }: Pick<Situation, 'order' | 'dns01'>,
): Pick<OrderDocument, 'failed_proofs'> | undefined {
  const { failed_proofs: before } = order.document;
  const failed = [...new Set([...(before[hostname] ?? []), challenge])];
  const isLeft = challengesFor(hostname, dns01).some((type) => !failed.includes(type));
  return isLeft ? { failed_proofs: { ...before, [hostname]: failed } } : undefined;
}

const possibleIssuers = ({ issuers, order, dns01 }: Situation): readonly Issuer[] =>
  issuers.filter((each) => order.document.names.every((name) => whyNot(name, each, dns01) === undefined));

/** The next one in order of preference, when this one is given up; undefined after the last. */
function nextIssuer(fault: Fault, situation: Situation): Issuer | undefined {
  const { issuer, order } = situation;
  if (!isGivenUp(fault, order.document.failures_at_issuer + 1)) return undefined;
  const possible = possibleIssuers(situation);
  const place = possible.findIndex(({ name }) => name === issuer.name);
  return place < 0 ? undefined : possible[place + 1];
}

/** Whether the CA did not take the key, or a certificate came for it that was not ordered. */
export const isKeyRefused = (cause: unknown): boolean =>
  (cause instanceof AcmeProblem && (cause.type === 'badCSR' || cause.type === 'badPublicKey')) ||
  (cause instanceof AcmeFault && cause.code === 'wrong_certificate');
