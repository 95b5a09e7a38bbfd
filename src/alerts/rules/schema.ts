/**
 * Rules as they are written in the settings: when something is wrong, for how long before it is told, and from where on it
 * is over. Read by `config/alerts.ts`; what follows from them is decided in `judge.ts`.
 */
import { z } from 'zod';
import { parseHostnamePattern } from '../../core/hostname.ts';

const MAX_RULES = 50;
const MAX_PATTERNS = 100;
const MAX_PATTERN = 255;
const DAY_MINUTES = 24 * 60;
/** Counts are kept by the minute; a longer window would see nothing before it is late. */
const MAX_WINDOW_MINUTES = 60;
const MAX_COUNT = 1_000_000;
const MAX_MS = 600_000;
const MAX_DAYS = 397;
const PERCENT = 100;
const MAX_BYTES = 2 ** 50;

const minutes = (usual: number) => z.int().min(0).max(DAY_MINUTES).default(usual);
const percent = z.number().min(0).max(PERCENT);
const count = z.int().min(0).max(MAX_COUNT);
const bytes = z.int().min(0).max(MAX_BYTES);

const hostnames = z
  .array(
    z
      .string()
      .max(MAX_PATTERN)
      .refine(
        (text) => parseHostnamePattern(text) !== undefined,
        'has to be a hostname such as app.example.com, or *.example.com for all below it',
      )
      .overwrite((text) => parseHostnamePattern(text) ?? text),
  )
  .min(1)
  .max(MAX_PATTERNS)
  .optional()
  .describe('Only these; absent: all');

const windowMinutes = z
  .int()
  .min(1)
  .max(MAX_WINDOW_MINUTES)
  .default(5)
  .describe('What is counted together: the whole minutes before now');

/** Of every rule. */
const common = {
  name: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/, 'has to be 1 to 40 of a-z, 0-9 and - inside')
    .describe('Of this rule and no other; what was raised belongs to it'),
  level: z.enum(['warn', 'error']).default('warn'),
  for_minutes: minutes(2).describe('It has to hold this long before it is told'),
  resolve_after_minutes: minutes(10).describe('It has to be well this long before it is over'),
};

const ofTraffic = {
  ...common,
  hostnames,
  per: z.enum(['hostname', 'all']).default('hostname').describe('Each hostname by itself, or all together'),
  window_minutes: windowMinutes,
  min_requests: count.min(1).default(20).describe('With fewer in the window nothing begins'),
};

interface Bounds {
  readonly bound: number | undefined;
  readonly clear: number | undefined;
}

/** What is over before it has begun, or would begin again at once, is no rule. */
const refuseWrong =
  <Rule>(field: string, boundsOf: (rule: Rule) => Bounds, isRising = true) =>
  ({ value, issues }: { value: Rule; issues: z.core.$ZodRawIssue[] }): void => {
    const { bound, clear } = boundsOf(value);
    if (bound === undefined || clear === undefined || (isRising ? clear <= bound : clear >= bound)) return;
    const message = `has to be ${isRising ? 'at most' : 'at least'} ${bound}, where it begins`;
    issues.push({ code: 'custom', input: clear, path: [field], message });
  };

/** Of two ways to say it, one. */
const onlyOne =
  <Rule extends object>(one: keyof Rule & string, other: keyof Rule & string) =>
  ({ value, issues }: { value: Rule; issues: z.core.$ZodRawIssue[] }): void => {
    if ((value[one] === undefined) !== (value[other] === undefined)) return;
    const message = `needs exactly one of ${one} and ${other}`;
    issues.push({ code: 'custom', input: value, path: ['when'], message });
  };

const serverErrors = z
  .strictObject({
    when: z.literal('server_errors'),
    ...ofTraffic,
    above_percent: percent.optional().describe('Of the requests, answered with 5xx'),
    clear_percent: percent.optional().describe('Absent: half of it'),
    above_per_minute: count.optional().describe('Answers with 5xx in a minute, in place of a share'),
    clear_per_minute: count.optional().describe('Absent: half of it'),
  })
  .check(
    onlyOne('above_percent', 'above_per_minute'),
    refuseWrong('clear_percent', ({ above_percent: bound, clear_percent: clear }) => ({ bound, clear })),
    refuseWrong('clear_per_minute', ({ above_per_minute: bound, clear_per_minute: clear }) => ({
      bound,
      clear,
    })),
  );

const latency = z
  .strictObject({
    when: z.literal('latency'),
    ...ofTraffic,
    percentile: z.enum(['p50', 'p95', 'p99']).default('p95'),
    above_ms: z.int().min(1).max(MAX_MS),
    clear_ms: z.int().min(0).max(MAX_MS).optional().describe('Absent: four fifths of it'),
  })
  .check(refuseWrong('clear_ms', ({ above_ms: bound, clear_ms: clear }) => ({ bound, clear })));

const certificateExpiry = z.strictObject({
  when: z.literal('certificate_expiry'),
  ...common,
  for_minutes: minutes(0),
  resolve_after_minutes: minutes(0),
  hostnames,
  days: z.int().min(1).max(MAX_DAYS).describe('A certificate in use ends in so many days or fewer'),
});

const authFailures = z
  .strictObject({
    when: z.literal('auth_failures'),
    ...common,
    for_minutes: minutes(0),
    hostnames,
    by: z
      .enum(['client_address', 'principal', 'hostname'])
      .default('client_address')
      .describe('Whose refusals are counted together: 401 and 403 of this system, not of targets'),
    window_minutes: windowMinutes,
    above_count: count.min(1),
    clear_count: count.optional().describe('Absent: half of it'),
  })
  .check(refuseWrong('clear_count', ({ above_count: bound, clear_count: clear }) => ({ bound, clear })));

const disk = z
  .strictObject({
    when: z.literal('disk'),
    ...common,
    below_bytes: bytes.optional().describe('Free for data_dir'),
    clear_bytes: bytes.optional().describe('Absent: a quarter more'),
    below_percent: percent.optional().describe('Free of the file system, in place of bytes'),
    clear_percent: percent.optional().describe('Absent: a quarter more'),
  })
  .check(
    onlyOne('below_bytes', 'below_percent'),
    refuseWrong('clear_bytes', ({ below_bytes: bound, clear_bytes: clear }) => ({ bound, clear }), false),
    refuseWrong(
      'clear_percent',
      ({ below_percent: bound, clear_percent: clear }) => ({ bound, clear }),
      false,
    ),
  );

const droppedRecords = z.strictObject({
  when: z.literal('dropped_records'),
  ...common,
  for_minutes: minutes(0),
  window_minutes: windowMinutes,
  above_count: count.default(0).describe('Log records that were lost in the window'),
});

const targetsDown = z.strictObject({
  when: z.literal('targets_down'),
  ...common,
  hostnames,
  above_percent: percent
    .max(PERCENT - 1)
    .default(0)
    .describe('Of the targets of a hostname that has several, unhealthy; 0: any'),
});

export const ruleSchema = z.discriminatedUnion('when', [
  serverErrors,
  latency,
  certificateExpiry,
  authFailures,
  disk,
  droppedRecords,
  targetsDown,
]);
export type Rule = z.output<typeof ruleSchema>;
export type RuleOf<When extends Rule['when']> = Extract<Rule, { when: When }>;

export const rulesSchema = z
  .array(ruleSchema)
  .max(MAX_RULES)
  .default([])
  .check(({ value, issues }) => {
    for (const [index, { name }] of value.entries())
      if (value.findIndex((other) => other.name === name) !== index)
        issues.push({
          code: 'custom',
          input: name,
          path: [index, 'name'],
          message: 'is the name of another rule as well',
        });
  });

const MIB = 1024 ** 2;

const usual = {
  disk: [
    { when: 'disk', name: 'disk-low', below_bytes: 1024 * MIB },
    { when: 'disk', name: 'disk-full', below_bytes: 64 * MIB, level: 'error', for_minutes: 0 },
  ],
  dropped_records: [{ when: 'dropped_records', name: 'records-lost' }],
} as const;

/** With what is watched without a word in the settings; a rule of a person's own takes the place of one of its name. */
export function withUsual(
  rules: readonly Rule[],
  isOn: Readonly<Record<keyof typeof usual, boolean>>,
): readonly Rule[] {
  const all = [...(isOn.disk ? usual.disk : []), ...(isOn.dropped_records ? usual.dropped_records : [])];
  const own = new Set(rules.map(({ name }) => name));
  return [...rules, ...all.filter(({ name }) => !own.has(name)).map((rule) => ruleSchema.parse(rule))];
}
