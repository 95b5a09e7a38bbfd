import assert from 'node:assert/strict';
import test from 'node:test';
import { OTHER, Tally } from './tally.ts';
import { Tallies } from './tallies.ts';

const make = () => new Tallies({ controlHosts: new Set(), isKnown: () => true, generation: () => 0 });
const served = { proxy: { id: 'prx_1', hostname: 'mcp.example.com' }, route: undefined };
const told = (tallies: Tallies, name: string): string[] =>
  (tallies.families().find((one) => one.name === name)?.points ?? []).map((point) =>
    [...point.labels, 'value' in point ? point.value : point.count].join(' '),
  );

test('a tally that is full counts what is new as other', () => {
  const tally = new Tally(2);
  for (const code of ['a', 'b', 'c', 'd', 'a']) tally.add('x', code);
  assert.deepEqual(tally.points(), [
    { labels: ['x', 'a'], value: 2 },
    { labels: ['x', 'b'], value: 1 },
    { labels: [OTHER, OTHER], value: 2 },
  ]);
});

test('a tool has its name once its server has answered to it: what a caller makes up is other', () => {
  const tallies = make();
  const call = (tool: string, outcome: string) =>
    tallies.toolCalled(served, { tool, outcome, durationMs: 3 });
  call('made-up', 'FORBIDDEN');
  call('search', 'OK');
  call('search', 'UPSTREAM_FAILED');
  call('made-up', 'UPSTREAM_FAILED');
  assert.deepEqual(told(tallies, 'ohp_mcp_upstream_tool_calls_total'), [
    'mcp.example.com other FORBIDDEN 1',
    'mcp.example.com search OK 1',
    'mcp.example.com search UPSTREAM_FAILED 1',
    'mcp.example.com other UPSTREAM_FAILED 1',
  ]);
});

test('a method of MCP that there is not counts as other', () => {
  const tallies = make();
  const request = {
    kind: 'mcp',
    match: undefined,
    hostname: '',
    method: 'POST',
    status: 200,
    outcome: 'OK',
    bytesOut: 0,
    traceId: '',
    isEndless: false,
  };
  for (const method of ['tools/list', 'stranger/words', 'tools/list']) {
    const detail = { method, era: 'modern' };
    const record = { kind: 'mcp', component: 'mcp', operation: method, outcome: 'OK', detail } as const;
    tallies.ended(request, { endedAt: 0, durationMs: 1, bytesIn: 0, told: record });
  }
  assert.deepEqual(told(tallies, 'ohp_mcp_requests_total'), ['tools/list modern OK 2', 'other modern OK 1']);
});
