import assert from 'node:assert/strict';
import test from 'node:test';
import { limits } from '../core/limits.ts';
import { profiles } from './profiles.ts';
import { reportOf } from './report.ts';
import { type AttemptReport, diagnosisSchema, stepIds } from './schema.ts';

const attempt = (i: number): AttemptReport => ({
  client: 'other',
  user_agent: `agent-${i} ${'x'.repeat(70)}`,
  client_address: '2001:db8::1',
  from_vendor: false,
  requests: 9,
  reached: 'challenge',
  stopped_before: 'resource_metadata',
  last: `POST /${'y'.repeat(100)} 401`,
  last_at: '2026-11-30T00:00:00.000Z',
  trace_ids: ['6b0d924c9b530fe265a78db0a3ca117c', '6b0d924bb3db2bc9ee74390d4a6d9694'],
});

const walked = profiles.map((profile, i) => ({
  profile,
  findings: stepIds.map((step) => ({
    step,
    status: 'ok' as const,
    requested: `GET /${i}${'z'.repeat(60)}`,
    found: `${i} ${'f'.repeat(120)}`,
  })),
}));
const facts = { url: 'https://app.example.com/mcp', since: '24h', notSeen: [] };

test('however much there is, a model reads at most 2,000 tokens: what went well is left out first', () => {
  const attempts = Array.from({ length: 40 }, (_, i) => attempt(i));
  const report = reportOf({ ...facts, walked, attempts });
  assert.ok(JSON.stringify(report).length <= limits.resultCharactersDefault);
  assert.equal(report.attempts.length, 6);
  assert.match(report.hint ?? '', /34 older attempts/);
  assert.match(report.hint ?? '', /went well/);
  assert.ok(diagnosisSchema.safeParse(report).success);
});

test('the same finding is told once, for all whom it concerns; the failing step comes first in words', () => {
  const same = { step: 'served' as const, status: 'ok' as const, found: 'it is served' };
  const broken = {
    step: 'pkce' as const,
    status: 'failed' as const,
    found: 'no S256',
    remedy: 'Advertise it',
  };
  const report = reportOf({
    ...facts,
    attempts: [],
    walked: profiles.map((profile, i) => ({ profile, findings: i === 1 ? [same, broken] : [same] })),
  });
  assert.equal(report.steps.length, 2);
  assert.equal(report.steps[0]?.clients.length, profiles.length);
  assert.match(report.summary, /^ChatGPT at pkce fails: no S256\. Remedy: Advertise it\. Claude, VS Code/);
});

test('what clients did is told in words, since a time or in a while', () => {
  const { stopped_before: _, ...arrived } = attempt(1);
  const summaryFor = (attempts: AttemptReport[], since: string) =>
    reportOf({ ...facts, walked, attempts, since }).summary;
  assert.match(
    summaryFor([attempt(0), arrived], '24h'),
    / Clients that came in the last 24h: 2, 1 of them all the way; other stopped before resource_metadata \(1\)\.$/,
  );
  assert.match(summaryFor([], '2026-11-30'), / No client came since 2026-11-30\.$/);
});
