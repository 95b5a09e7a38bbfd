/** Several targets of one proxy: how that is written, and which they are. Choosing among them is the gateway's. */
import { z } from 'zod';
import { DAY, HOUR, MINUTE, SECOND } from '../core/clock.ts';
import { timestamp } from '../core/collection.ts';
import { isSiteCookie } from '../core/site-cookies.ts';
import { normalTarget, targetUrl } from './target-url.ts';

/** Which of them a request has tried is kept in the bits of one number. */
const MAX_TARGETS = 16;
const MAX_WEIGHT = 100;
const MAX_TRIES = 5;
const DEFAULT_TRIES = 3;
const DEFAULT_BUDGET_PERCENT = 20;
const MAX_PATH = 1024;
/** Printable, and no fragment, which is never sent. */
const REQUEST_PATH = /^\/[\x21\x22\x24-\x7e]*$/;
const MAX_STATUSES = 20;
const FIRST_FINAL = 200;
const LAST_STATUS = 599;
const MAX_CHECKS = 10;
const UNHEALTHY_AFTER = 3;
const HEALTHY_AFTER = 2;
const ALL_PERCENT = 100;
/** No upstream sees it, as none of our own. */
const STICKY_COOKIE = 'ohp-target';
const MAX_COOKIE = 64;
const COOKIE_NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/i;
/** Browsers keep none for longer. @see RFC 6265bis §5.5 */
const LONGEST_COOKIE_DAYS = 400;

// Refinements, as in `schema.ts`: every limit would be repeated in two schemas that a model reads.
const whole = (least: number, most: number) =>
  z.int().refine((number) => number >= least && number <= most, `has to be ${least} to ${most}`);

const retries = z.strictObject({
  tries: whole(1, MAX_TRIES).default(DEFAULT_TRIES).describe('Targets for one request'),
  budget_percent: whole(0, ALL_PERCENT)
    .default(DEFAULT_BUDGET_PERCENT)
    .describe('Of requests, sent a second time at most'),
});

const healthCheck = z.strictObject({
  path: z
    .string()
    .max(MAX_PATH)
    .refine((text) => REQUEST_PATH.test(text), 'has to be a path such as /health')
    .default('/'),
  interval_ms: whole(SECOND, HOUR).default(10 * SECOND),
  timeout_ms: whole(1, MINUTE).default(5 * SECOND),
  statuses: z
    .array(whole(FIRST_FINAL, LAST_STATUS))
    .max(MAX_STATUSES)
    .default([])
    .describe('Empty: 200 to 399'),
  unhealthy_after: whole(1, MAX_CHECKS).default(UNHEALTHY_AFTER),
  healthy_after: whole(1, MAX_CHECKS).default(HEALTHY_AFTER),
});
export type HealthCheck = z.output<typeof healthCheck>;

const sticky = z.strictObject({
  cookie: z
    .string()
    .max(MAX_COOKIE)
    .refine((name) => COOKIE_NAME.test(name), 'has to be 1 to 64 letters, digits, _ and -')
    .refine((name) => name === STICKY_COOKIE || !isSiteCookie(name), 'is the name of a cookie of this system')
    .default(STICKY_COOKIE),
  /** Absent: until the browser closes. */
  max_age_seconds: whole(1, (LONGEST_COOKIE_DAYS * DAY) / SECOND).optional(),
});
export type Sticky = z.output<typeof sticky>;

export const loadBalancing = z.strictObject({
  targets: z
    .array(
      z.strictObject({
        url: targetUrl,
        weight: whole(1, MAX_WEIGHT).default(1),
        drain: z.boolean().default(false).describe('true: nothing new'),
      }),
    )
    .min(1)
    .max(MAX_TARGETS - 1)
    .describe('Besides target_url, which may be listed too'),
  policy: z.enum(['round_robin', 'least_connections']).default('round_robin'),
  retries: retries.prefault({}),
  sticky: sticky.optional().describe('{}: browsers stay with a target, by a cookie'),
  health_check: healthCheck.optional().describe('Absent: only requests tell'),
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

export const isSameTarget = (one: string, other: string): boolean =>
  normalTarget(one) === normalTarget(other);

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
