/** The steps of a publication, each written down before it is acted on. What one of them throws is undone by `settle.ts`. */
import { type Clock, SECOND } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Proxy } from '../proxies/schema.ts';
import { type Plan, portFor, settingsOf } from './plan.ts';
import type { Caller } from './ports.ts';
import { type PublicationRecord, putRecord } from './record.ts';
import type { PlannedStep, PublishInput, StepName } from './schema.ts';
import type { PublishingParts } from './settle.ts';
import { targetFor } from './target.ts';

const ASK_EVERY_MS = 250;
const ASK_MS = 5 * SECOND;
const FIRST_FAILURE = 500;
/** What a stranger gets where somebody has to sign in, or may not. */
const REFUSALS: ReadonlySet<number> = new Set([302, 303, 401, 403]);

export interface Work {
  readonly parts: PublishingParts;
  readonly plan: Plan;
  readonly input: PublishInput;
  readonly caller: Caller;
  readonly tell: (message: string) => void;
  /** As it was last written. */
  record: PublicationRecord;
}

/** All but the last word, which is the record's. */
export async function carryOut(work: Work): Promise<PlannedStep[]> {
  const { input, plan, caller, parts } = work;
  const { ports } = parts;
  const { hostname, image, pull, protection } = input;
  await begin(work, 'image');
  await ports.services.fetchImage(image, pull, caller);
  const port = await portOf(work);
  await begin(work, 'service');
  const wanted = {
    id: work.record.service_id,
    name: plan.service,
    settings: settingsOf(input, { port, address: plan.address }),
    healthyWithinMs: input.healthy_within_ms,
  };
  await ports.services.create(wanted, caller);
  await begin(work, 'proxy');
  const made = { ...plan.proxy, target_url: targetFor(plan.service, port) };
  const proxy = await ports.proxies.create(made, caller, work.record.proxy_id);
  if (protection) {
    await begin(work, 'protection');
    await ports.protection.protect(hostname, protection, caller);
  }
  await begin(work, 'answer');
  await untilAnswered(work, proxy);
  await begin(work, 'enable');
  await ports.proxies.enable(hostname, caller);
  await begin(work, 'certificate');
  await ports.certificates.obtain(hostname, input.certificate, caller);
  await begin(work, 'verify');
  await verify(work);
  requireWanted(caller);
  return plan.steps.filter(({ step }) => step !== 'protection' || protection !== undefined);
}

async function begin(work: Work, step: StepName): Promise<void> {
  requireWanted(work.caller);
  const record = { ...work.record, steps: [...work.record.steps, step] };
  await work.parts.database.change({}, (tx) => putRecord(tx, record));
  work.record = record;
  work.tell(`${step}: ${work.plan.steps.find((planned) => planned.step === step)?.effect ?? ''}`);
}

function requireWanted({ signal }: Caller): void {
  if (signal.aborted) throw new AppError('CANCELLED', 'the call was cancelled');
}

/** Asked of the image again, once it is here. */
async function portOf({ parts, plan, input }: Work): Promise<number> {
  if (plan.port !== undefined) return plan.port;
  const { imagePorts } = await parts.ports.services.prospect(plan.service, plan.settings);
  const port = portFor(input, imagePorts ?? []);
  if (typeof port === 'number') return port;
  throw port ?? new AppError('INVALID_INPUT', 'port: give the one that it listens at');
}

/** A program may be up before it listens. */
async function untilAnswered({ parts, input, caller }: Work, proxy: Proxy): Promise<void> {
  const { clock, ports } = parts;
  const { check_path, healthy_within_ms } = input;
  const began = clock.now();
  for (;;) {
    requireWanted(caller);
    const fault = await timely(clock, caller.signal, (signal) =>
      ports.edge.ask(proxy, check_path, signal),
    ).then(
      (status) => (status < FIRST_FAILURE ? undefined : `it answers ${check_path} with ${status}`),
      (cause: unknown) => `it does not answer: ${cleanText(messageOf(cause))}`,
    );
    if (fault === undefined) return;
    if (clock.now() - began >= healthy_within_ms)
      throw new AppError(
        'UPSTREAM_FAILED',
        `the service is up, but ${fault}; port is where it listens inside, on every address`,
      );
    await new Promise<void>((resolve) => void clock.after(ASK_EVERY_MS, resolve));
  }
}

async function timely<Result>(
  clock: Clock,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const late = new AbortController();
  const timer = clock.after(ASK_MS, () => late.abort(new Error(`no answer within ${ASK_MS} ms`)));
  try {
    return await work(AbortSignal.any([signal, late.signal]));
  } finally {
    timer.cancel();
  }
}

/** As a stranger: with a protection, that is who has to be turned away, by it and by nobody else. */
async function verify({ parts, input, caller }: Work): Promise<void> {
  const { hostname, check_path, protection } = input;
  const { status, by } = await timely(parts.clock, caller.signal, (signal) =>
    parts.ports.edge.visit(hostname, check_path, signal),
  );
  const isOpen = !protection || protection.public_paths.some((path) => covers(path, check_path));
  const isAsExpected = isOpen
    ? status < FIRST_FAILURE && by === 'target'
    : REFUSALS.has(status) && by === 'protection';
  if (isAsExpected) return;
  const expected = isOpen ? "the service's answer" : 'to be asked who they are';
  throw new AppError(
    'UPSTREAM_FAILED',
    `https://${hostname}${check_path} answered ${status}, by ${WORDS[by]}; a stranger had to get ${expected}`,
  );
}

const WORDS = { target: 'the service', protection: 'the protection', gateway: 'the gateway itself' } as const;

/** By whole segments. */
function covers(outer: string, path: string): boolean {
  const [asked = ''] = path.split('?');
  return `${asked.replace(/\/$/, '')}/`
    .toLowerCase()
    .startsWith(`${outer.replace(/\/$/, '')}/`.toLowerCase());
}
