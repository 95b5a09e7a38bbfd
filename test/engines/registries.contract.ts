/** Credentials of registries on a real engine, behind the broker: with a real registry that asks, and a stranger that listens. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { systemClock } from '../../src/core/clock.ts';
import { AppError } from '../../src/core/errors.ts';
import { silentLog } from '../../src/core/record.ts';
import { type EngineSettings, openEngine } from '../../src/services/open-engine.ts';
import { startBroker } from '../support/broker.ts';
import { type Registry, startRegistry, type TestEngine, withoutRegistry } from '../support/docker.ts';
import { closed } from '../support/program.ts';
import { policyOf } from './policy.ts';

const user = {
  username: 'canary-user',
  password: 'canary-password',
  hash: '$2b$04$fc34FckN7cMwYk2qIVj9PO9a0WSVFPr9nVBz.OaSCzZOrAo1xdl96',
};

export interface Registries extends AsyncDisposable {
  /** Asks who pulls. */
  readonly restricted: Registry;
  readonly stranger: Stranger;
}

interface Stranger extends AsyncDisposable {
  readonly host: string;
  /** The head of each request, with what `authorization` says. */
  readonly heard: string[];
  /** From now on it asks everybody for a credential, and takes none. */
  ask(): void;
}

/** @param open what the stranger has */
export async function startRegistries(open: Registry): Promise<Registries> {
  const restricted = await startRegistry(user);
  await restricted.addImage('contract/restricted', '1');
  const stranger = await startStranger(open);
  return {
    restricted,
    stranger,
    async [Symbol.asyncDispose]() {
      await stranger[Symbol.asyncDispose]();
      await restricted[Symbol.asyncDispose]();
    },
  };
}

async function startStranger(behind: Registry): Promise<Stranger> {
  const heard: string[] = [];
  let asks = false;
  const server = createServer((asking, answer) => {
    const { authorization = '' } = asking.headers;
    const credential = Buffer.from(authorization.replace(/^\w+ /, ''), 'base64').toString();
    heard.push([...asking.rawHeaders, credential].join(' '));
    if (asks) {
      answer.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
      return;
    }
    const { url = '/', method, headers } = asking;
    const further = request(`http://${behind.host}${url}`, { method, headers, agent: false }, (found) => {
      answer.writeHead(found.statusCode ?? 502, found.headers);
      found.pipe(answer);
    });
    further.on('error', () => answer.destroy());
    asking.pipe(further);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    heard,
    ask: () => (asks = true),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await closed(server);
    },
  };
}

interface Given {
  engine: TestEngine;
  registries: Registries | undefined;
}

export function restrictedPulls(open: () => Given): void {
  test('credentials of a registry reach that registry, from the settings of the broker, and no other', {
    skip: withoutRegistry,
  }, async (t) => {
    const { engine, registries } = open();
    assert.ok(registries);
    const { restricted, stranger } = registries;
    const folder = mkdtempSync(join(tmpdir(), 'ohp-registries-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'password');
    writeFileSync(file, `${user.password}\n`);
    await using broker = await startBroker(engine.socket, {
      images: [restricted, stranger].map(everything),
      registries: { [restricted.host]: { username: user.username, password_file: file } },
    });
    const policy = policyOf(restricted.host);
    const image = `${restricted.host}/contract/restricted:1`;
    const refused = (error: unknown) => error instanceof AppError && !/canary/.test(error.message);

    await assert.rejects(pull({ docker: { socket: engine.socket }, policy }, image), refused);
    const behind: EngineSettings = {
      docker: { socket: '/nowhere' },
      broker: { socket: broker.socket },
      policy,
    };
    await pull(behind, image);
    writeFileSync(file, 'canary-wrong\n');
    await assert.rejects(pull(behind, image), refused, 'read at each pull');

    writeFileSync(file, `${user.password}\n`);
    const theirs = `${stranger.host}/contract/pulled:1`;
    await pull(behind, theirs);
    stranger.ask();
    const before = stranger.heard.length;
    await assert.rejects(pull(behind, theirs), refused);
    assert.ok(stranger.heard.length > before);
    for (const said of [...stranger.heard, broker.printed()]) assert.doesNotMatch(said, /canary/);
  });
}

const everything = ({ host }: { host: string }): string => `${host}/**`;

async function pull(settings: EngineSettings, image: string): Promise<void> {
  const engine = openEngine(settings, { clock: systemClock, log: silentLog });
  for await (const _ of engine.pullImage(image, {}));
}
