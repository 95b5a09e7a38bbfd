/** The answer: a summary first, the same finding once, and no more than a model should read. Pure. */
import { limits } from '../core/limits.ts';
import type { AttemptReport, ClientId, Diagnosis, StepReport } from './schema.ts';
import { stepIds } from './schema.ts';
import type { Walked } from './walk.ts';

/** For the brackets around it, and what a surface adds. */
const ENVELOPE_CHARACTERS = 600;
const MAX_ATTEMPTS = 6;

export interface Facts {
  readonly url: string;
  readonly walked: readonly Walked[];
  readonly attempts: readonly AttemptReport[];
  readonly since: string;
  readonly notSeen: readonly string[];
}

export function reportOf({ url, walked, attempts, since, notSeen }: Facts): Diagnosis {
  const clients = walked.map(clientOf);
  const told = attempts.slice(0, MAX_ATTEMPTS);
  const more = attempts.length - told.length;
  const hint = more > 0 ? `${more} older attempts are left out; since narrows` : '';
  return fitted({
    url,
    summary: `${summaryOf(walked, clients)} ${attemptsOf(attempts, since)}`,
    clients,
    steps: merged(walked),
    attempts: told,
    not_seen: [...notSeen],
    ...(hint !== '' && { hint }),
  });
}

function clientOf({ profile, findings }: Walked): Diagnosis['clients'][number] {
  const last = findings.at(-1);
  const client = profile.id;
  if (last?.status === 'failed')
    return { client, outcome: 'fails', stops_at: last.step, ...(last.remedy && { remedy: last.remedy }) };
  if (last?.ends)
    return { client, outcome: 'unseen', stops_at: last.step, ...(last.remedy && { remedy: last.remedy }) };
  return { client, outcome: 'passes' };
}

function summaryOf(walked: readonly Walked[], clients: Diagnosis['clients']): string {
  const stops = Map.groupBy(
    walked.filter((_, i) => clients[i]?.outcome !== 'passes'),
    ({ findings }) => {
      const { step, found = '', remedy = '', status } = findings.at(-1) ?? {};
      const verb = status === 'failed' ? 'fails' : 'can not be seen any further';
      return `at ${step ?? ''} ${verb}: ${found}.${remedy === '' ? '' : ` Remedy: ${remedy}.`}`;
    },
  );
  const passing = walked.filter((_, i) => clients[i]?.outcome === 'passes');
  return [
    ...[...stops].map(([text, all]) => `${namesOf(all)} ${text}`),
    ...(passing.length === 0 ? [] : [`${namesOf(passing)}: ${passed(walked)}.`]),
    ...warnings(passing),
  ].join(' ');
}

const namesOf = (walked: readonly Walked[]): string => walked.map(({ profile }) => profile.name).join(', ');

/** What may stop a client though no step has failed. */
function warnings(passing: readonly Walked[]): string[] {
  const warned = passing.flatMap((walk) =>
    walk.findings
      .filter(({ status, remedy }) => status === 'warning' && remedy !== undefined)
      .map(({ step, found, remedy = '' }) => ({
        walk,
        text: `warning at ${step}: ${found}. Remedy: ${remedy}.`,
      })),
  );
  return [...Map.groupBy(warned, ({ text }) => text)].map(
    ([text, all]) => `${namesOf(all.map(({ walk }) => walk))}: ${text}`,
  );
}

function passed(walked: readonly Walked[]): string {
  const isSkipped = walked.some(({ findings }) =>
    findings.some(({ step, status }) => step === 'initialize' && status === 'skipped'),
  );
  return isSkipped ? 'no step fails as far as can be walked without a person' : 'no step fails';
}

function attemptsOf(attempts: readonly AttemptReport[], since: string): string {
  if (attempts.length === 0) return `No client came ${whenOf(since)}.`;
  const stopped = attempts.filter((one) => one.stopped_before !== undefined);
  const counts = Map.groupBy(stopped, (one) => `${one.client} stopped before ${one.stopped_before ?? ''}`);
  const told = [...counts].map(([text, all]) => `${text} (${all.length})`).toSorted();
  const all = attempts.length - stopped.length;
  const came = `Clients that came ${whenOf(since)}: ${attempts.length}, ${all} of them all the way`;
  return `${[came, ...told].join('; ')}.`;
}

/** `since` is a time, or how long ago. */
const whenOf = (since: string): string =>
  /^\d+[a-z]+$/i.test(since) ? `in the last ${since}` : `since ${since}`;

/** In the order of the walk, and of the clients within a step. */
function merged(walked: readonly Walked[]): StepReport[] {
  const all = new Map<string, StepReport>();
  for (const { profile, findings } of walked)
    for (const { ends: _ends, ...finding } of findings) {
      const key = JSON.stringify(finding);
      const known = all.get(key);
      if (known) known.clients.push(profile.id);
      else all.set(key, told(finding, profile.id));
    }
  return [...all.values()].toSorted((a, b) => stepIds.indexOf(a.step) - stepIds.indexOf(b.step));
}

function told(
  { step, status, requested, found, remedy }: Omit<Walked['findings'][number], 'ends'>,
  client: ClientId,
): StepReport {
  return {
    step,
    clients: [client],
    status,
    ...(requested !== undefined && { requested }),
    found,
    ...(remedy !== undefined && { remedy }),
  };
}

/** What went well is left out first, then the oldest attempts. */
function fitted(report: Diagnosis): Diagnosis {
  const size = (one: Diagnosis) => JSON.stringify(one).length;
  const max = limits.resultCharactersDefault - ENVELOPE_CHARACTERS;
  if (size(report) <= max) return report;
  const hint = [
    report.hint,
    'Left out for size: steps that went well, and attempts; client asks for one',
  ].filter(Boolean);
  const steps = report.steps.filter(({ status }) => status !== 'ok');
  let short = { ...report, steps, hint: hint.join('. ') };
  while (size(short) > max && short.attempts.length > 0)
    short = { ...short, attempts: short.attempts.slice(0, -1) };
  return short;
}
