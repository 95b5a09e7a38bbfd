/**
 * Takes away what a publication made, in the reverse of the order in which it was made: after a failure, after a crash and
 * when somebody unpublishes it. As often as it takes; what is gone already is done.
 */
import { messageOf } from '../core/errors.ts';
import { writeDebug, type Log } from '../core/record.ts';
import type { Clock } from '../core/clock.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Database } from '../store/database.ts';
import type { PublishingPorts } from './ports.ts';
import { type PublicationRecord, removeRecord } from './record.ts';
import type { StepName } from './schema.ts';

export interface PublishingParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly ports: PublishingPorts;
}

export interface Settled {
  readonly undone: string[];
  /** With why; not empty: the record stays, and it is tried again. */
  readonly left: string[];
}

/** The record goes with the last thing that it made. */
export async function settle(parts: PublishingParts, record: PublicationRecord): Promise<Settled> {
  const settled: Settled = { undone: [], left: [] };
  const undo = async (what: string, isBegun: boolean, work: () => Promise<void>): Promise<void> => {
    if (!isBegun) return;
    try {
      await work();
      settled.undone.push(what);
    } catch (cause) {
      settled.left.push(`${what}: ${cleanText(messageOf(cause))}`);
    }
  };
  const { ports } = parts;
  const { hostname, service, steps } = record;
  const begun = (step: StepName): boolean => steps.includes(step);
  await undo('proxy', begun('proxy'), () => ports.proxies.remove(hostname, record.proxy_id));
  await undo('certificate', begun('enable'), () => discardCertificates(parts, record));
  await undo('service', begun('service') && !record.keep_service, () =>
    ports.services.remove(service, record.service_id, volumesToGo(record)),
  );
  if (settled.left.length > 0) return settled;
  await parts.database.change({}, (tx) => removeRecord(tx, record));
  writeDebug(parts, 'services', () => ({ message: `${hostname}: ${record.state} is finished` }));
  return settled;
}

/** What was published keeps its volumes, unless somebody says otherwise; of what never was nothing stays. */
export const volumesToGo = ({ state, made_volumes, delete_volumes }: PublicationRecord): string[] =>
  state === 'unpublishing' && !delete_volumes ? [] : made_volumes;

/** Where another proxy has the hostname by now, they are that one's. */
async function discardCertificates({ ports }: PublishingParts, record: PublicationRecord): Promise<void> {
  const { hostname, proxy_id, certificates_before } = record;
  const id = await ports.proxies.idOf(hostname);
  if (id !== undefined && id !== proxy_id) return;
  await ports.certificates.discard(hostname, certificates_before);
}
