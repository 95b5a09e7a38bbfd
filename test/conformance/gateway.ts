/**
 * The suite through the gateway, in front of a server made of the SDK alone: every scenario has to come out as it does
 * without us. And the suite against ourselves: the whole product with the fixtures, gate and gateway included.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApp, type Overrides } from '../../src/app.ts';
import { loadConfig } from '../../src/config/load.ts';
import { system } from '../../src/core/principal.ts';
import { operations } from '../../src/operations.ts';
import { extendWithFixtures } from './fixtures.ts';
import type { Target } from './forwarder.ts';
import { runConformance, runScenarios } from './run.ts';
import { startSdkPeer } from './sdk-peer.ts';

const TOKEN = 'administrator-token-of-the-conformance-run';
const PEER_HOST = 'peer.example.test';

export async function conformanceOfProduct(print: (line: string) => void): Promise<boolean> {
  await using product = await startApp({ extendMcp: extendWithFixtures });
  return await runConformance({ url: `http://localhost:${product.httpPort}/mcp`, token: TOKEN }, print);
}

/** True when nothing differs, however the client comes to the gateway. */
export async function conformanceThroughGateway(print: (line: string) => void): Promise<boolean> {
  await using peer = await startSdkPeer();
  await using product = await startApp({});
  await product.createProxy(PEER_HOST, new URL(peer.url).origin);
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
  const secure = {
    url: `https://${PEER_HOST}:${httpsPort}/mcp`,
    token: TOKEN,
    ca,
    host: `${PEER_HOST}:${httpsPort}`,
  };
  return {
    'plain HTTP': { url: `http://127.0.0.1:${httpPort}/mcp`, token: TOKEN, host: PEER_HOST },
    'HTTP/1.1 over TLS': { ...secure, protocol: 'HTTP/1.1' },
    'HTTP/2': { ...secure, protocol: 'HTTP/2' },
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
    async createProxy(hostname: string, target: string) {
      const create = operations.find(({ name }) => name === 'create_proxy');
      if (!create) throw new Error('there is no create_proxy');
      const input = {
        hostname,
        target_url: target,
        redirect_to_https: false,
        preserve_host: false,
        serve_mcp: false,
      };
      const signal = new AbortController().signal;
      await app.dispatch(create, input, {
        principal: system,
        signal,
        traceId: 'conformance',
        surface: 'internal',
        clientAddress: undefined,
      });
    },
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]();
      rmSync(dataDir, { recursive: true });
    },
  };
}
