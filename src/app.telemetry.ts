/** The part of the composition root that sends spans, log records and metrics to a collector, where one is set. */
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import { lookupDialable, lookupOwn } from './core/dial.ts';
import type { LogSink } from './logs/sink.ts';
import { createOutbound } from './outbound.ts';
import { otlpSettings } from './app.settings.ts';
import { openTelemetry, type Telemetry } from './telemetry/telemetry.ts';

export interface TelemetryBase {
  readonly clock: Clock;
  readonly log: LogSink;
  readonly version: string;
}

export async function openOtlp(
  config: Config,
  { clock, log, version }: TelemetryBase,
  stack: AsyncDisposableStack,
): Promise<Telemetry | undefined> {
  const settings = otlpSettings(config);
  if (!settings) return undefined;
  const isEncrypted = new URL(settings.endpoint).protocol === 'https:';
  const lookup = isEncrypted ? lookupDialable : lookupOwn;
  const fetch = stack.use(createOutbound({ lookup, ca: settings.ca }));
  const report = (level: 'info' | 'warn', message: string) =>
    log.write({ time: clock.now(), kind: 'system', level, component: 'system', message });
  const telemetry = stack.use(await openTelemetry({ settings, clock, version, fetch, report }));
  if (telemetry.takeRecord) log.copyTo(telemetry.takeRecord);
  return telemetry;
}
