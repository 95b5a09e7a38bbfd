/** Several targets of one proxy: how that is written, and which they are. Choosing among them is the gateway's. */
import { z } from 'zod';
import { timestamp } from '../core/collection.ts';
import { targetUrl } from './target-url.ts';

/** Which of them a request has tried is kept in the bits of one number. */
const MAX_TARGETS = 16;
const MAX_WEIGHT = 100;
const MAX_TRIES = 5;
const DEFAULT_TRIES = 3;
const DEFAULT_BUDGET_PERCENT = 20;
const ALL_PERCENT = 100;

const retries = z.strictObject({
  tries: z
    .int()
    .min(1)
    .max(MAX_TRIES)
    .default(DEFAULT_TRIES)
    .describe('Targets that one request may be tried at; 1: none but the first'),
  budget_percent: z
    .int()
    .min(0)
    .max(ALL_PERCENT)
    .default(DEFAULT_BUDGET_PERCENT)
    .describe('Of requests, how many may be sent a second time after a target got them'),
});

export const loadBalancing = z.strictObject({
  targets: z
    .array(
      z.strictObject({
        url: targetUrl,
        weight: z.int().min(1).max(MAX_WEIGHT).default(1).describe('Share of the requests'),
        drain: z.boolean().default(false).describe('true: nothing new; what is open goes on'),
      }),
    )
    .min(1)
    .max(MAX_TARGETS - 1)
    .describe('Besides target_url, which may be listed for its weight and drain'),
  policy: z.enum(['round_robin', 'least_connections']).default('round_robin').describe('Who gets the next'),
  retries: retries.prefault({}),
});
export type LoadBalancing = z.output<typeof loadBalancing>;
export type BalancedTarget = LoadBalancing['targets'][number];

interface Balanced {
  readonly target_url: string;
  readonly load_balancing?: LoadBalancing | undefined;
}

/** All of them, each once, `target_url` among them. */
export function targetsOf({ target_url, load_balancing }: Balanced): readonly BalancedTarget[] {
  const own = { url: target_url, weight: 1, drain: false };
  const targets = load_balancing?.targets ?? [];
  return targets.some(({ url }) => isSameTarget(url, target_url)) ? targets : [own, ...targets];
}

/** Why they can't be served together; undefined when they can. */
export function targetsFault(proxy: Balanced): string | undefined {
  const targets = targetsOf(proxy);
  const twice = targets.find(
    ({ url }, i) => targets.findIndex((other) => isSameTarget(other.url, url)) !== i,
  );
  if (twice) return `targets: ${twice.url} is there twice; give it a weight instead`;
  return targets.every(({ drain }) => drain)
    ? 'targets: every target is drained, so that none is left; to stop serving the hostname, set enabled: false'
    : undefined;
}

const isSameTarget = (one: string, other: string): boolean => new URL(one).href === new URL(other).href;

/** How one of several targets stands. */
export const targetState = z.object({
  url: z.string(),
  state: z
    .enum(['healthy', 'unhealthy', 'trial', 'drained'])
    .describe('unhealthy: gets nothing for a time; trial: the next request decides; drained: by its setting'),
  reason: z.string().optional().describe('What it failed by'),
  since: timestamp,
  open_requests: z.int(),
});
export type TargetState = z.output<typeof targetState>;
