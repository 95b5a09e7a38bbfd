/**
 * What a TLS handshake costs, full and resumed, beside nginx with the same certificate, group and cipher: CPU of the
 * server per handshake, in alternating order, both on one core and the client on the other. The client is Node's own;
 * it asks for nothing and hangs up. nginx logs no handshake, and neither do we at level info.
 * Usage: node tools/run.mjs bench/handshakes.ts [rounds] [handshakes]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type ConnectionOptions } from 'node:tls';
import { freePort } from '../test/support/free-port.ts';
import { ClientPki } from '../test/support/client-pki.ts';
import { eventually } from '../test/support/eventually.ts';
import { isListening } from '../test/support/program.ts';
import { makeCertificate } from './certificate.ts';
import { cpuMicroseconds, printTable, spread } from './measure.ts';
import { LOAD_CORE, MEASURED_CORE, pin, startProduct } from './product.ts';

const ROUNDS = Number(process.argv[2] ?? 5);
const HANDSHAKES = Number(process.argv[3] ?? 1000);
const AT_ONCE = 8;
const OPEN = 'open.example.com';
const CLOSED = 'closed.example.com';

const pki = new ClientPki();
const root = pki.root('Bench Root');
const client = root.issue('client');
const folder = mkdtempSync(join(tmpdir(), 'handshakes-'));
const certificate = makeCertificate(folder, OPEN);
const closedCertificate = { cert: join(folder, 'closed.pem'), key: join(folder, 'closed.key') };
{
  const at = mkdtempSync(join(folder, 'closed-'));
  const { cert, key } = makeCertificate(at, CLOSED);
  writeFileSync(closedCertificate.cert, readFileSync(cert));
  writeFileSync(closedCertificate.key, readFileSync(key));
}

interface Peer {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
}

interface Scenario {
  readonly name: string;
  readonly version: 'TLSv1.2' | 'TLSv1.3';
  readonly isResumed?: boolean;
  readonly servername?: string;
  /** nginx of Debian 12 has no hybrid groups. */
  readonly isOursOnly?: boolean;
  readonly more?: ConnectionOptions;
}

const scenarios: readonly Scenario[] = [
  { name: 'TLS 1.3, full', version: 'TLSv1.3' },
  { name: 'TLS 1.3, resumed', version: 'TLSv1.3', isResumed: true },
  { name: 'TLS 1.2, full', version: 'TLSv1.2' },
  { name: 'TLS 1.2, resumed', version: 'TLSv1.2', isResumed: true },
  {
    name: 'TLS 1.3, full, client certificate',
    version: 'TLSv1.3',
    servername: CLOSED,
    more: { cert: client.pem, key: client.key },
  },
  {
    name: 'TLS 1.3, full, X25519MLKEM768',
    version: 'TLSv1.3',
    isOursOnly: true,
    more: { ecdhCurve: 'X25519MLKEM768' },
  },
];

async function startNginx(): Promise<Peer & { child: ChildProcess }> {
  const port = await freePort();
  const caFile = join(folder, 'clients.pem');
  writeFileSync(caFile, root.pem);
  const block = (name: string, { cert, key }: typeof certificate, more = '') =>
    `server { listen 127.0.0.1:${port} ssl; server_name ${name}; ssl_certificate ${cert}; ssl_certificate_key ${key}; ${more} return 204; }`;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log; events { worker_connections 4096; }
     http { access_log off; ${temporary.join(' ')} ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;
     ${block(OPEN, certificate)} ${block(CLOSED, closedCertificate, `ssl_client_certificate ${caFile}; ssl_verify_client on;`)} }`,
  );
  const child = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' });
  await eventually(() => isListening(port), 'nginx');
  pin(child.pid ?? 0, MEASURED_CORE);
  for (const pid of readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' '))
    pin(Number(pid), MEASURED_CORE);
  return { name: 'nginx', pid: child.pid ?? 0, port, child };
}

async function shake(
  port: number,
  { version, servername = OPEN, more }: Scenario,
  session?: Buffer,
): Promise<Buffer | undefined> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    servername,
    rejectUnauthorized: false,
    minVersion: version,
    maxVersion: version,
    // In TLS 1.2 the curve of the certificate has to be among them.
    ecdhCurve: version === 'TLSv1.2' ? 'X25519:P-256' : 'X25519',
    ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256',
    ...(session && { session }),
    ...more,
  });
  let fresh: Buffer | undefined;
  socket.on('session', (given: Buffer) => (fresh ??= Buffer.from(given)));
  await once(socket, 'secureConnect');
  if (session && !socket.isSessionReused()) throw new Error('the session was not resumed');
  // With the ticket, the server has finished; of a resumed one it is not awaited.
  if (!session && servername === OPEN && fresh === undefined) await once(socket, 'session');
  fresh ??= socket.getSession();
  socket.resume().end();
  await once(socket, 'close');
  return fresh;
}

async function measure({ port, pid }: Peer, scenario: Scenario): Promise<number> {
  const session = scenario.isResumed ? await shake(port, scenario) : undefined;
  const run = async (count: number) => {
    let left = count;
    const one = async () => {
      while (left-- > 0) await shake(port, scenario, session);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
  };
  await run(HANDSHAKES / 4);
  const before = cpuMicroseconds(pid);
  await run(HANDSHAKES);
  return (cpuMicroseconds(pid) - before) / HANDSHAKES;
}

const pemOf = ({ cert, key }: typeof certificate) => ({
  certificate_pem: readFileSync(cert, 'utf8'),
  private_key_pem: readFileSync(key, 'utf8'),
});

pin(process.pid, LOAD_CORE);
const nginx = await startNginx();
const product = await startProduct();
try {
  const target_url = 'http://127.0.0.1:9';
  await product.ask('POST', '/v1/proxies', { hostname: OPEN, target_url });
  for (const one of [certificate, closedCertificate])
    await product.ask('POST', '/v1/certificates', pemOf(one));
  const ours: Peer = { name: 'ours', pid: product.pid, port: product.httpsPort };
  const rows: string[][] = [['handshake', 'ours, CPU µs', 'nginx, CPU µs', 'ours ÷ nginx']];
  const results = new Map<string, number[]>();
  const keep = (key: string, value: number) => results.set(key, [...(results.get(key) ?? []), value]);
  const row = ({ name, isOursOnly = false }: Scenario) => {
    const [mine = [], theirs = []] = ['ours', 'nginx'].map((peer) => results.get(`${peer} ${name}`));
    const ratios = mine.map((value, round) => value / (theirs[round] ?? Number.NaN));
    rows.push([name, spread(mine), isOursOnly ? '' : spread(theirs), isOursOnly ? '' : spread(ratios, 2)]);
  };
  const rounds = async (scenario: Scenario) => {
    for (let round = 0; round < ROUNDS; round++)
      for (const peer of round % 2 === 0 ? [ours, nginx] : [nginx, ours])
        if (peer === ours || !scenario.isOursOnly)
          keep(`${peer.name} ${scenario.name}`, await measure(peer, scenario));
    row(scenario);
  };
  for (const scenario of scenarios.filter(({ servername }) => servername === undefined))
    await rounds(scenario);
  await product.ask('POST', '/v1/proxies', {
    hostname: CLOSED,
    target_url,
    client_auth: { mode: 'require', ca_pem: root.pem },
  });
  for (const scenario of scenarios.filter(({ servername }) => servername !== undefined))
    await rounds(scenario);
  await rounds({
    name: 'TLS 1.3, full, of a host beside one that asks for certificates',
    version: 'TLSv1.3',
  });
  printTable(rows);
} finally {
  await product[Symbol.asyncDispose]();
  nginx.child.kill('SIGTERM');
  await once(nginx.child, 'exit');
  rmSync(folder, { recursive: true });
  pki[Symbol.dispose]();
}
