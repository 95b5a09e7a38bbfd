/** A swarm of two nodes, each a real Docker in a network namespace of its own, on one bridge of this machine. */
import { spawnSync } from 'node:child_process';
import {
  endSwarm,
  HARDENED,
  IMAGE,
  startDocker,
  startRegistry,
  type TestEngine,
  withoutDocker,
  withoutRegistry,
} from './docker.ts';
import { isInstalled } from './program.ts';

const BRIDGE = 'ohp-swarm';
const MACHINE = '10.213.77.1';
/** The manager's and the worker's. */
export const NODES = ['10.213.77.2', '10.213.77.3'] as const;
const PORT = 2377;

/** For `skip`: false, or why. */
export const withoutNodes = withoutDocker || withoutRegistry || withoutNetworks();

function withoutNetworks(): string | false {
  const missing = ['ip', 'nsenter', 'unshare'].filter((program) => !isInstalled(program));
  if (missing.length > 0) return `${missing.join(', ')} not installed`;
  const probe = 'ip link add dev br0 type bridge && ip link add dev veth0 type veth peer name veth1';
  const { status } = spawnSync('unshare', ['--net', 'sh', '-c', probe], { stdio: 'ignore' });
  return status === 0 ? false : 'no network namespaces and bridges can be made here';
}

export interface SwarmNodes extends AsyncDisposable {
  readonly manager: TestEngine;
  readonly worker: TestEngine;
  /** A registry that both reach; its image `contract/image:test` is at the manager. */
  readonly registry: string;
}

export async function startSwarmNodes(): Promise<SwarmNodes> {
  unlink(); // What a run that was killed left.
  await using left = new AsyncDisposableStack();
  left.defer(unlink);
  run(
    `ip link add ${BRIDGE} type bridge`,
    `ip addr add ${MACHINE}/24 dev ${BRIDGE}`,
    `ip link set ${BRIDGE} up`,
  );
  const registry = left.use(await startRegistry(undefined, MACHINE));
  const args = [...HARDENED, '--insecure-registry', registry.host];
  const nodes: TestEngine[] = [];
  left.defer(() => endSwarm(nodes));
  const start = async (address: string): Promise<TestEngine> => {
    const docker = await startDocker({ args, apart: true });
    nodes.push(docker);
    plug(docker, address);
    return docker;
  };
  const manager = await start(NODES[0]);
  await asked(manager, '/swarm/init', at(NODES[0]));
  const worker = await start(NODES[1]);
  const { body } = await manager.api('GET', '/swarm');
  const join = { RemoteAddrs: [`${NODES[0]}:${PORT}`], JoinToken: body.JoinTokens.Worker };
  await asked(worker, '/swarm/join', { ...at(NODES[1]), ...join });
  await pushImage(manager, registry.host);
  const all = left.move();
  return { manager, worker, registry: registry.host, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** What was never in a registry would run at the manager only. */
async function pushImage(manager: TestEngine, host: string): Promise<void> {
  await manager.addImage(IMAGE);
  const [name, tag] = IMAGE.split(':');
  const repository = `${host}/${name}`;
  await manager.api('POST', `/images/${IMAGE}/tag?repo=${repository}&tag=${tag}`);
  await asked(manager, `/images/${repository}/push?tag=${tag}`, {});
}

const at = (address: string) => ({ ListenAddr: `${address}:${PORT}`, AdvertiseAddr: address });

async function asked({ api }: TestEngine, path: string, body: object): Promise<void> {
  const answer = await api('POST', path, body);
  if (answer.status !== 200) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
}

function plug({ pid }: TestEngine, address: string): void {
  const name = `ohp-n${pid}`;
  const inside = `nsenter --net=/proc/${pid}/ns/net ip`;
  run(
    `ip link add ${name} type veth peer name eth0 netns ${pid}`,
    `ip link set ${name} master ${BRIDGE} up`,
    `${inside} link set lo up`,
    `${inside} addr add ${address}/24 dev eth0`,
    `${inside} link set eth0 up`,
  );
}

/** The other ends go with their namespaces. */
const unlink = (): void => void spawnSync('ip', ['link', 'delete', BRIDGE]);

function run(...commands: readonly string[]): void {
  for (const command of commands) {
    const { status, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command}: ${stderr}`);
  }
}
