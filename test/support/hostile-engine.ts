/**
 * A container engine by Docker's API that does as it is told, and in which strangers wrote every text that they can: what a
 * container says, its health check, names beside it, labels, and the words with which the engine refuses.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json as jsonOf } from 'node:stream/consumers';
import { every, payloads } from './hostile-text.ts';

const CREATED = '2026-01-01T00:00:00Z';
const IMAGE_ID = `sha256:${'a'.repeat(64)}`;

interface Made {
  readonly id: string;
  readonly name: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- as it was sent
  readonly body: any;
  running: boolean;
}

interface Refusal {
  readonly status: number;
  /** What is asked: the method, a space, and the path without version and query. */
  readonly of: RegExp;
}

export interface HostileEngine extends AsyncDisposable {
  readonly socket: string;
  /** Of all containers from now on. */
  health: 'healthy' | 'unhealthy';
  mountType: 'bind' | 'volume';
  /** From now on, until it is undefined again. */
  refusal: Refusal | undefined;
  /** What a registry says while an image is pulled; undefined: it comes. */
  pullError: string | undefined;
}

export async function startHostileEngine(): Promise<HostileEngine> {
  const folder = mkdtempSync(join(tmpdir(), 'ohp-hostile-engine-'));
  const socket = join(folder, 'engine.sock');
  const made = new Map<string, Made>();
  const networks: object[] = [];
  const state: Pick<HostileEngine, 'health' | 'mountType' | 'refusal' | 'pullError'> = {
    health: 'healthy',
    mountType: 'volume',
    refusal: undefined,
    pullError: undefined,
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  }).listen(socket);
  await once(server, 'listening');

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    const { pathname, searchParams } = new URL(url.replace(/^\/v[\d.]+/, ''), 'http://engine');
    const asked = `${method} ${decodeURIComponent(pathname)}`;
    const give = (value: unknown, status = 200) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (state.refusal?.of.test(asked)) return void give({ message: every }, state.refusal.status);
    if (asked === 'GET /version')
      return void give({ Version: '27.0', ApiVersion: '1.44', MinAPIVersion: '1.24' });
    if (asked === 'GET /containers/json') return void give([...made.values()].map(listed));
    if (asked === 'GET /networks') return void give([...networks, ...payloads.map(network)]);
    if (asked === 'POST /networks/create') {
      const { Name, Labels } = (await jsonOf(request)) as { Name: string; Labels: object };
      networks.push({ Id: Name, Name, Driver: 'bridge', Labels });
      return void give({ Id: Name }, 201);
    }
    if (asked === 'GET /images/json') return void give([]);
    if (asked.startsWith('GET /images/')) return void give(image());
    if (asked === 'POST /images/create') return pull(response);
    if (asked === 'POST /containers/create') {
      const id = String(made.size).padStart(64, 'c');
      const name = searchParams.get('name') ?? '';
      made.set(id, { id, name, body: await jsonOf(request), running: false });
      return void give({ Id: id, Warnings: [every] }, 201);
    }
    if (asked === 'GET /events') return response.writeHead(200).flushHeaders();
    return ofContainer(asked, response, give);
  }

  function ofContainer(
    asked: string,
    response: ServerResponse,
    give: (value: unknown, status?: number) => void,
  ) {
    const [, method, ref, verb = ''] = /^(\w+) \/containers\/([^/]+)(?:\/(\w+))?$/.exec(asked) ?? [];
    const one = [...made.values()].find(({ id, name }) => id === ref || name === ref);
    if (!one) return give({ message: every }, 404);
    if (verb === 'json') return give(inspected(one, state));
    if (verb === 'logs') return void response.writeHead(200).end(Buffer.concat(payloads.map(frame)));
    if (method === 'DELETE') made.delete(one.id);
    else one.running = verb !== 'stop';
    response.writeHead(204).end();
  }

  function pull(response: ServerResponse): void {
    const lines = [{ id: every, status: every }, ...payloads.map((status) => ({ status }))];
    const last = state.pullError === undefined ? [] : [{ error: state.pullError }];
    response.writeHead(200).end([...lines, ...last].map((line) => `${JSON.stringify(line)}\n`).join(''));
  }

  return Object.assign(state, {
    socket,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  });
}

const listed = ({ id, name, body, running }: Made) => ({
  Id: id,
  Names: [`/${name}`],
  Image: body.Image,
  ImageID: IMAGE_ID,
  State: running ? 'running' : 'exited',
  Status: every,
  Created: 1_767_225_600,
  Labels: { ...body.Labels, [every]: every },
  Ports: [],
});

const inspected = (
  { id, name, body, running }: Made,
  { health, mountType }: Pick<HostileEngine, 'health' | 'mountType'>,
) => ({
  Id: id,
  Name: `/${name}`,
  Created: CREATED,
  Image: IMAGE_ID,
  RestartCount: 0,
  State: {
    Status: running ? 'running' : 'exited',
    Running: running,
    ExitCode: 0,
    Error: every,
    OOMKilled: false,
    StartedAt: CREATED,
    FinishedAt: '0001-01-01T00:00:00Z',
    Health: { Status: health, Log: [{ Output: every }] },
  },
  Config: { Image: body.Image, Env: [`${every}=x`], Labels: body.Labels, User: every, Tty: false },
  HostConfig: { RestartPolicy: { Name: every } },
  NetworkSettings: { Networks: { [every]: { IPAddress: every, Aliases: [every] } }, Ports: {} },
  Mounts: [{ Type: mountType, Name: every, Source: every, Destination: every, RW: true }],
});

const image = () => ({
  Id: IMAGE_ID,
  RepoTags: payloads,
  RepoDigests: payloads,
  Size: 1,
  Created: CREATED,
  Architecture: every,
  Os: every,
  Config: { Labels: { [every]: every }, User: every, Entrypoint: [every], Cmd: [every], Env: [every] },
});

const network = (payload: string, i: number) => ({
  Id: `n${i}`,
  Name: payload,
  Driver: payload,
  Labels: { [payload]: payload },
});

/** Of a log, as Docker frames it. */
function frame(payload: string, i: number): Buffer {
  const text = Buffer.from(`${CREATED} ${payload}\n`);
  const head = Buffer.alloc(8);
  head.writeUInt8(1 + (i % 2));
  head.writeUInt32BE(text.length, 4);
  return Buffer.concat([head, text]);
}
