import assert from 'node:assert/strict';
import test from 'node:test';
import { type AccessRecord, attemptsIn } from './attempts.ts';
import { attemptStages } from './schema.ts';

const place = { hostname: 'app.example.com', path: '/mcp', issuerHostname: 'proxy.example.com' };
const { hostname, issuerHostname } = place;

type Line = [line: string, host: string, more?: Partial<AccessRecord>];

/** A second apart. */
const recordsOf = (agent: string, lines: readonly Line[], address = '192.0.2.7'): AccessRecord[] =>
  lines.map(([line, host, more], i) => {
    const [method, path, status] = line.split(' ');
    return {
      time: new Date(1_800_000_000_000 + i * 1000).toISOString(),
      hostname: host,
      method,
      path,
      status: Number(status),
      client_address: address,
      user_agent: agent,
      trace_id: `${agent}-${i}`,
      ...more,
    };
  });

/** The whole way, as the log has it; `person` of the browser of whoever signs in. */
const way: Line[] = [
  ['POST /mcp 401', hostname],
  ['GET /.well-known/oauth-protected-resource/mcp 200', hostname],
  ['GET /.well-known/oauth-authorization-server 200', issuerHostname],
  ['POST /oauth/register 201', issuerHostname],
  ['GET /oauth/authorize 303', issuerHostname, { user_agent: 'Mozilla/5.0', client_address: '198.51.100.1' }],
  ['POST /oauth/interaction/x/consent 303', issuerHostname, { user_agent: 'Mozilla/5.0' }],
  ['POST /oauth/token 200', issuerHostname],
  ['POST /mcp 200', hostname, { detail: { method: 'initialize' } }],
  ['POST /mcp 200', hostname, { detail: { method: 'tools/list' } }],
];

for (const [i, stage] of attemptStages.entries())
  test(`a client that came as far as ${stage} is said to have stopped behind it`, () => {
    const [attempt, ...more] = attemptsIn(recordsOf('Cursor/1.9', way.slice(0, i + 1)), place);
    assert.deepEqual(more, []);
    assert.equal(attempt?.client, 'cursor');
    assert.equal(attempt?.reached, stage);
    assert.equal(attempt?.stopped_before, attemptStages[i + 1]);
  });

test('the order in which records come is no matter, and the newest attempt is first', () => {
  const records = [
    ...recordsOf('Cursor/1.9', way),
    ...recordsOf('Claude-User', way.slice(0, 3), '203.0.113.9'),
  ];
  const told = attemptsIn(records, place);
  assert.deepEqual(
    told.map(({ client }) => client),
    ['cursor', 'claude'],
  );
  assert.deepEqual(attemptsIn(records.toReversed(), place), told);
});

test('those of one maker come from many of its addresses; from elsewhere, it is another one', () => {
  const one = recordsOf('Claude-User', way.slice(0, 2), '160.79.104.10');
  const two = recordsOf('Claude-User', way.slice(2, 4), '160.79.106.33');
  const three = recordsOf('Claude-User', way.slice(0, 1), '192.0.2.1');
  const told = attemptsIn([...one, ...two, ...three], place);
  assert.deepEqual(
    told.map(({ from_vendor, reached }) => [from_vendor, reached]),
    [
      [true, 'registration'],
      [false, 'challenge'],
    ],
  );
});

test('a registration that is refused is where it stopped', () => {
  const lines = way.slice(0, 3).concat([['POST /oauth/register 400', issuerHostname]]);
  const [attempt] = attemptsIn(recordsOf('openai-mcp/1.0', lines), place);
  assert.deepEqual(
    [attempt?.client, attempt?.reached, attempt?.stopped_before, attempt?.last],
    ['chatgpt', 'issuer', 'registration', 'POST /oauth/register 400'],
  );
});

test('a sign-in long after is not of this registration', () => {
  const late = new Date(1_800_000_000_000 + 3_600_000).toISOString();
  const lines: Line[] = [...way.slice(0, 4), ['GET /oauth/authorize 303', issuerHostname, { time: late }]];
  assert.equal(attemptsIn(recordsOf('Cursor/1.9', lines), place)[0]?.reached, 'registration');
});

test('text of a client is cleaned and cut', () => {
  const agent = `Cursor\u202e${'x'.repeat(500)}`;
  const [attempt] = attemptsIn(recordsOf(agent, way.slice(0, 1)), place);
  assert.ok((attempt?.user_agent.length ?? 0) <= 81);
  assert.doesNotMatch(attempt?.user_agent ?? '', /\u202e/);
});

test('walks of this system, other hosts and other paths are nobody’s attempt', () => {
  assert.deepEqual(attemptsIn(recordsOf('ohp-diagnose-connector', way), place), []);
  assert.deepEqual(attemptsIn(recordsOf('Cursor/1.9', [['POST /other 200', hostname]]), place), []);
  assert.deepEqual(attemptsIn(recordsOf('Cursor/1.9', [['POST /mcp 401', 'b.example.com']]), place), []);
});
