/**
 * Caddy's ACME server (smallstep), a CA that is not Pebble. It validates on ports 80, 443 and 53 only, so it has a
 * network of its own, with a resolver of its own; Unix sockets, which know no networks, lead in and out.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { freePort } from './free-port.ts';
import { dnsServer, type TestDns, testDns } from './pebble.ts';
import { closed, isInstalled, relay, startProgram } from './program.ts';

const RESOLVER = '127.0.0.153';
/** Inside, where every port is free. */
const DNS_MANAGEMENT_PORT = 8055;
const NEW_NAMESPACES = ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child'];

const mayUnshare = (): boolean => {
  const [program = '', ...options] = NEW_NAMESPACES;
  return spawnSync(program, [...options, 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'ignore' }).status === 0;
};

/** For `skip`: false, or why. */
export const withoutCaddyCa =
  !(isInstalled('caddy') && isInstalled('pebble-challtestsrv') && isInstalled('ip') && mayUnshare()) &&
  'caddy, pebble-challtestsrv or ip is not installed here, or a network of its own is not allowed';

export interface CaddyCa extends AsyncDisposable {
  readonly directoryUrl: string;
  /** PEM of its root, which signs its own server's certificate too. */
  readonly trustPem: string;
  dns: TestDns;
}

export interface CaddyCaOptions {
  /** The ports of this machine's loopback where its requests to 80 and 443 arrive. */
  httpPort: number;
  tlsPort: number;
  /** A name server of this machine that answers it, over TCP; without, the DNS is the test's, by `dns`. */
  dnsServer?: { host: string; port: number };
}

export async function startCaddyCa(options: CaddyCaOptions): Promise<CaddyCa> {
  const { httpPort, tlsPort, dnsServer: ownServer } = options;
  const folder = mkdtempSync(join(tmpdir(), 'caddy-ca-'));
  const socket = (name: string) => join(folder, `${name}.sock`);
  const port = await freePort();
  writeFileSync(join(folder, 'Caddyfile'), caddyfile(folder, port));
  // Over TCP, which is what leads out.
  const overTcp = ownServer ? 'options use-vc\n' : '';
  writeFileSync(join(folder, 'resolv.conf'), `nameserver ${RESOLVER}\n${overTcp}`);
  writeFileSync(join(folder, 'hosts'), '127.0.0.1 localhost\n');
  writeFileSync(join(folder, 'inside.sh'), inside(folder, port, ownServer !== undefined));
  const pipes = [
    await relay({ path: socket('http') }, { port: httpPort, host: '127.0.0.1' }),
    await relay({ path: socket('tls') }, { port: tlsPort, host: '127.0.0.1' }),
    await relay({ port, host: '127.0.0.1' }, { path: socket('acme') }),
    ...(ownServer ? [await relay({ path: socket('resolver') }, ownServer)] : []),
  ];
  const program = startProgram([...NEW_NAMESPACES, 'sh', '-e', join(folder, 'inside.sh')], {
    cwd: folder,
    env: { XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
  });
  const rootFile = join(folder, 'data/pki/authorities/local/root.crt');
  const directoryUrl = `https://localhost:${port}/acme/local/directory`;
  await program.until(() => answers(directoryUrl, rootFile), "Caddy's ACME server");
  const manager = new Agent({ connect: { socketPath: socket('dns') } });
  return {
    directoryUrl,
    trustPem: readFileSync(rootFile, 'utf8'),
    dns: testDns(async (path, body) => {
      const reply = await request(`http://dns${path}`, { method: 'POST', body, dispatcher: manager });
      if (reply.statusCode !== 200) throw new Error(await reply.body.text());
      await reply.body.dump();
    }),
    async [Symbol.asyncDispose]() {
      await manager.destroy();
      await program[Symbol.asyncDispose]();
      for (const pipe of pipes) await closed(pipe);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const caddyfile = (folder: string, port: number): string => `{
  admin off
  storage file_system ${folder}/data
  http_port 15080
  https_port ${port}
  skip_install_trust
  auto_https disable_redirects
  pki {
    ca local {
      name "Loopback Test CA"
    }
  }
}
https://localhost:${port} {
  bind 127.0.0.1
  tls internal
  acme_server
}
`;

/** Caddy is the first process of its namespace: with it go all the others. */
const inside = (folder: string, port: number, hasResolver: boolean): string => `
ip link set lo up
mount --bind ${folder}/resolv.conf "$(readlink -f /etc/resolv.conf)"
mount --bind ${folder}/hosts /etc/hosts
${hasResolver ? '' : `${quoted(dnsServer(`${RESOLVER}:53`, DNS_MANAGEMENT_PORT))} &`}
${quoted([process.execPath, join(import.meta.dirname, 'caddy-relay.ts'), folder, port, hasResolver ? RESOLVER : '', DNS_MANAGEMENT_PORT])} &
exec caddy run --config ${folder}/Caddyfile --adapter caddyfile
`;

const quoted = (words: readonly (string | number)[]): string => words.map((word) => `'${word}'`).join(' ');

async function answers(url: string, rootFile: string): Promise<true | undefined> {
  if (!existsSync(rootFile)) return undefined;
  const agent = new Agent({ connect: { ca: readFileSync(rootFile, 'utf8') } });
  try {
    const reply = await request(url, { dispatcher: agent });
    await reply.body.dump();
    return reply.statusCode === 200 ? true : undefined;
  } catch {
    // Not up yet: asked again.
    return undefined;
  } finally {
    await agent.destroy();
  }
}
