/** Settings of a service as an update leaves them. */
import { changesIn } from '../core/collection.ts';
import { type KeptSettings, keptSettings, type ServiceChanges } from './schema.ts';

/** Of the environment only what is named changes; null takes a variable off. */
export function changedSettings(
  settings: KeptSettings,
  { environment, ...changes }: ServiceChanges,
): KeptSettings {
  const merged = Object.entries({ ...settings.environment, ...environment }).filter(
    ([, value]) => value !== null,
  );
  return keptSettings.parse({
    ...settings,
    ...changesIn('update_service', { ...changes, ...(environment && { environment: {} }) }),
    environment: Object.fromEntries(merged),
  });
}
