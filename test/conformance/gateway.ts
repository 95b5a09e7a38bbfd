/**
 * The suite through the gateway, in front of a server made of the SDK alone: every scenario has to come out as it does
 * without us. And the suite against ourselves: the whole product with the fixtures, gate and gateway included.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type App, createApp, type Overrides } from '../../src/app.ts';
import { loadConfig } from '../../src/config/load.ts';
import { system } from '../../src/core/principal.ts';
import { operations } from '../../src/operations.ts';
import { extendWithFixtures } from './fixtures.ts';
import type { Target } from './forwarder.ts';
import { runConformance, runScenarios } from './run.ts';
import { startSdkPeer } from './sdk-peer.ts';

const TOKEN = 'administrator-token-of-the-conformance-run';
const PEER_HOST = 'peer.example.test';
/** The same server behind a policy whose rules for tools allow all. */
const RULED_HOST = 'ruled.example.test';

export async function conformanceOfProduct(print: (line: string) => void): Promise<boolean> {
  await using product = await startApp({ extendMcp: extendWithFixtures });
  return await runConformance({ url: `http://localhost:${product.httpPort}/mcp`, token: TOKEN }, print);
}

/** True when nothing differs, however the client comes to the gateway. */
export async function conformanceThroughGateway(print: (line: string) => void): Promise<boolean> {
  await using peer = await startSdkPeer();
  await using product = await startApp({});
  await product.createProxy(PEER_HOST, new URL(peer.url).origin);
  await product.createProxy(RULED_HOST, new URL(peer.url).origin);
  await product.allowEveryTool(RULED_HOST);
  const direct = await runScenarios({ url: peer.url, token: TOKEN });
  let passed = direct.size > 0;
  for (const [way, target] of Object.entries(waysTo(product))) {
    const through = await runScenarios(target);
    const differences = [...direct].filter(([scenario, score]) => through.get(scenario) !== score);
    for (const [scenario, score] of differences)
      print(
        `through the gateway, ${way}, ${scenario}: ${through.get(scenario) ?? 'missing'}; without it: ${score}`,
      );
    const isSame = differences.length === 0 && through.size === direct.size;
    print(
      `conformance through the gateway, ${way}: ${isSame ? 'passed' : 'FAILED'} (${direct.size} scenarios, ${differences.length} differ)`,
    );
    passed &&= isSame;
  }
  return passed;
}

function waysTo({ httpPort, httpsPort, ca }: Awaited<ReturnType<typeof startApp>>): Record<string, Target> {
  const secureAt = (host: string) => ({
    url: `https://${host}:${httpsPort}/mcp`,
    token: TOKEN,
    ca,
    host: `${host}:${httpsPort}`,
  });
  const secure = secureAt(PEER_HOST);
  return {
    'plain HTTP': { url: `http://127.0.0.1:${httpPort}/mcp`, token: TOKEN, host: PEER_HOST },
    'HTTP/1.1 over TLS': { ...secure, protocol: 'HTTP/1.1' },
    'HTTP/2': { ...secure, protocol: 'HTTP/2' },
    'with rules for tools that allow all': { ...secureAt(RULED_HOST), protocol: 'HTTP/1.1' },
  };
}

async function startApp(overrides: Overrides) {
  const dataDir = mkdtempSync(join(tmpdir(), 'ohp-conformance-'));
  const variables = {
    OHP_DATA_DIR: dataDir,
    OHP_HTTP_PORT: '0',
    OHP_HTTPS_PORT: '0',
    OHP_ADMIN_TOKEN: TOKEN,
  };
  const app = await createApp(await loadConfig(variables, String), overrides);
  return {
    httpPort: Number(new URL(app.facts.urls.plain ?? '').port),
    httpsPort: Number(new URL(app.facts.urls.secure).port),
    ca: readFileSync(join(dataDir, 'ca.pem'), 'utf8'),
    createProxy: (hostname: string, target: string) =>
      run(app, 'create_proxy', {
        hostname,
        target_url: target,
        redirect_to_https: false,
        preserve_host: false,
        serve_mcp: false,
      }),
    async allowEveryTool(hostname: string) {
      const { tokens } = await run(app, 'list_tokens', {});
      const clients = (tokens as { id: string }[]).map(({ id }) => id);
      await run(app, 'protect_proxy', {
        hostname,
        mode: 'bearer',
        allow: { clients },
        mcp: { default: 'allow' },
      });
    },
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]();
      rmSync(dataDir, { recursive: true });
    },
  };
}

function run({ dispatch }: App, name: string, input: object): Promise<Record<string, unknown>> {
  const operation = operations.find((one) => one.name === name);
  if (!operation) throw new Error(`there is no ${name}`);
  return dispatch(operation, input, {
    principal: system,
    signal: new AbortController().signal,
    traceId: 'conformance',
    surface: 'internal',
    clientAddress: undefined,
  });
}
