/**
 * The MCP endpoint beside the SDK's bare example, in the same run: alternating, fresh processes, the server alone on
 * one core and the load on another. The figure is CPU time of the server process per answered request, as a ratio.
 * Absolute figures mean nothing on a shared machine. `node bench/mcp.ts [rounds]`
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';

const SERVER_CORE = '0';
const LOAD_CORE = '1';
const CONNECTIONS = 8;
const ROUNDS = Number(process.argv[2] ?? 5);
const CALLS = { warm: 4000, measured: 3000 };
const LISTS = { warm: 1200, measured: 1000 };
const SESSIONS = 500;
const CYCLES = 3;
const CYCLE_SESSIONS = 300;
const PACED_RPS = 500;
const PACED_REQUESTS = 1500;

type Kind = 'ours' | 'sdk';
const kinds: readonly Kind[] = ['ours', 'sdk'];

interface Server {
  child: ChildProcess;
  port: number;
}

async function startServer(kind: Kind): Promise<Server> {
  const child = fork(join(import.meta.dirname, 'mcp-server.ts'), [kind], {
    execArgv: ['--expose-gc', '--no-warnings'],
  });
  pin(child.pid, SERVER_CORE);
  const [{ port }] = (await once(child, 'message')) as [{ port: number }];
  return { child, port };
}

function pin(pid: number | undefined, core: string): void {
  const done = spawnSync('taskset', ['-a', '-p', '-c', core, String(pid)]);
  if (done.status !== 0) process.stderr.write('taskset is not there: server and load share the cores\n');
}

async function ask<Answer>({ child }: Server, question: string): Promise<Answer> {
  child.send(question);
  const [answer] = (await once(child, 'message')) as [Answer];
  return answer;
}

const cpuOf = async (server: Server): Promise<number> => {
  const { user, system } = await ask<NodeJS.CpuUsage>(server, 'cpu');
  return user + system;
};

const memoryOf = async (server: Server): Promise<number> =>
  (await ask<{ used: number }>(server, 'memory')).used;

function requestBytes(method: string, headers: Record<string, string>, body?: unknown): Buffer {
  const text = body === undefined ? '' : JSON.stringify(body);
  const all: Record<string, string> = {
    host: 'localhost',
    authorization: 'Bearer admin',
    accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
    ...(body !== undefined && {
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(text)),
    }),
    ...headers,
  };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} /mcp HTTP/1.1\r\n${head.join('')}\r\n${text}`);
}

const rpc = (method: string, params: object) => ({ jsonrpc: '2.0', id: 1, method, params });
const clientInfo = { name: 'bench', version: '1' };
const meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': clientInfo,
};
const modern = (method: string, name?: string) => ({
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': method,
  ...(name && { 'mcp-name': name }),
});
const call = { name: 'call_tool3', arguments: { message: 'hello' } };

function loads(session: string): Record<string, { bytes: Buffer; warm: number; measured: number }> {
  const legacy = { 'mcp-session-id': session, 'mcp-protocol-version': '2025-06-18' };
  const post = (headers: Record<string, string>, body: unknown) => requestBytes('POST', headers, body);
  return {
    'modern call': {
      bytes: post(modern('tools/call', call.name), rpc('tools/call', { ...call, _meta: meta })),
      ...CALLS,
    },
    'modern list': { bytes: post(modern('tools/list'), rpc('tools/list', { _meta: meta })), ...LISTS },
    'legacy call': { bytes: post(legacy, rpc('tools/call', call)), ...CALLS },
    'legacy list': { bytes: post(legacy, rpc('tools/list', {})), ...LISTS },
  };
}

/** One request after the other on one connection. */
class Connection {
  readonly #socket: Socket;
  #received = '';
  #onReply: ((head: string) => void) | undefined;

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1').setNoDelay();
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk.toString('latin1')));
    this.#socket.on('error', () => undefined);
  }

  send(bytes: Buffer): Promise<string> {
    this.#socket.write(bytes);
    return new Promise((resolve) => (this.#onReply = resolve));
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(text: string): void {
    this.#received += text;
    const end = this.#received.indexOf('\r\n\r\n');
    if (end === -1) return;
    const head = this.#received.slice(0, end);
    if (!isWhole(head, this.#received, end)) return;
    this.#received = '';
    const done = this.#onReply;
    this.#onReply = undefined;
    done?.(head);
  }
}

function isWhole(head: string, received: string, end: number): boolean {
  const length = /content-length: (\d+)/i.exec(head)?.[1];
  if (length !== undefined) return received.length >= end + 4 + Number(length);
  // A standing stream has no end: its head is enough.
  if (received.includes('data: ') || /text\/event-stream/i.test(head))
    return received.endsWith('0\r\n\r\n') || isStanding(received);
  return received.endsWith('0\r\n\r\n');
}

const isStanding = (received: string): boolean =>
  !received.includes('data: {') && received.includes(': open');

async function openSession(port: number): Promise<string> {
  const connection = new Connection(port);
  const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo };
  const head = await connection.send(requestBytes('POST', {}, rpc('initialize', params)));
  connection.close();
  const id = /mcp-session-id: (\S+)/i.exec(head)?.[1];
  if (id === undefined) throw new Error(`no session: ${head}`);
  return id;
}

async function drive(port: number, bytes: Buffer, count: number): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const connection = new Connection(port);
      while (left > 0) {
        left -= 1;
        const head = await connection.send(bytes);
        if (!head.startsWith('HTTP/1.1 200')) throw new Error(head);
      }
      connection.close();
    }),
  );
}

interface Sample {
  microseconds: number;
  rps: number;
}

async function measureRound(kind: Kind): Promise<Record<string, Sample>> {
  const server = await startServer(kind);
  const samples: Record<string, Sample> = {};
  for (const [name, { bytes, warm, measured }] of Object.entries(loads(await openSession(server.port)))) {
    await drive(server.port, bytes, warm);
    const before = await cpuOf(server);
    const started = performance.now();
    await drive(server.port, bytes, measured);
    const seconds = (performance.now() - started) / 1000;
    const microseconds = ((await cpuOf(server)) - before) / measured;
    samples[name] = { microseconds, rps: measured / seconds };
  }
  server.child.kill();
  return samples;
}

async function measureLatency(): Promise<{ p50: number; p99: number }> {
  const server = await startServer('ours');
  const load = loads(await openSession(server.port))['modern call'];
  if (!load) throw new Error('no such load');
  await drive(server.port, load.bytes, CALLS.warm);
  const idle = Array.from({ length: CONNECTIONS }, () => new Connection(server.port));
  const latencies: number[] = [];
  const started = performance.now();
  const pending: Promise<void>[] = [];
  for (let i = 0; i < PACED_REQUESTS; i += 1) {
    const due = started + (i * 1000) / PACED_RPS;
    while (performance.now() < due) await new Promise((resolve) => setImmediate(resolve));
    const connection = idle.pop() ?? new Connection(server.port);
    pending.push(
      connection.send(load.bytes).then(() => {
        latencies.push(performance.now() - due);
        idle.push(connection);
      }),
    );
  }
  await Promise.all(pending);
  server.child.kill();
  return { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) };
}

/** Memory per session with its standing stream, and what is left of sessions that have ended. */
async function measureMemory(): Promise<{ perSession: number; growth: number }> {
  const server = await startServer('ours');
  await cycle(server, CYCLE_SESSIONS);
  const before = await memoryOf(server);
  for (let i = 0; i < CYCLES; i += 1) await cycle(server, CYCLE_SESSIONS);
  const after = await memoryOf(server);
  const streams: Connection[] = [];
  for (let i = 0; i < SESSIONS; i += 1)
    streams.push(await openStream(server.port, await openSession(server.port)));
  const full = await memoryOf(server);
  for (const stream of streams) stream.close();
  server.child.kill();
  return { perSession: (full - after) / SESSIONS, growth: (after - before) / before };
}

async function openStream(port: number, session: string): Promise<Connection> {
  const connection = new Connection(port);
  await connection.send(requestBytes('GET', { 'mcp-session-id': session }));
  return connection;
}

async function cycle({ port }: Server, count: number): Promise<void> {
  const connection = new Connection(port);
  for (let i = 0; i < count; i += 1) {
    const id = await openSession(port);
    const stream = await openStream(port, id);
    await connection.send(requestBytes('DELETE', { 'mcp-session-id': id }));
    stream.close();
  }
  connection.close();
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

const spread = (values: readonly number[]): string => {
  const digits = quantile(values, 0.5) < 10 ? 2 : 0;
  const [low, middle, high] = [0, 0.5, 1].map((q) => quantile(values, q).toFixed(digits));
  return `${middle} (${low}–${high})`;
};

const musts: Record<string, [must: number, aim: number]> = {
  'modern call': [0.5, 0.2],
  'modern list': [0.12, 0.08],
  'legacy call': [0.45, 0.3],
  'legacy list': [0.12, 0.08],
};

async function main(): Promise<void> {
  pin(process.pid, LOAD_CORE);
  const rounds: Record<Kind, Record<string, Sample>[]> = { ours: [], sdk: [] };
  for (let round = 0; round < ROUNDS; round += 1)
    for (const kind of round % 2 === 0 ? kinds : kinds.toReversed())
      rounds[kind].push(await measureRound(kind));
  console.log('| CPU µs per request, median (spread) | ours | SDK bare | ratio | must | aim | rps of ours |');
  console.log('|---|---|---|---|---|---|---|');
  for (const [name, [must, aim]] of Object.entries(musts)) {
    const of = (kind: Kind) => rounds[kind].map((round) => round[name]?.microseconds ?? Number.NaN);
    const ratios = of('ours').map((value, i) => value / (of('sdk')[i] ?? Number.NaN));
    const rps = rounds.ours.map((round) => round[name]?.rps ?? Number.NaN);
    const cells = [
      spread(of('ours')),
      spread(of('sdk')),
      spread(ratios),
      `≤ ${must}`,
      `≤ ${aim}`,
      spread(rps),
    ];
    console.log(`| ${name} | ${cells.join(' | ')} |`);
  }
  const { p50, p99 } = await measureLatency();
  console.log(
    `p50 / p99 at ${PACED_RPS} rps: ${p50.toFixed(2)} / ${p99.toFixed(2)} ms (must 0.5 / 20, aim 0.3 / 6)`,
  );
  const { perSession, growth } = await measureMemory();
  console.log(`memory per session with stream: ${(perSession / 1024).toFixed(1)} KB (must 70, aim 40)`);
  console.log(
    `growth over ${CYCLES * CYCLE_SESSIONS} sessions opened and ended: ${(growth * 100).toFixed(1)} % (must 5)`,
  );
}

await main();
