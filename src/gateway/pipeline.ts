/**
 * A request through the gateway: rows are steps in their order, columns the kinds of request. A step that answers
 * ends the chain. The record of a request is no row: it is written when the reply is closed, whoever answered.
 * Knows no engine and decides nothing itself; `listen.ts` calls `receive` for every request.
 */
import { messageOf } from '../core/errors.ts';
import { beginCapture } from './captured.ts';
import { recordFault } from './fault-record.ts';
import { answerAcme } from './steps/answer-acme.ts';
import { answerHealth } from './steps/answer-health.ts';
import { answerMetadata } from './steps/answer-metadata.ts';
import { answerVerify } from './steps/answer-verify.ts';
import { assignTrace, tellTrace } from './steps/assign-trace.ts';
import { authenticateControl, authenticateMcp, authenticateProxied } from './steps/authenticate.ts';
import { authoriseMcp, authoriseProxied } from './steps/authorise.ts';
import { authoriseTools, refuseToolSocket } from './steps/authorise-tools.ts';
import { checkClientCertificate } from './steps/check-client-certificate.ts';
import { checkConnection } from './steps/check-connection.ts';
import { allowEveryOrigin, checkMcpOrigin, checkOrigin } from './steps/check-origin.ts';
import { forwardProxied, forwardUpgraded } from './steps/forward.ts';
import { handToControl, handToMcp, handToOAuth, handToSites } from './steps/hand-over.ts';
import { identify } from './steps/identify.ts';
import { limitAddress, limitPrincipal, limitUnderWay } from './steps/limit-rate.ts';
import { limitBody } from './steps/limit-body.ts';
import { refuseDraining } from './steps/refuse-draining.ts';
import { refuseLoop } from './steps/refuse-loop.ts';
import { refuseMalformed } from './steps/refuse-malformed.ts';
import { refuseOverride } from './steps/refuse-override.ts';
import { resolveClient } from './steps/resolve-client.ts';
import { tellStep } from './step-record.ts';
import type { Step } from './steps/step.ts';
import { type Kind, kinds, type Transit } from './transit.ts';

/** Before the kind is known, and to find it. `identify` also normalises and matches. */
const first: readonly Step[] = [assignTrace, resolveClient, limitUnderWay, refuseMalformed, identify];

type Cell = Step | undefined;
type Row = readonly [
  proxied: Cell,
  upgrade: Cell,
  control: Cell,
  mcp: Cell,
  oauth: Cell,
  site: Cell,
  metadata: Cell,
  acme: Cell,
];

const same = (step: Step): Row => [step, step, step, step, step, step, step, step];
const __ = undefined;
const checkCertificate = checkClientCertificate;

// biome-ignore format: a table is read by its columns
const rows: readonly Row[] = [
// proxied              upgrade              control              mcp              oauth            site             metadata          acme
  [__,                  __,                  tellTrace,           tellTrace,       tellTrace,       tellTrace,       tellTrace,        tellTrace],
  [__,                  __,                  answerHealth,        __,              __,              __,              __,               __],
  same(refuseDraining),
  [__,                  __,                  __,                  __,              __,              __,              __,               answerAcme],
  [checkConnection,     checkConnection,     checkConnection,     checkConnection, checkConnection, checkConnection, checkConnection,  __],
  [checkCertificate,    checkCertificate,    __,                  checkCertificate, __,            checkCertificate, checkCertificate, __],
  [refuseLoop,          refuseLoop,          __,                  __,              __,              __,              __,               __],
  [__,                  __,                  answerVerify,        __,              __,              __,              __,               __],
  [__,                  __,                  checkOrigin,         checkMcpOrigin,  __,              __,              allowEveryOrigin, __],
  [__,                  __,                  limitAddress,        limitAddress,    limitAddress,    limitAddress,    limitAddress,     __],
  [limitBody,           __,                  limitBody,           limitBody,       limitBody,       limitBody,       __,               __],
  [authenticateProxied, authenticateProxied, authenticateControl, authenticateMcp, __,              __,              __,               __],
  [authoriseProxied,    authoriseProxied,    __,                  authoriseMcp,    __,              __,              __,               __],
  [refuseOverride,      refuseOverride,      __,                  __,              __,              __,              __,               __],
  [authoriseTools,      refuseToolSocket,    __,                  __,              __,              __,              __,               __],
  [__,                  __,                  limitPrincipal,      limitPrincipal,  __,              __,              __,               __],
  [forwardProxied,      forwardUpgraded,     handToControl,       handToMcp,       handToOAuth,     handToSites,     answerMetadata,   __],
];

const chains = Object.fromEntries(
  kinds.map((kind, column) => [kind, rows.map((row) => row[column]).filter((step) => step !== undefined)]),
) as unknown as Readonly<Record<Kind, readonly Step[]>>;

export function receive(transit: Transit): void {
  transit.core.inFlight.add(transit);
  transit.core.witnesses.sees(transit);
  transit.connection.pending++;
  try {
    if (run(first, transit) || transit.kind === undefined) return;
    if (transit.core.captures?.isOn) beginCapture(transit, transit.core.captures);
    run(chains[transit.kind], transit);
  } catch (cause) {
    failed(transit, cause);
  }
}

function run(steps: readonly Step[], transit: Transit): boolean {
  for (const step of steps)
    if (step(transit)) {
      tellStep(transit, step);
      transit.capture?.takenBy(step.name);
      return true;
    }
  return false;
}

/** A step threw: a fault of ours. Nothing was decided, so nothing is let through. */
function failed(transit: Transit, cause: unknown): void {
  recordFault(transit.core, 'a step failed', cause, transit.traceId);
  transit.refuse({
    status: 500,
    code: 'INTERNAL',
    message: 'Internal error. The trace id finds it in the log.',
    reason: messageOf(cause),
  });
}
