/** Where alerts are told besides the log: the port that `webhook.ts` and `mail.ts` fill. */
export const channelNames = ['webhook', 'email'] as const;
export type ChannelName = (typeof channelNames)[number];

export interface ChannelMessage {
  /** The same for every attempt: the receiver knows it again. */
  readonly id: string;
  /** JSON, as `bodyOf` makes it. */
  readonly body: string;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly signal: AbortSignal;
}

/** Why it has not arrived, in words without an address that may hold a secret. */
export interface Fault {
  readonly why: string;
  /** Another attempt would end the same way. */
  readonly isFinal?: boolean;
}

export interface Channel {
  readonly name: ChannelName;
  /** Undefined when it has arrived. Never throws. */
  send(message: ChannelMessage): Promise<Fault | undefined>;
}
