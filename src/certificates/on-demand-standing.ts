/** How a name below a wildcard stands with certificates on demand, as it is told. Pure: nobody is asked for it. */
import { z } from 'zod';
import { timestamp, toTimestamp } from '../core/collection.ts';
import type { Limit } from './budget.ts';

export const onDemandSchema = z.object({
  wildcard: z.string().describe('Under which it is served'),
  on: z.boolean().describe('Whether one is ordered when somebody comes for the name now'),
  why_not: z.string().optional(),
  ask: z
    .object({
      answer: z.enum(['allowed', 'refused', 'silent']).describe('silent: it gave none, which is a no'),
      at: timestamp,
    })
    .optional()
    .describe(
      'What the service of acme.on_demand.ask said of this name when it was last asked; absent: not asked since the start, or there is none',
    ),
  budgets: z
    .array(z.object({ what: z.string(), left: z.int(), has_room_at: timestamp.optional() }))
    .describe('Orders that are left'),
});
export type OnDemandReport = z.output<typeof onDemandSchema>;

/** Why a name gets none for a time, though it came before. */
export type Pause = 'refused' | 'silent' | 'failed' | 'no_room';

export interface Answer {
  readonly answer: 'allowed' | 'refused' | 'silent';
  readonly at: number;
}

export interface Budget {
  readonly limit: Limit;
  readonly used: number;
  readonly roomAt: number;
}

export interface Standing {
  readonly wildcard: string;
  /** What the settings say against it; undefined: nothing. */
  readonly off: string | undefined;
  readonly answer: Answer | undefined;
  readonly pause: { readonly why: Pause; readonly until: number } | undefined;
  /** Until an order may be made in this minute, 0: now. */
  readonly minuteWaitMs: number;
  readonly isCrowded: boolean;
  readonly budgets: readonly Budget[];
}

const PAUSES: Readonly<Record<Pause, string>> = {
  refused: 'the service of acme.on_demand.ask refuses the name',
  silent: 'the service of acme.on_demand.ask gave no answer, which is a no',
  failed: 'the last order failed',
  no_room: 'a budget was used up',
};

/** `isSeen`: whether how much others used of this limit may be told. */
export function onDemandReport(
  standing: Standing,
  { now, isSeen }: { now: number; isSeen: (limit: Limit) => boolean },
): OnDemandReport {
  const { wildcard, answer, budgets } = standing;
  const why = whyNot(standing, now, isSeen);
  return {
    wildcard,
    on: why === undefined,
    ...(why !== undefined && { why_not: why }),
    ...(answer && { ask: { answer: answer.answer, at: toTimestamp(answer.at) } }),
    budgets: budgets
      .filter(({ limit }) => isSeen(limit))
      .map(({ limit, used, roomAt }) => ({
        what: `${limit.what} (${limit.allowed})`,
        left: Math.max(0, limit.allowed - used),
        ...(roomAt > now && { has_room_at: toTimestamp(roomAt) }),
      })),
  };
}

function whyNot(
  { off, pause, minuteWaitMs, isCrowded, budgets }: Standing,
  now: number,
  isSeen: (limit: Limit) => boolean,
): string | undefined {
  if (off !== undefined) return off;
  if (pause && pause.until > now)
    return `${PAUSES[pause.why]}; it is looked at again at ${toTimestamp(pause.until)}`;
  const full = budgets.find(({ roomAt }) => roomAt > now);
  // How full it is, and until when, tells what others ordered.
  if (full && !isSeen(full.limit)) return 'a limit that is shared with hostnames of others is used up';
  if (full)
    return `no more than ${full.limit.allowed} ${full.limit.what} are allowed; there is room again at ${toTimestamp(full.roomAt)}`;
  if (minuteWaitMs > 0)
    return `the orders of this minute are used up (acme.on_demand.per_minute, half of it below one wildcard); there is room again at ${toTimestamp(now + minuteWaitMs)}`;
  return isCrowded ? 'too many names are waited for at once' : undefined;
}
