/** What a diagnosis tells. Text of answers and of log records is a stranger's: cleaned and cut before it is here. */
import { z } from 'zod';

/** In the order in which a client takes them. */
export const stepIds = [
  'served',
  'reach',
  'preflight',
  'challenge',
  'resource_metadata',
  'resource',
  'issuer',
  'pkce',
  'registration',
  'authorize',
  'expired_token',
  'token',
  'refresh',
  'initialize',
] as const;
export type StepId = (typeof stepIds)[number];

export const clientIds = ['claude', 'chatgpt', 'vscode', 'cursor', 'inspector'] as const;
export type ClientId = (typeof clientIds)[number];

const stepSchema = z.object({
  step: z.enum(stepIds),
  clients: z.array(z.enum(clientIds)).describe('For which this was found'),
  status: z
    .enum(['ok', 'warning', 'failed', 'skipped'])
    .describe('skipped: not walked, found says why (such as that it needs a person)'),
  requested: z.string().optional(),
  found: z.string(),
  remedy: z.string().optional(),
});
export type StepReport = z.output<typeof stepSchema>;

/** How far a client came, by what it asked for. */
export const attemptStages = [
  'challenge',
  'resource_metadata',
  'issuer',
  'registration',
  'authorize',
  'consent',
  'token',
  'initialize',
  'tools_list',
] as const;
export type AttemptStage = (typeof attemptStages)[number];

const attemptSchema = z.object({
  client: z.string().describe('By its user agent; other: none of those that are walked'),
  user_agent: z.string(),
  client_address: z.string().describe('One of several, where the address is of the maker of the client'),
  from_vendor: z.boolean().describe('Whether the address is one that its maker publishes'),
  requests: z.int(),
  reached: z.enum(attemptStages),
  stopped_before: z.enum(attemptStages).optional().describe('Absent: it came all the way'),
  last: z.string().describe('Its last request and the answer'),
  last_at: z.string(),
  trace_ids: z.array(z.string()).describe('Of its last requests, newest first; get_logs takes them'),
});
export type AttemptReport = z.output<typeof attemptSchema>;

export const diagnosisSchema = z.object({
  url: z.string(),
  summary: z.string().describe('The first step that fails and its remedy, for each client'),
  clients: z.array(
    z.object({
      client: z.enum(clientIds),
      outcome: z
        .enum(['passes', 'fails', 'unseen'])
        .describe('unseen: from some step on it can not be told from here'),
      stops_at: z.enum(stepIds).optional(),
      remedy: z.string().optional(),
    }),
  ),
  steps: z.array(stepSchema).describe('In the order of the walk; the same finding is told once'),
  attempts: z.array(attemptSchema).describe('Real ones from the log, newest first'),
  not_seen: z.array(z.string()).describe('What can not be seen from this process'),
  hint: z.string().optional(),
});
export type Diagnosis = z.output<typeof diagnosisSchema>;
