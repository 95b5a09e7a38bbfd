/** The part of the composition root that sets up where alerts are told, and what is watched by rules. */
import type { Channel } from './alerts/channel.ts';
import { webhookChannel } from './alerts/webhook.ts';
import { webhookOf } from './app.settings.ts';
import type { Config } from './config/config.ts';

export interface ChannelParts {
  /** For services that settings name. */
  readonly fetch: typeof globalThis.fetch;
}

export function channelsOf(config: Config, { fetch }: ChannelParts): Channel[] {
  const webhook = webhookOf(config);
  return webhook ? [webhookChannel(webhook, fetch)] : [];
}
