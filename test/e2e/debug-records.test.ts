/** `set_log_level(component, debug)`: each component then tells what it does and why, until it is set back. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { type AdjustableComponent, adjustableComponents } from '../../src/logs/levels.ts';
import { callTool, configFile, generous, send } from '../support/callers.ts';
import { eventually } from '../support/eventually.ts';
import { type Product, startProduct } from '../support/product.ts';
import { startUpstream } from '../support/upstream.ts';

const started = new Date().toISOString();
const HOST = 'app.example.com';
const upstream = await startUpstream();
const product = await startProduct({
  env: { OHP_CONFIG: configFile(generous), OHP_DOCKER_SOCKET: '/no/such/docker.sock' },
});
test.after(async () => {
  await product[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});
await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url });

/** Makes a component work, and says what its record has to tell. One for each, or this does not compile. */
const work: Record<AdjustableComponent, [act: (product: Product) => Promise<unknown>, tells: RegExp]> = {
  gateway: [(on) => on.get(HOST, '/x'), /forwardProxied.*"proxy":"prx_/],
  tls: [(on) => on.get(HOST, '/x'), /TLSv1\.3.*app\.example\.com/],
  mcp: [openSession, /session.*opened.*2025-06-18/],
  certificates: [
    async (on) => {
      await on.api('PATCH', `/v1/proxies/${HOST}`, { idle_timeout_ms: 1000 });
      await on.get(HOST, '/x');
    },
    /app\.example\.com.*crt_/,
  ],
  store: [
    (on) => on.api('PATCH', `/v1/proxies/${HOST}`, { idle_timeout_ms: 2000 }),
    /change committed.*waited_ms/,
  ],
  services: [(on) => on.api('GET', '/v1/services'), /docker\.sock/],
  commands: [(on) => on.api('POST', '/v1/commands', { command: 'uptime' }), /\/uptime.*exit 0/],
  oauth: [(on) => send(on, { path: '/.well-known/openid-configuration' }), /localhost.*openid-configuration/],
  system: [(on) => on.api('GET', '/v1/health'), /health.*store/],
};

async function openSession(on: Product): Promise<void> {
  const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'c', version: '1' } };
  const body = { jsonrpc: '2.0', id: 1, method: 'initialize', params };
  const headers = { accept: 'application/json, text/event-stream' };
  const { status } = await send(on, { method: 'POST', path: '/mcp', token: on.adminToken, headers, body });
  assert.equal(status, 200);
}

interface Shown {
  level: string;
  kind: string;
  component?: string;
  message: string;
  detail?: unknown;
}
const IMPLIED: Record<string, string> = { access: 'gateway' };
const componentOf = ({ kind, component }: Shown) => component ?? IMPLIED[kind] ?? kind;

/** Records of requests and operations, of which there are many, are never of level debug. */
async function debugRecords(since: string): Promise<Shown[]> {
  const pages = ['system', 'tls', 'mcp'].map((kind) =>
    product.api('GET', `/v1/logs?kind=${kind}&level=debug&verbose=true&lines=1000&since=${since}`),
  );
  const records = (await Promise.all(pages)).flatMap(({ body }) => body.records as Shown[]);
  return records.filter(({ level }) => level === 'debug');
}
const setLevel = async (component: string, level: string) =>
  assert.equal((await product.api('PUT', `/v1/log-levels/${component}`, { level })).status, 200);

test('unless it is asked for, nothing is told at level debug', async () => {
  for (const [act] of Object.values(work)) await act(product);
  await callTool(product, product.adminToken, { name: 'echo', args: { message: 'x' } });
  assert.deepEqual(await debugRecords(started), []);
});

for (const component of adjustableComponents)
  test(`at level debug ${component} tells what it does, and only ${component}`, async () => {
    const since = new Date().toISOString();
    const [act, tells] = work[component];
    await setLevel(component, 'debug');
    const found = await eventually(async () => {
      await act(product);
      const fresh = await debugRecords(since);
      return fresh.some((record) => tells.test(JSON.stringify(record))) ? fresh : undefined;
    }, `a debug record of ${component}`);
    await setLevel(component, 'info');
    assert.deepEqual([...new Set(found.map(componentOf))], [component]);
  });
