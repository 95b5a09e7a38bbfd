/**
 * Who may change where a name leads while requests of proxies and routes go there: who may change the targets of these, for
 * it comes to the same. Else a credential for services alone would have visitors, and what identifies them, sent anywhere.
 */
import { isDeepStrictEqual } from 'node:util';
import { AppError } from '../core/errors.ts';
import type { Permission } from '../core/permissions.ts';
import { mayTouch, type Principal } from '../core/principal.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Reader } from '../store/database.ts';
import type { ServiceRecord } from './record.ts';
import { type KeptSettings, keptSettings } from './schema.ts';
import { haveSecretsStayed } from './secrets.ts';
import { MAX_TOLD, type Place, usersOf } from './targets.ts';

/** How much of it there is, and when: whatever they say, the same program answers. */
const AMOUNTS: ReadonlySet<keyof KeptSettings> = new Set([
  'memory_bytes',
  'cpus',
  'pids',
  'restart',
  'stop_timeout_ms',
  'replicas',
  'rolling_update',
] as const);

/** What of a change may be reached. */
export interface Answering {
  readonly name: string;
  /** Where it is reached besides by its name. */
  readonly places: readonly Place[];
  /** Services whose files it may write: what they answer is up to it as well. */
  readonly others: readonly { readonly name: string; readonly places: readonly Place[] }[];
}

/** @throws AppError FORBIDDEN when somebody else might answer then. */
export async function requireMayAnswer(
  db: Reader,
  change: Answering & {
    readonly record: ServiceRecord;
    readonly settings: KeptSettings;
    /** The same reference may be another program by now. */
    readonly isImageAnother?: boolean;
  },
  principal: Principal,
): Promise<void> {
  const { record, settings, isImageAnother = false } = change;
  const isTheSame = (name: keyof KeptSettings) =>
    AMOUNTS.has(name) || isDeepStrictEqual(record.settings[name], settings[name]);
  const areTheSame = !isImageAnother && keptSettings.keyof().options.every(isTheSame);
  if (areTheSame && (await haveSecretsStayed(db, record))) return;
  await requireMayLeadAll(db, change, principal);
}

/** @throws AppError FORBIDDEN with what is missing. */
export async function requireMayLeadAll(
  db: Reader,
  { name, places, others }: Answering,
  principal: Principal,
): Promise<void> {
  await requireMayLead(db, name, principal, places);
  for (const other of others) await requireMayLead(db, other.name, principal, other.places);
}

/** @param places where it is reached besides by its name @throws AppError FORBIDDEN with what is missing. */
export async function requireMayLead(
  db: Reader,
  service: string,
  principal: Principal,
  places: readonly Place[] = [],
): Promise<void> {
  const { proxies, routes } = await usersOf(db, service, places);
  refuse(principal, service, 'proxies:write', proxies);
  refuse(principal, service, 'routes:write', routes);
}

function refuse(
  principal: Principal,
  service: string,
  required: Permission,
  users: readonly { name: string; hostname: string | null }[],
): void {
  const held = principal.permissions.has(required);
  const others = users.filter(({ hostname }) => !held || !mayChange(principal, hostname));
  if (others.length === 0) return;
  const told = others.slice(0, MAX_TOLD).map(({ name }) => cleanText(name));
  throw new AppError(
    'FORBIDDEN',
    `requests of ${told.join(', ')} go to the service ${service}: to change where it leads, or what it answers, needs what changing their targets needs, the permission ${required}`,
    { details: { required } },
  );
}

/** A route of every hostname is for who is confined to none. */
const mayChange = (principal: Principal, hostname: string | null): boolean =>
  hostname === null ? principal.hostnames === undefined : mayTouch(principal, hostname);
