import { forward } from '../forward.ts';
import type { Transit } from '../transit.ts';
import { forwardUpgrade } from '../upgrade.ts';

export function forwardProxied(transit: Transit): boolean {
  const { match, core } = transit;
  if (!match) return false;
  forward(transit, core.snapshots.planOf(match));
  return true;
}

export function forwardUpgraded(transit: Transit): boolean {
  const { match, core, upgrade } = transit;
  if (!match || !upgrade) return false;
  forwardUpgrade(transit, core.snapshots.planOf(match), upgrade);
  return true;
}
