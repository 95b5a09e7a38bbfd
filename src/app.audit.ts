/** The audit trail with what it stands on: its key, the log behind it, who watches over it. */
import type { AlertService } from './alerts/service.ts';
import { Anchor, type AnchorParts } from './audit/anchor.ts';
import { AuditService } from './audit/service.ts';
import { folderIn, Trail } from './audit/trail.ts';
import { AuditWatch } from './audit/watch.ts';
import type { Config } from './config/config.ts';
import { deriveKey } from './config/secrets.ts';
import type { Clock } from './core/clock.ts';
import type { Log } from './core/record.ts';

interface Ground {
  dataDir: string;
  masterKey: Buffer;
  clock: Clock;
  /** Where records go behind the trail. */
  log: Log;
}

export const trailKeyOf = (masterKey: Buffer): Buffer => deriveKey(masterKey, 'audit trail');

export const openTrail = ({ dataDir, masterKey, clock, log }: Ground): Trail =>
  new Trail({ folder: folderIn(dataDir), key: trailKeyOf(masterKey), clock, log });

/** Started already. */
export async function watchTrail(
  { audit }: Pick<Config, 'audit'>,
  parts: AnchorParts & { clock: Clock; alerts: Pick<AlertService, 'reconcile'> },
): Promise<{ service: AuditService; watch: AuditWatch }> {
  const { trail, clock, alerts } = parts;
  const service = new AuditService(trail, clock);
  const anchor = new Anchor(parts);
  // Where it can't be now, the sweep tries again, and tells.
  await anchor.check().catch(() => undefined);
  const watch = new AuditWatch({
    clock,
    log: trail,
    state: () => trail.state(),
    sweep: async () => {
      await anchor.check();
      service.sweep(audit.retention_days);
      await anchor.write();
    },
    alertBytes: audit.alert_bytes,
    tell: (current) => alerts.reconcile('audit', current),
  });
  watch.start();
  return { service, watch };
}
