/**
 * What real clients did, read from access records: how far each came, and before what it stopped. A person's browser
 * comes between registration and token, with an agent of its own: it is told by its time. Pure.
 */
import { BlockList, isIPv6 } from 'node:net';
import { MINUTE } from '../core/clock.ts';
import { cleanText } from '../core/untrusted.ts';
import { DISCOVERY, INTERACTION_PREFIX, PATHS } from '../oauth/paths.ts';
import { METADATA_PATH } from '../routes/own.ts';
import { type Profile, profiles } from './profiles.ts';
import { type AttemptReport, type AttemptStage, attemptStages } from './schema.ts';
import { WALK_AGENT } from './wire.ts';

/** As long as a person has for a sign-in. */
const PERSON_MS = 10 * MINUTE;
const MAX_TRACES = 2;
const MAX_AGENT = 80;
const MAX_LAST = 120;

/** Of a record of the log, what is looked at. Text in it is cleaned already. */
export interface AccessRecord {
  readonly time: string;
  readonly hostname?: string | undefined;
  readonly method?: string | undefined;
  readonly path?: string | undefined;
  readonly status?: number | undefined;
  readonly client_address?: string | undefined;
  readonly user_agent?: string | undefined;
  readonly trace_id?: string | undefined;
  readonly detail?: Readonly<Record<string, unknown>> | undefined;
}

export interface Place {
  readonly hostname: string;
  readonly path: string;
  readonly issuerHostname: string;
}

interface Event {
  readonly record: AccessRecord;
  readonly at: number;
  readonly stage: AttemptStage | undefined;
}

/** Newest first. */
export function attemptsIn(records: readonly AccessRecord[], place: Place): AttemptReport[] {
  const events = records
    .filter(({ user_agent }) => user_agent !== WALK_AGENT)
    .map((record) => ({ record, at: Date.parse(record.time), stage: stageOf(record, place) }))
    .toSorted((a, b) => a.at - b.at || compare(a.record.trace_id, b.record.trace_id));
  const isPersons = ({ stage }: Event) => stage === 'authorize' || stage === 'consent';
  const persons = events.filter(isPersons);
  const byClient = Map.groupBy(
    events.filter((event) => !isPersons(event) && isOfClient(event, place)),
    keyOf,
  );
  return [...byClient.values()]
    .flatMap((own) => attemptOf(own, persons) ?? [])
    .toSorted((a, b) => compare(b.last_at, a.last_at) || compare(a.user_agent, b.user_agent));
}

const compare = (a = '', b = ''): number => (a < b ? -1 : a > b ? 1 : 0);

/** A browser that looks at pages is nobody's attempt. */
const isOfClient = ({ stage, record }: Event, { path }: Place): boolean =>
  stage !== undefined ||
  record.path === path ||
  record.path === PATHS.registration ||
  record.path === PATHS.token;

/** What is asked of the authorization server, and of what is protected; refusals of these lead nobody on. */
interface Way {
  readonly stage: AttemptStage;
  readonly isAt: (path: string, method: string | undefined) => boolean;
}

const ofIssuer: readonly Way[] = [
  { stage: 'authorize', isAt: (path, method) => path === PATHS.authorization && method === 'GET' },
  {
    stage: 'consent',
    isAt: (path) => path.startsWith(INTERACTION_PREFIX) && path.endsWith('/consent'),
  },
  { stage: 'registration', isAt: (path, method) => path === PATHS.registration && method === 'POST' },
  { stage: 'token', isAt: (path) => path === PATHS.token },
  { stage: 'issuer', isAt: (path) => DISCOVERY.some((known) => path.startsWith(known)) },
];
const ofResource: Way = { stage: 'resource_metadata', isAt: (path) => path.startsWith(METADATA_PATH) };

function stageOf(record: AccessRecord, place: Place): AttemptStage | undefined {
  const { path = '', hostname, method, status = 0 } = record;
  const ways = [
    ...(hostname === place.issuerHostname ? ofIssuer : []),
    ...(hostname === place.hostname ? [ofResource] : []),
  ];
  const way = ways.find(({ isAt }) => isAt(path, method));
  if (way) return status >= 200 && status < 400 ? way.stage : undefined;
  const isAtUrl = hostname === place.hostname && withoutSlash(path) === withoutSlash(place.path);
  return isAtUrl ? useOf(record) : undefined;
}

const withoutSlash = (path: string): string =>
  path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;

function useOf({ status = 0, detail, method }: AccessRecord): AttemptStage | undefined {
  if (status === 401) return 'challenge';
  if (status < 200 || status >= 300 || method !== 'POST') return undefined;
  // Of a target's own endpoint the message is not known: that it was let through is.
  return detail?.['method'] === 'tools/list' || detail?.['method'] === 'tools/call'
    ? 'tools_list'
    : 'initialize';
}

const profileOf = (agent: string): Profile | undefined => profiles.find(({ agents }) => agents.test(agent));

/** Those of one maker come from many of its addresses. */
function keyOf({ record: { user_agent: agent = '', client_address: address = '' } }: Event): string {
  const profile = profileOf(agent);
  return JSON.stringify([agent, profile && isFrom(profile, address) ? profile.id : address]);
}

function isFrom({ egress }: Profile, address: string): boolean {
  const list = new BlockList();
  for (const [network, bits] of egress) list.addSubnet(network, bits, isIPv6(network) ? 'ipv6' : 'ipv4');
  return list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

const rank = (stage: AttemptStage): number => attemptStages.indexOf(stage);

function attemptOf(own: readonly Event[], persons: readonly Event[]): AttemptReport | undefined {
  const furthest = own.reduce<Event | undefined>(
    (best, event) =>
      event.stage !== undefined && rank(event.stage) >= rank(best?.stage ?? 'challenge') ? event : best,
    undefined,
  );
  const last = own.at(-1);
  if (!furthest?.stage || !last) return undefined;
  const reached = withPerson({ ...furthest, stage: furthest.stage }, persons);
  const { user_agent: agent = '', client_address: address = '', method, path, status } = last.record;
  const profile = profileOf(agent);
  const next = attemptStages[rank(reached) + 1];
  return {
    client: profile?.id ?? 'other',
    user_agent: cleanText(agent, MAX_AGENT),
    client_address: address,
    from_vendor: profile !== undefined && isFrom(profile, address),
    requests: own.length,
    reached,
    ...(next !== undefined && { stopped_before: next }),
    last: cleanText(`${method ?? ''} ${path ?? ''} ${status ?? ''}`, MAX_LAST),
    last_at: last.record.time,
    trace_ids: own
      .flatMap(({ record }) => record.trace_id ?? [])
      .toReversed()
      .slice(0, MAX_TRACES),
  };
}

/** After registering, it is the person's browser that goes on, or does not. */
function withPerson({ stage, at }: Event & { stage: AttemptStage }, persons: readonly Event[]): AttemptStage {
  if (stage !== 'registration' && stage !== 'issuer') return stage;
  const later = persons.filter((event) => event.at >= at && event.at - at <= PERSON_MS);
  if (later.some((event) => event.stage === 'consent')) return 'consent';
  return later.length > 0 ? 'authorize' : stage;
}
