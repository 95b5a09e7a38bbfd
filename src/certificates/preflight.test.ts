import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'node:test';
import { HOUR, ManualClock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { LETS_ENCRYPT_LIMITS, limitsOf } from './budget.ts';
import type { AddressReport } from './dns/addresses.ts';
import type { Issuer } from './issuers.ts';
import { createPreflight, type PreflightParts, type Question } from './preflight.ts';

const issuer: Issuer = { name: 'world', directoryUrl: 'https://ca.example.net', contact: [], isPublic: true };
const name = 'app.company.io';
const never = (signal: AbortSignal) =>
  new Promise<never>((_, reject) =>
    signal.addEventListener('abort', () => reject(new AppError('CANCELLED', 'cancelled')), { once: true }),
  );
const report = (address: string, special?: string): AddressReport => ({
  hostname: name,
  aliases: [],
  ipv4: { state: 'found', addresses: [{ address, special }] },
  ipv6: { state: 'none', addresses: [] },
});

const parts = (clock: ManualClock, more: Partial<PreflightParts> = {}): PreflightParts => ({
  clock,
  dns: {
    readAddresses: async () => report('192.0.2.1', 'reserved'),
    readCaa: async () => ({ kind: 'none' }),
    locate: async () => assert.fail('nothing is looked up for a record'),
  },
  identitiesOf: async () => ['ca.example.net'],
  accountUrlOf: async () => undefined,
  usageOf: async () => ({ used: 0, roomAt: 0 }),
  placeProbe: () => ({ path: '/', body: '', remove: () => undefined }),
  ...more,
});
const question = (more: Partial<Question> = {}): Question => ({
  name,
  issuer,
  challenges: ['http-01'],
  isServed: false,
  fingerprint: undefined,
  limits: [],
  isConfined: false,
  signal: new AbortController().signal,
  ...more,
});

test('what does not answer within seconds is unknown, and holds up nothing else', async () => {
  const clock = new ManualClock();
  const checking = createPreflight(
    parts(clock, {
      dns: {
        readAddresses: (_, signal) => never(signal),
        readCaa: (_, signal) => never(signal),
        locate: async () => assert.fail(),
      },
    }),
  )(question());
  clock.advance(5000);
  const results = (await checking).map(({ check, result, detail }) => [check, result, detail]);
  assert.deepEqual(results, [
    ['dns', 'unknown', 'it was not found out within a few seconds'],
    ['caa', 'unknown', 'it was not found out within a few seconds'],
    ['limits', 'pass', 'no limits of world are counted here'],
  ]);
});

test('a public CA reaches no address of a private network', async () => {
  const dns = {
    ...parts(new ManualClock()).dns,
    readAddresses: async () => report('10.0.0.1', 'a private network'),
  };
  const [first] = await createPreflight(parts(new ManualClock(), { dns }))(question());
  assert.equal(first?.result, 'fail');
  assert.match(first?.detail ?? '', /no public CA reaches 10\.0\.0\.1: it is of a private network/);
});

test('what is looked up once is what is asked: a name that leads elsewhere the second time leads nowhere', async () => {
  let looked = 0;
  let asked = 0;
  const loopback = createServer((_, response) => {
    asked++;
    response.end();
  }).listen(0, '127.0.0.1');
  await once(loopback, 'listening');
  const { port } = loopback.address() as AddressInfo;
  const dns = {
    ...parts(new ManualClock()).dns,
    readAddresses: async () =>
      looked++ === 0 ? report('10.0.0.1', 'a private network') : report('127.0.0.1'),
  };
  try {
    const wanted = parts(new ManualClock(), { dns, ports: { http: port, https: port } });
    const challenges = ['http-01', 'tls-alpn-01'] as const;
    const checks = await createPreflight(wanted)(question({ isServed: true, challenges, fingerprint: 'AA' }));
    assert.deepEqual([looked, asked], [1, 0]);
    for (const check of checks.filter((one) => one.check === 'http' || one.check === 'https'))
      assert.match(check.detail, /10\.0\.0\.1 port \d+: not asked/);
    assert.equal(checks.filter(({ check }) => check === 'http' || check === 'https').length, 2);
  } finally {
    loopback.close();
  }
});

test('what limits leave is told in numbers, and one that is full until when', async () => {
  const clock = new ManualClock();
  const limits = limitsOf(
    { names: [name], subject: name, isRenewal: false, issuer: 'world' },
    LETS_ENCRYPT_LIMITS,
  );
  const usageOf = async ({ kind }: { kind: string }) =>
    kind === 'failed' ? { used: 5, roomAt: clock.now() + HOUR } : { used: 1, roomAt: 0 };
  const checks = await createPreflight(parts(clock, { usageOf }))(question({ limits }));
  const found = checks.find(({ check }) => check === 'limits');
  assert.equal(found?.result, 'fail');
  assert.match(
    found?.detail ?? '',
    /^5 of 5 failed validations of app\.company\.io in an hour at the CA, there is room again at 2026-01-01T01:00:00/,
  );
  const free = await createPreflight(parts(clock, { usageOf: async () => ({ used: 1, roomAt: 0 }) }))(
    question({ limits }),
  );
  assert.match(free.find(({ check }) => check === 'limits')?.detail ?? '', /1 of 300 orders in three hours/);
  // To who is confined, how much others have used is not told.
  const own = question({ limits, isConfined: true });
  for (const [at, told] of [
    [clock.now() + HOUR, /^no more than \d+ [^;]*, there is room again at/],
    [0, /^there is room in every limit that counts$/],
  ] as const) {
    const asked = await createPreflight(parts(clock, { usageOf: async () => ({ used: 17, roomAt: at }) }))(
      own,
    );
    const { detail = '' } = asked.find(({ check }) => check === 'limits') ?? {};
    assert.match(detail, told);
    assert.doesNotMatch(detail, /17/);
  }
});

test('CAA that can not be read is unknown, never allowed', async () => {
  const dns = {
    ...parts(new ManualClock()).dns,
    readCaa: async () => ({ kind: 'error', at: 'company.io', reason: 'SERVFAIL' }) as const,
  };
  const checks = await createPreflight(parts(new ManualClock(), { dns }))(question());
  assert.equal(checks.find(({ check }) => check === 'caa')?.result, 'unknown');
});
