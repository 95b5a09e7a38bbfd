/**
 * The MCP endpoint of the product as it is started by `npm start` (gateway, TLS, credential, rate limits, log and its
 * thread) beside the SDK's bare example, in the same run: alternating, fresh processes, the server alone on one core
 * and the load on another. The figure is CPU time of the whole process per answered request, as a ratio; what the log's
 * thread still has to write when the load ends is counted, and nothing may be dropped. Absolute figures mean nothing
 * on a shared machine.
 *
 *   node tools/run.mjs bench/mcp.ts [rounds]
 *
 * Prints for each must and each aim whether it is met; the exit code is 1 when a must is not. Needs openssl.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificate } from './certificate.ts';
import {
  Connection,
  drive,
  drivePaced,
  type Endpoint,
  endSession,
  type Load,
  type LoadName,
  loadNames,
  loadsOf,
  openSession,
  openStream,
} from './mcp-load.ts';
import { median, percentile, printTable, spread } from './measure.ts';
import { freePort } from '../test/support/free-port.ts';
import {
  LOAD_CORE,
  type Measured,
  type MeasuredProduct,
  measuredOf,
  pin,
  startMeasured,
  startProduct,
} from './product.ts';

const DEFAULT_ROUNDS = 5;
const ROUNDS = Number(process.argv[2] ?? DEFAULT_ROUNDS);
/**
 * Until the figures of each no longer fall: the SDK needs about 8,000 calls, ours 60,000. Lists come behind them, on
 * warm code; over TLS the same code is asked again and only the transport is new.
 */
const WARM_UP: Record<Kind, Record<Transport, { call: number; list: number }>> = {
  ours: { HTTP: { call: 60_000, list: 2000 }, TLS: { call: 2000, list: 1000 } },
  sdk: { HTTP: { call: 8000, list: 1000 }, TLS: { call: 1000, list: 300 } },
};
/** Of ours so many that waiting for the log at the end weighs nothing. */
const MEASURED: Record<Kind, { call: number; list: number }> = {
  ours: { call: 16_000, list: 4000 },
  sdk: { call: 4000, list: 1500 },
};
/**
 * What a modern call of the bare SDK took on the machine where the limits were set, CPU µs. A limit in calls a second
 * means that machine: on one where the SDK takes three times as long, a third is as good.
 */
const SDK_CALL_WHERE_SET = 389;
const PACED_RPS = 500;
const PACED_CALLS = 2500;
const SESSIONS_A_CYCLE = [1000, 5000] as const;
const CYCLES = 3;
const OPENING_AT_ONCE = 8;
const KIB = 1024;
const SECOND_MS = 1000;

/** Limits that this load would meet, which is what they are for; and room for every record. */
const settings = {
  log: { queue_records: 1_000_000 },
  gateway: { max_connections_per_address: 100_000, max_streams_per_connection: 10_000 },
  mcp: {
    calls_per_minute: 10_000_000,
    calls_per_minute_per_address: 10_000_000,
    max_sessions: 100_000,
    max_sessions_per_principal: 100_000,
    max_event_streams: 100_000,
    max_event_streams_per_principal: 100_000,
  },
};

type Kind = 'ours' | 'sdk';
const kinds: readonly Kind[] = ['ours', 'sdk'];
const transports = ['HTTP', 'TLS'] as const;
type Transport = (typeof transports)[number];

interface Server extends Measured {
  readonly endpoints: Record<Transport, Endpoint>;
  /** Resolves when nothing is left to do of what was asked; how many records were lost. */
  settle(): Promise<number>;
}

interface Sample {
  /** CPU µs of one request. */
  cpu: number;
  /** Requests a second, to the end of what they leave behind. */
  rps: number;
}
type Samples = Record<Transport, Record<LoadName, Sample>>;

interface Latency {
  p50: number;
  p99: number;
}

const endpointsOf = (httpPort: number, httpsPort: number): Server['endpoints'] => ({
  HTTP: { port: httpPort, secure: false },
  TLS: { port: httpsPort, secure: true },
});

async function startOurs(): Promise<Server & MeasuredProduct> {
  const product = await startProduct(settings);
  return { ...product, endpoints: endpointsOf(product.httpPort, product.httpsPort) };
}

async function startSdk(): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-bench-'));
  const { cert, key } = makeCertificate(folder, 'localhost');
  const [port, tlsPort] = [await freePort(), await freePort()];
  const child = startMeasured('bench/mcp-peer.ts', [String(port), String(tlsPort), cert, key], {});
  await once(child, 'message');
  rmSync(folder, { recursive: true });
  return { ...measuredOf(child), endpoints: endpointsOf(port, tlsPort), settle: () => Promise.resolve(0) };
}

async function measureRound(kind: Kind): Promise<{ samples: Samples; latency: Latency; lost: number }> {
  await using server = await (kind === 'ours' ? startOurs() : startSdk());
  const samples = { HTTP: {}, TLS: {} } as Samples;
  const session = await openSession(server.endpoints.HTTP);
  for (const transport of transports) {
    for (const name of loadNames) {
      const what = name.endsWith('list') ? 'list' : 'call';
      const load = {
        endpoint: server.endpoints[transport],
        bytes: loadsOf(session)[name],
        count: MEASURED[kind][what],
      };
      await drive({ ...load, count: WARM_UP[kind][transport][what] });
      samples[transport][name] = await measure(server, load);
    }
  }
  await server.settle();
  const paced = await drivePaced(
    { endpoint: server.endpoints.HTTP, bytes: loadsOf(session)['modern call'], count: PACED_CALLS },
    PACED_RPS,
  );
  const sorted = paced.sort((a, b) => a - b);
  const latency = { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) };
  return { samples, latency, lost: await server.settle() };
}

async function measure(server: Server, load: Load): Promise<Sample> {
  await server.settle();
  const [before, started] = [await server.cpu(), performance.now()];
  await drive(load);
  await server.settle();
  const seconds = (performance.now() - started) / SECOND_MS;
  return { cpu: ((await server.cpu()) - before) / load.count, rps: load.count / seconds };
}

interface Memory {
  /** Bytes that JavaScript holds, and of the whole process. */
  held: number;
  resident: number;
  /** Shares by which what is held has grown, by sessions a cycle. */
  growth: Record<number, number>;
}

/** One session with its standing stream, and what is left of sessions that have ended. */
async function measureMemory(): Promise<Memory> {
  await using server = await startOurs();
  const growth: Memory['growth'] = {};
  let perSession = { held: 0, resident: 0 };
  for (const count of SESSIONS_A_CYCLE) {
    await cycle(server, count);
    await server.settle();
    const before = await server.memory();
    for (let i = 0; i < CYCLES; i += 1) perSession = await cycle(server, count, before);
    await server.settle();
    growth[count] = ((await server.memory()).held - before.held) / before.held;
  }
  return { ...perSession, growth };
}

/** All are open at once, then all end. Tells what one of them took. */
async function cycle(server: Server, count: number, before = { held: 0, resident: 0 }) {
  const endpoint = server.endpoints.HTTP;
  const open: { session: string; stream: Connection }[] = [];
  await side(endpoint, count, async (connection) => {
    const session = await openSession(endpoint, connection);
    open.push({ session, stream: await openStream(endpoint, session) });
  });
  const full = await server.memory();
  await side(endpoint, count, async (connection) => {
    const one = open.pop();
    if (!one) return;
    await endSession(connection, one.session);
    one.stream.close();
  });
  return {
    held: (full.held - before.held) / count,
    resident: (full.resident - before.resident) / count,
  };
}

/** So many times, a few at once. */
async function side(endpoint: Endpoint, times: number, work: (connection: Connection) => Promise<void>) {
  let left = times;
  await Promise.all(
    Array.from({ length: OPENING_AT_ONCE }, async () => {
      const connection = new Connection(endpoint);
      while (left-- > 0) await work(connection);
      connection.close();
    }),
  );
}

async function measureGates(): Promise<Record<string, number>> {
  const child = startMeasured('bench/mcp-gates.ts', [], {});
  const [costs] = (await once(child, 'message')) as [Record<string, number>];
  return costs;
}

interface Claim {
  what: string;
  figure: number;
  unit: string;
  /** Absent: nothing is claimed. */
  must?: number;
  aim?: number;
  /** True: the more the better. */
  atLeast?: boolean;
}

const ratioLimits: Record<LoadName, [must: number, aim: number]> = {
  'modern call': [0.5, 0.2],
  'modern list': [0.12, 0.08],
  'legacy call': [0.45, 0.3],
  'legacy list': [0.12, 0.08],
};

type Rounds = Record<Kind, Awaited<ReturnType<typeof measureRound>>[]>;

function ratiosOf({ ours, sdk }: Rounds, transport: Transport, name: LoadName): number[] {
  const cpu = (round: { samples: Samples } | undefined) => round?.samples[transport][name].cpu ?? Number.NaN;
  return ours.map((round, i) => cpu(round) / cpu(sdk[i]));
}

function printCosts(rounds: Rounds): void {
  const rows = transports.flatMap((transport) =>
    loadNames.map((name) => {
      const of = (kind: Kind, key: keyof Sample) =>
        spread(rounds[kind].map(({ samples }) => samples[transport][name][key]));
      const ratio = spread(ratiosOf(rounds, transport, name), 2);
      return [`${name}, ${transport}`, of('ours', 'cpu'), of('sdk', 'cpu'), ratio, of('ours', 'rps')];
    }),
  );
  printTable([
    ['CPU µs per request, median (spread)', 'ours', 'SDK bare', 'ours ÷ SDK', 'rps of ours'],
    ...rows,
  ]);
}

function claimsOf(rounds: Rounds, memory: Memory, gates: Record<string, number>): Claim[] {
  const middle = (of: (round: Rounds['ours'][number]) => number) => median(rounds.ours.map(of));
  const ratios = transports.flatMap((transport) =>
    loadNames.map((name) => {
      const [must, aim] = ratioLimits[name];
      const figure = median(ratiosOf(rounds, transport, name));
      return { what: `${name} ÷ SDK, ${transport}`, figure, unit: '', must, aim };
    }),
  );
  const [small, large] = SESSIONS_A_CYCLE;
  const growth = (count: number) => (memory.growth[count] ?? Number.NaN) * 100;
  return [
    ...ratios,
    {
      what: `modern calls a second, one core, where the SDK takes ${SDK_CALL_WHERE_SET} µs`,
      figure: median(
        rounds.ours.map(({ samples }, i) => {
          const slower = (rounds.sdk[i]?.samples.HTTP['modern call'].cpu ?? Number.NaN) / SDK_CALL_WHERE_SET;
          return samples.HTTP['modern call'].rps * slower;
        }),
      ),
      unit: '',
      must: 5000,
      aim: 12_000,
      atLeast: true,
    },
    {
      what: 'the same as measured here',
      figure: middle(({ samples }) => samples.HTTP['modern call'].rps),
      unit: '',
    },
    {
      what: `p50 at ${PACED_RPS} rps`,
      figure: middle(({ latency }) => latency.p50),
      unit: 'ms',
      must: 0.5,
      aim: 0.3,
    },
    {
      what: `p99 at ${PACED_RPS} rps`,
      figure: middle(({ latency }) => latency.p99),
      unit: 'ms',
      must: 20,
      aim: 6,
    },
    { what: 'session with stream', figure: memory.held / KIB, unit: 'KB', must: 70, aim: 40 },
    { what: `growth over cycles of ${small}`, figure: growth(small), unit: '%', must: 5, aim: 5 },
    { what: `growth over cycles of ${large}`, figure: growth(large), unit: '%', aim: 5 },
    {
      what: 'gates: credential, limits, audit',
      figure: gates.all ?? Number.NaN,
      unit: 'µs',
      must: 40,
      aim: 15,
    },
  ];
}

/** True when every must is met. */
function printClaims(claims: readonly Claim[]): boolean {
  const meets = ({ figure, atLeast }: Claim, limit: number) => (atLeast ? figure >= limit : figure <= limit);
  const digits = (value: number) => (Math.abs(value) < 10 ? 2 : 0);
  const verdict = (claim: Claim, limit: number | undefined) => {
    if (limit === undefined) return '–';
    return `${claim.atLeast ? '≥' : '≤'} ${limit}: ${meets(claim, limit) ? 'pass' : 'FAIL'}`;
  };
  printTable([
    ['measure', 'figure', 'must', 'aim'],
    ...claims.map((claim) => [
      claim.what,
      `${claim.figure.toFixed(digits(claim.figure))} ${claim.unit}`.trim(),
      verdict(claim, claim.must),
      verdict(claim, claim.aim),
    ]),
  ]);
  return claims.every((claim) => claim.must === undefined || meets(claim, claim.must));
}

async function main(): Promise<void> {
  pin(process.pid, LOAD_CORE);
  const rounds: Rounds = { ours: [], sdk: [] };
  for (let round = 0; round < ROUNDS; round += 1)
    for (const kind of round % 2 === 0 ? kinds : kinds.toReversed())
      rounds[kind].push(await measureRound(kind));
  const [cpu] = cpus();
  const load = loadavg().map((one) => one.toFixed(1));
  console.log(
    `Node ${process.versions.node}, ${cpu?.model}, ${ROUNDS} rounds, load average ${load.join(' ')}\n`,
  );
  printCosts(rounds);
  const [memory, gates] = [await measureMemory(), await measureGates()];
  console.log(
    `\np50 and p99 of the SDK: ${spread(
      rounds.sdk.map(({ latency }) => latency.p50),
      2,
    )} and ${spread(
      rounds.sdk.map(({ latency }) => latency.p99),
      2,
    )} ms.`,
    `Gates, µs: ${['credential', 'limits', 'record'].map((gate) => `${gate} ${gates[gate]?.toFixed(1)}`).join(', ')}.`,
    `Resident memory per session: ${(memory.resident / KIB).toFixed(0)} KB.`,
    `Records lost: ${rounds.ours.map(({ lost }) => lost).join(', ')}.\n`,
  );
  if (!printClaims(claimsOf(rounds, memory, gates))) process.exitCode = 1;
}

await main();
