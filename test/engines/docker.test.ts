/** A real Docker Engine: the contract in this process, and by the broker as its users run it; by TLS. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before, suite } from 'node:test';
import { makeCa, makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLog } from '../../src/core/record.ts';
import { engineContract, refusedAs } from '../../src/services/engine.contract.ts';
import { type EngineSettings, openEngine } from '../../src/services/open-engine.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { freePort } from '../support/free-port.ts';
import {
  IMAGE,
  type Registry,
  startDocker,
  startRegistry,
  type TestEngine,
  withoutDocker,
  withoutRegistry,
} from '../support/docker.ts';
import { isInstalled } from '../support/program.ts';
import { foreigner, policyOf } from './policy.ts';
import { type Registries, restrictedPulls, startRegistries } from './registries.contract.ts';

if (withoutDocker) test('a real Docker Engine', { skip: withoutDocker }, () => {});
else suite('a real Docker Engine', withDocker);

const open = (settings: EngineSettings) => openEngine(settings, { clock: systemClock, log: silentLog });

function withDocker(): void {
  const files = mkdtempSync(join(tmpdir(), 'ohp-docker-tls-'));
  const tls = isInstalled('openssl') ? certificates(files) : undefined;
  let docker: TestEngine;
  let registry: Registry | undefined;
  let registries: Registries | undefined;
  let broker: BrokerProcess;
  let host = '';
  before(async () => {
    if (!withoutRegistry) registry = await startRegistry();
    await registry?.addImage('contract/pulled', '1');
    if (registry) registries = await startRegistries(registry);
    host = `127.0.0.1:${await freePort()}`;
    docker = await startDocker({ args: tls ? [...tls.server, '-H', `tcp://${host}`] : [] });
    await docker.addImage(IMAGE);
    broker = await startBroker(docker.socket, { images: policyOf(registry?.host).images });
  });
  after(async () => {
    await broker[Symbol.asyncDispose]();
    await docker[Symbol.asyncDispose]();
    await registries?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
    rmSync(files, { recursive: true, force: true });
  });

  const common = () => ({
    image: IMAGE,
    pullable: registry && `${registry.host}/contract/pulled:1`,
    networks: true,
    addForeign: foreigner(docker),
  });
  const here = () => open({ docker: { socket: docker.socket }, policy: policyOf(registry?.host) });
  // What the server's own settings say of the engine and the policy counts for nothing.
  const there = () =>
    open({
      docker: { socket: '/nowhere' },
      broker: { socket: broker.socket },
      policy: policyOf(undefined, { images: [] }),
    });
  engineContract('Docker', async () => ({ ...common(), engine: here() }));
  engineContract('Docker behind the broker', async () => ({ ...common(), engine: there() }));
  restrictedPulls(() => ({ engine: docker, registries }));

  test('the socket of the broker is for its own user alone, and it says who changed what, without values', async () => {
    assert.equal(statSync(broker.socket).mode & 0o777, 0o600);
    const name = 'ohp-broker-log';
    const { id } = await there().create({ name, image: IMAGE, environment: { SECRET: 'canary-value' } });
    await there().remove(id);
    assert.match(broker.printed(), /create ohp-broker-log: OK/);
    assert.doesNotMatch(broker.printed(), /canary/);
  });

  test('an engine elsewhere is asked by TLS, with certificates on both sides, and mounts no folder', async (t) => {
    if (!tls) return t.skip('openssl is not installed');
    const policy = policyOf(undefined, { folder: files });
    const engine = open({ docker: { socket: '/nowhere', host, ...tls.client }, policy });
    const state = await engine.ping();
    assert.ok(state.connected, JSON.stringify(state));
    const mounts = [{ kind: 'folder', source: '.', target: '/data' }] as const;
    await assert.rejects(
      engine.create({ name: 'ohp-tls', image: IMAGE, mounts: [...mounts] }),
      refusedAs('INVALID_INPUT', /not on the machine of the engine/),
    );
    for (const wrong of [tls.strangerToUs, tls.strangerToThem])
      await assert.rejects(
        open({ docker: { socket: '/nowhere', host, ...wrong }, policy }).list({ all: true }),
        refusedAs('UNAVAILABLE'),
      );
  });
}

/** Of an authority for both sides, and of another. */
function certificates(folder: string) {
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const [ours, theirs] = [makeCa('/CN=Authority'), makeCa('/CN=Another authority')];
  const leaf = (name: string, ca: typeof ours, usage: string) => {
    const { certificatePem, keyPem } = makeLeaf([], ca, {
      subject: `/CN=${name}`,
      extensions: ['subjectAltName=DNS:localhost,IP:127.0.0.1', `extendedKeyUsage=${usage}`],
    });
    return { cert: write(`${name}.pem`, certificatePem), key: write(`${name}.key`, keyPem) };
  };
  const server = leaf('server', ours, 'serverAuth');
  const client = leaf('client', ours, 'clientAuth');
  const stranger = leaf('stranger', theirs, 'clientAuth');
  const [ca, otherCa] = [write('ca.pem', ours.certificatePem), write('other.pem', theirs.certificatePem)];
  const settings = (caFile: string, { cert, key }: typeof client) => ({
    ca_file: caFile,
    cert_file: cert,
    key_file: key,
  });
  return {
    server: ['--tlsverify', '--tlscacert', ca, '--tlscert', server.cert, '--tlskey', server.key],
    client: settings(ca, client),
    strangerToUs: settings(otherCa, client),
    strangerToThem: settings(ca, stranger),
  };
}
