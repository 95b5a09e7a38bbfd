/**
 * A real name server: BIND's named with a folder, configuration and port of its own, on 127.0.0.1, ended by its process
 * id. It listens on addresses of an interface only, so that other loopback addresses are relayed to it, byte for byte.
 * `dig` reads what it has, as an independent client.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './eventually.ts';
import { freePort, isFreeForTcp } from './free-port.ts';

const OWN_ADDRESS = '127.0.0.1';
const DNS_PORT = 53;
/** How long a relayed query may take before it is forgotten. */
const RELAY_MS = 30_000;

const has = (program: string, flag: string): boolean =>
  spawnSync(program, [flag], { stdio: 'ignore' }).error === undefined;

/** Why tests with it are skipped, false where it is here. */
export const withoutBind: string | false =
  has('named', '-v') && has('dig', '-v') ? false : 'named or dig is not installed (bind9, bind9-dnsutils)';

/** Why tests that ask authoritative servers where the world asks them are skipped, false where they can. */
export async function withoutPort53(): Promise<string | false> {
  const server = createServer();
  const why = await new Promise<string | false>((tell) => {
    server.once('error', ({ message }) => tell(`port 53 of a loopback address can't be had: ${message}`));
    server.listen(DNS_PORT, ownLoopback(MAX_OWN), () => tell(false));
  });
  if (why === false) await new Promise((done) => server.close(done));
  return why;
}

const MAX_OWN = 3;

/** Loopback addresses that no other process of the tests uses: `index` from 0 to 3. */
export function ownLoopback(index: number): string {
  const { pid } = process;
  return `127.${53 + ((pid >> 14) & 63)}.${(pid >> 6) & 255}.${(pid & 63) * (MAX_OWN + 1) + index || 1}`;
}

export interface BindKey {
  readonly name: string;
  readonly algorithm: string;
  /** base64 */
  readonly secret: string;
}

export interface BindOptions {
  /** Text of each zone below its SOA record; `undefined` for one that it has and can't load. */
  readonly zones: Readonly<Record<string, string | undefined>>;
  /** Loopback addresses it is reached at; 127.0.0.1 usually. */
  readonly addresses?: readonly string[];
  /** Of all of them, when another one has it on other addresses already. */
  readonly port?: number;
  readonly keys?: readonly BindKey[];
  /** Inside of `update-policy`; nobody may change anything otherwise. */
  readonly policy?: string;
}

export interface Bind extends AsyncDisposable {
  readonly port: number;
  readonly addresses: readonly string[];
  /** What dig shows for the question, a line each. */
  dig(name: string, type: string, address?: string): Promise<string[]>;
}

export async function startBind(options: BindOptions): Promise<Bind> {
  const { addresses = [OWN_ADDRESS] } = options;
  const ownPort = await freePort(isFreeForDns);
  const folder = mkdtempSync(join(tmpdir(), 'bind-'));
  for (const [zone, text] of Object.entries(options.zones))
    if (text !== undefined) writeFileSync(join(folder, `${zone}.zone`), zoneText(zone, text));
  writeFileSync(join(folder, 'named.conf'), configuration(folder, options, ownPort));
  const child = spawn('named', ['-g', '-n', '1', '-c', join(folder, 'named.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => void (log += chunk.toString()));
  const gone = once(child, 'exit');
  const relayed = addresses.filter((address) => address !== OWN_ADDRESS);
  const port = relayed.length === 0 ? ownPort : (options.port ?? (await freePort(isFreeForDns)));
  const relays = await Promise.all(relayed.map((address) => relay(address, port, ownPort)));
  const bind: Bind = {
    port,
    addresses,
    dig: (name, type, address = addresses[0]) => dig(name, type, `${address}`, port),
    async [Symbol.asyncDispose]() {
      for (const close of relays) close();
      child.kill('SIGKILL');
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await eventually(async () => started(child, log), 'named');
  } catch (cause) {
    await bind[Symbol.asyncDispose]();
    throw new Error(`named did not start: ${log.slice(-2000)}`, { cause });
  }
  return bind;
}

/** Passes on what comes to the address, over UDP and TCP. */
async function relay(address: string, port: number, ownPort: number): Promise<() => void> {
  const open = new Set<{ destroy(): void }>();
  const tcp = createServer((client) => {
    const server = connect(ownPort, OWN_ADDRESS);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      open.add(from);
      from.on('error', () => to.destroy()).on('close', () => void open.delete(from));
      from.pipe(to);
    }
  }).listen(port, address);
  const udp = createSocket('udp4').bind(port, address);
  udp.on('message', (query, from) => {
    const server = createSocket('udp4');
    const timer = setTimeout(() => server.close(), RELAY_MS).unref();
    server.once('message', (answer) => {
      udp.send(answer, from.port, from.address);
      clearTimeout(timer);
      server.close();
    });
    server.send(query, ownPort, OWN_ADDRESS);
    server.unref();
  });
  await Promise.all([once(tcp, 'listening'), once(udp, 'listening')]);
  return () => {
    tcp.close();
    for (const socket of open) socket.destroy();
    udp.close();
  };
}

function started(child: ChildProcess, log: string): true | undefined {
  if (child.exitCode !== null) throw new Error('it has ended');
  return log.includes(' running\n') && log.includes('all zones loaded') ? true : undefined;
}

const zoneText = (zone: string, text: string): string => `$TTL 60
@ IN SOA ns1.${zone}. hostmaster.${zone}. 1 3600 600 86400 60
${text.replace(/^ +/gm, '')}
`;

function configuration(folder: string, options: BindOptions, port: number): string {
  const { zones, keys = [], policy } = options;
  const named = keys.map(
    ({ name, algorithm, secret }) => `key "${name}" { algorithm ${algorithm}; secret "${secret}"; };`,
  );
  const update = policy === undefined ? 'allow-update { none; };' : `update-policy { ${policy} };`;
  const entries = Object.entries(zones).map(([zone, text]) =>
    text === undefined
      ? `zone "${zone}" { type secondary; primaries { 127.0.0.1 port 1; }; };`
      : `zone "${zone}" { type primary; file "${zone}.zone"; ${update} };`,
  );
  return `
    options {
      directory "${folder}"; pid-file none; session-keyfile none; managed-keys-directory "${folder}";
      listen-on port ${port} { ${OWN_ADDRESS}; }; listen-on-v6 { none; };
      recursion no; notify no; allow-transfer { none; }; dnssec-validation no; empty-zones-enable no;
      check-names primary ignore; check-integrity no; check-mx ignore;
    };
    controls {};
    ${named.join('\n')}
    ${entries.join('\n')}
  `;
}

async function dig(name: string, type: string, address: string, port: number): Promise<string[]> {
  const flags = ['+short', '+norecurse', '+time=5', '+tries=1', '-p', `${port}`, `@${address}`];
  const { stdout } = await promisify(execFile)('dig', [...flags, name, type]);
  return stdout.split('\n').filter((line) => line !== '' && !line.startsWith(';'));
}

/** Free for TCP and UDP on every loopback address. */
async function isFreeForDns(port: number): Promise<boolean> {
  if (!(await isFreeForTcp(port))) return false;
  const udp = createSocket('udp4').bind(port, '0.0.0.0');
  const isBound = await once(udp, 'listening').then(
    () => true,
    () => false,
  );
  if (isBound) await new Promise<void>((done) => udp.close(done));
  return isBound;
}
