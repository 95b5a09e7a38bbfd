/**
 * Real container engines for tests, each in a folder of its own with a socket of its own: Docker, Podman, and a registry that
 * they pull from. Ended by process id; nothing of them is left on the machine.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { isInstalled, isListening, startProgram } from './program.ts';

/** A shell with what the tests run in containers. */
export const IMAGE = 'contract/image:test';
const APPLETS = ['sh', 'sleep', 'echo', 'cat', 'id', 'true', 'nc', 'httpd', 'mount', 'ls', 'readlink', 'yes'];

const isRoot = process.getuid?.() === 0;
const hasShell = existsSync('/bin/busybox');

function reason(...programs: string[]): string | false {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length > 0) return `${missing.join(', ')} not installed`;
  if (!hasShell) return '/bin/busybox is not installed';
  return isRoot ? false : 'starting an engine needs root';
}

/** For `skip`: false, or why. */
export const withoutDocker = reason('dockerd', 'tar');
export const withoutPodman = reason('podman', 'runc', 'tar');
export const withoutRegistry = reason('docker-registry', 'tar');

export interface TestEngine extends AsyncDisposable {
  readonly socket: string;
  readonly pid: number;
  /** Asks the engine in its own words: what is done so has not passed this system. */
  api: (method: string, path: string, body?: unknown) => Promise<{ status: number; body: any }>;
  /** An image of the shell, with what Docker's `--change` takes. */
  addImage(reference: string, changes?: readonly string[]): Promise<void>;
}

interface DockerOptions {
  args?: readonly string[];
  /** In a network namespace of its own, where nothing is set up yet. */
  apart?: boolean;
}

export async function startDocker({ args = [], apart = false }: DockerOptions = {}): Promise<TestEngine> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-docker-'));
  const socket = join(folder, 'docker.sock');
  const command = [
    apart ? ['unshare', '--net'] : [],
    ['dockerd', '--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec')],
    ['--pidfile', join(folder, 'docker.pid'), '-H', `unix://${socket}`, '--storage-driver', 'vfs'],
    // Networks of one's own can be made all the same; nothing of the machine is changed.
    ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-masq=false'],
    args,
  ].flat();
  return startEngine({ folder, socket, command, signal: 'SIGTERM' });
}

/** What a node has to be set to; see `services.nodes_hardened`. */
export const HARDENED = ['--no-new-privileges', '--default-cgroupns-mode', 'private'];

/** A swarm of one node. Its ports are fixed: one at a time on a machine. */
export async function startSwarm(): Promise<TestEngine> {
  const docker = await startDocker({ args: HARDENED });
  const { api } = docker;
  const listen = { ListenAddr: `127.0.0.1:${await freePort()}`, AdvertiseAddr: '127.0.0.1' };
  const { status, body } = await api('POST', '/swarm/init', listen);
  if (status !== 200) throw new Error(`no swarm: ${JSON.stringify(body)}`);
  return { ...docker, [Symbol.asyncDispose]: () => endSwarm([docker]) };
}

/** @param nodes the manager first */
export async function endSwarm(nodes: readonly TestEngine[]): Promise<void> {
  const [manager] = nodes;
  const services = await manager?.api('GET', '/services');
  if (services?.status === 200)
    for (const { ID } of services.body) await manager?.api('DELETE', `/services/${ID}`);
  try {
    await eventually(async () => {
      const left = await Promise.all(nodes.map(({ api }) => api('GET', '/containers/json?all=true')));
      return left.every(({ body }) => body.length === 0) ? true : undefined;
    }, 'the end of the tasks');
  } finally {
    for (const node of nodes.toReversed()) {
      await node.api('POST', '/swarm/leave?force=true');
      await node.api('DELETE', '/networks/docker_gwbridge');
      await node[Symbol.asyncDispose]();
    }
  }
}

/** @param registries those that are asked without TLS */
export async function startPodman(registries: readonly string[] = []): Promise<TestEngine> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-podman-'));
  const socket = join(folder, 'podman.sock');
  const file = (name: string, lines: readonly string[]): string => {
    const path = join(folder, name);
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  };
  const path = (name: string) => JSON.stringify(join(folder, name));
  const env = {
    CONTAINERS_STORAGE_CONF: file('storage.conf', [
      '[storage]',
      'driver = "vfs"',
      `runroot = ${path('run')}`,
      `graphroot = ${path('graph')}`,
    ]),
    CONTAINERS_CONF: file('containers.conf', [
      '[engine]',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
      'runtime = "runc"',
      `tmp_dir = ${path('tmp')}`,
      '[network]',
      `network_config_dir = ${path('networks')}`,
      '[containers]',
      'log_driver = "k8s-file"',
      'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]',
    ]),
    CONTAINERS_REGISTRIES_CONF: file(
      'registries.conf',
      registries.flatMap((host) => ['[[registry]]', `location = ${JSON.stringify(host)}`, 'insecure = true']),
    ),
  };
  const command = ['podman', 'system', 'service', '--time=0', `unix://${socket}`];
  endNames(); // What a run that was killed left.
  const engine = await startEngine({ folder, socket, command, env, signal: 'SIGTERM' });
  return {
    ...engine,
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]();
      endNames();
    },
  };
}

/** Where Podman has the names of containers, whatever folders it is given, and the id of the program that answers for them. */
const NAMES = '/run/containers/networks/aardvark-dns';

/** Podman leaves that program, and the names of some containers that are gone: the next one would be told of them. */
function endNames(): void {
  const file = join(NAMES, 'aardvark.pid');
  const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  const environment = join('/proc', String(pid), 'environ');
  if (pid === 0 || !existsSync(environment)) return;
  const [, folder] =
    /^CONTAINERS_CONF=(.*\/ohp-podman-[^/]+)\//m.exec(
      readFileSync(environment, 'utf8').replaceAll('\0', '\n'),
    ) ?? [];
  // Another one's, or one of a test that goes on.
  if (folder === undefined || existsSync(folder)) return;
  try {
    process.kill(pid);
  } catch (cause) {
    // It has ended meanwhile.
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
  }
  rmSync(NAMES, { recursive: true, force: true });
}

interface Start {
  folder: string;
  socket: string;
  command: readonly string[];
  env?: object;
  signal: NodeJS.Signals;
}

async function startEngine({ folder, socket, command, env = {}, signal }: Start): Promise<TestEngine> {
  const program = startProgram(command, { cwd: folder, env });
  const api: TestEngine['api'] = (method, path, body) => ask(socket, { method, path, body });
  await program.until(async () => {
    const answer = await api('GET', '/version').catch(() => undefined);
    return answer?.status === 200 ? true : undefined;
  }, command[0] ?? 'the engine');
  const shell = shellArchive(folder);
  return {
    socket,
    pid: program.child.pid ?? 0,
    api,
    async addImage(reference, changes = []) {
      const [repo = '', tag = 'latest'] = reference.split(':');
      const fields = new URLSearchParams({ fromSrc: '-', repo, tag });
      for (const change of ['CMD ["/bin/sh"]', ...changes]) fields.append('changes', change);
      const made = await ask(socket, {
        method: 'POST',
        path: `/images/create?${fields.toString()}`,
        raw: shell,
      });
      const [id] = /sha256:[0-9a-f]{64}/.exec(JSON.stringify(made.body)) ?? [];
      if (id === undefined) throw new Error(`image not made: ${JSON.stringify(made.body)}`);
      // Podman gives it no name by itself.
      const { status } = await api('POST', `/images/${id}/tag?repo=docker.io/${repo}&tag=${tag}`);
      if (status !== 201) throw new Error(`image ${id} can't be named`);
    },
    async [Symbol.asyncDispose]() {
      const { body: found } = await api('GET', '/containers/json?all=true');
      for (const { Id } of found) await api('DELETE', `/containers/${Id}?force=true&v=true`);
      const { body: networks } = await api('GET', '/networks');
      for (const { Id, Name } of networks)
        if (Name.startsWith('ohp-')) await api('DELETE', `/networks/${Id}`);
      const gone = new Promise((resolve) => program.child.once('exit', resolve));
      if (program.child.exitCode === null) {
        program.child.kill(signal);
        await gone;
      }
      unmountIn(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** An engine that ends soon after it has left a swarm does not wait for the networks of that. */
function unmountIn(folder: string): void {
  const mounted = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((place) => place.startsWith(`${folder}/`));
  for (const place of mounted.reverse()) spawnSync('umount', ['-l', place]);
}

interface Ask {
  method: string;
  path: string;
  body?: unknown;
  raw?: Buffer;
}

function ask(socket: string, { method, path, body, raw }: Ask): Promise<{ status: number; body: any }> {
  const sent = raw ?? (body === undefined ? undefined : Buffer.from(JSON.stringify(body)));
  const headers = { host: 'engine', 'content-type': raw ? 'application/x-tar' : 'application/json' };
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath: socket, method, path, agent: false, headers }, (response) => {
      text(response).then((found) => {
        const status = response.statusCode ?? 0;
        try {
          resolve({ status, body: found === '' ? undefined : JSON.parse(found) });
        } catch {
          resolve({ status, body: found });
        }
      }, reject);
    });
    asking.on('error', reject);
    asking.end(sent);
  });
}

function shellArchive(folder: string): Buffer {
  const root = join(folder, 'shell');
  mkdirSync(join(root, 'bin'), { recursive: true });
  for (const name of ['tmp', 'etc', 'data']) mkdirSync(join(root, name));
  cpSync('/bin/busybox', join(root, 'bin/busybox'), { dereference: true });
  for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
  return tar(root);
}

function tar(root: string): Buffer {
  const made = spawnSync('tar', ['-C', root, '-c', '.'], { maxBuffer: 64 * 1024 * 1024 });
  if (made.status !== 0) throw new Error(made.stderr.toString());
  return made.stdout;
}

export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:5000` */
  readonly host: string;
  /** Of two layers. */
  addImage(repository: string, tag: string): Promise<void>;
}

/** Who may pull and push, with the password as bcrypt has it. */
export interface RegistryUser {
  username: string;
  password: string;
  hash: string;
}

/** @param user absent: everybody may */
export async function startRegistry(user?: RegistryUser, address = '127.0.0.1'): Promise<Registry> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-registry-'));
  const port = await freePort();
  const host = `${address}:${port}`;
  const config = join(folder, 'config.yml');
  const users = join(folder, 'htpasswd');
  writeFileSync(
    config,
    [
      'version: 0.1',
      'storage:',
      '  filesystem:',
      `    rootdirectory: ${JSON.stringify(join(folder, 'data'))}`,
      'http:',
      `  addr: ${host}`,
      ...(user ? ['auth:', '  htpasswd:', '    realm: test', `    path: ${JSON.stringify(users)}`] : []),
      '',
    ].join('\n'),
  );
  if (user) writeFileSync(users, `${user.username}:${user.hash}\n`);
  const headers = user && {
    authorization: `Basic ${Buffer.from(`${user.username}:${user.password}`).toString('base64')}`,
  };
  const program = startProgram(['docker-registry', 'serve', config], { cwd: folder });
  await program.until(() => isListening(port, address), 'the registry');
  return {
    host,
    addImage: (repository, tag) => push({ url: `http://${host}/v2/${repository}`, headers }, tag, folder),
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

interface Place {
  url: string;
  headers: Record<string, string> | undefined;
}

/** @see {@link https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push | OCI Distribution, Push} */
async function push({ url, headers = {} }: Place, tag: string, folder: string): Promise<void> {
  const layers = ['one', 'two'].map((name) => {
    const root = mkdtempSync(join(folder, 'layer-'));
    writeFileSync(join(root, name), `${name}\n`.repeat(10_000));
    return tar(root);
  });
  const config = Buffer.from(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      config: { Cmd: ['/one'] },
      rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
      history: layers.map(() => ({ created_by: 'test' })),
    }),
  );
  const blobs = [config, ...layers.map((layer) => gzipSync(layer))];
  for (const blob of blobs) {
    const begun = await fetch(`${url}/blobs/uploads/`, { method: 'POST', headers });
    const place = new URL(begun.headers.get('location') ?? '', url);
    place.searchParams.set('digest', digestOf(blob));
    await stored({ url: place.href, headers }, blob, 'application/octet-stream');
  }
  const [first, ...rest] = blobs.map((blob, index) => ({
    mediaType:
      index === 0
        ? 'application/vnd.docker.container.image.v1+json'
        : 'application/vnd.docker.image.rootfs.diff.tar.gzip',
    size: blob.length,
    digest: digestOf(blob),
  }));
  const mediaType = 'application/vnd.docker.distribution.manifest.v2+json';
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config: first, layers: rest }));
  await stored({ url: `${url}/manifests/${tag}`, headers }, manifest, mediaType);
}

async function stored({ url, headers }: Place, bytes: Buffer, type: string): Promise<void> {
  const reply = await fetch(url, {
    method: 'PUT',
    body: new Uint8Array(bytes),
    headers: { ...headers, 'content-type': type },
  });
  if (reply.status !== 201) throw new Error(await reply.text());
}
