/**
 * docs/guides/metrics.md and the dashboard that ships, with a real Prometheus: it scrapes the product on both ways while there is traffic,
 * and every expression of the dashboard is asked of it.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { catalog } from '../../src/metrics/catalog.ts';
import { accessTo } from '../support/agent.ts';
import { callTool, configFile, generous } from '../support/callers.ts';
import { handshake } from '../support/handshake.ts';
import { startModernServer, type McpUpstream } from '../support/mcp-servers.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { asAdministrator, Guide, runShell } from '../support/guide.ts';
import { type Product, startProduct } from '../support/product.ts';
import { isInstalled, type Program, startProgram } from '../support/program.ts';
import { startUpstream, type Upstream } from '../support/upstream.ts';

const guide = new Guide('metrics');
const HOST = 'app.example.com';
const skip =
  isInstalled('prometheus') && isInstalled('promtool') ? false : 'prometheus and promtool are not installed';

interface Panel {
  id: number;
  title: string;
  type: string;
  datasource?: { uid: string };
  targets?: { refId: string; expr: string }[];
}
interface Dashboard {
  uid: string;
  schemaVersion: number;
  panels: Panel[];
  templating: { list: { name: string; type: string }[] };
}

const dashboard = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../docs/grafana/oauth-https-proxy.json'), 'utf8'),
) as Dashboard;
const expressions = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }) => ({ title, expr })),
);

/** Metrics of what does not happen in this test. */
const quiet = /ohp_target_/;

const TOOLS_HOST = 'tools.example.com';
/** In all that strangers may choose freely. */
const CHOSEN = 'zq-chosen-by-a-stranger';
const STRANGERS = 20;

/** As Grafana fills them in. */
const filledIn = (expr: string): string =>
  expr.replaceAll('$__rate_interval', '1m').replaceAll('$host', '.*');

describe('the dashboard', () => {
  test('has what Grafana needs to load it: an id, one id for each panel, a data source to choose', () => {
    assert.match(dashboard.uid, /^[a-z-]{1,40}$/);
    assert.ok(dashboard.schemaVersion >= 36);
    const ids = dashboard.panels.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    assert.deepEqual(
      dashboard.templating.list.map(({ name, type }) => [name, type]),
      [
        ['datasource', 'datasource'],
        ['host', 'query'],
      ],
    );
    for (const { type, title, datasource, targets } of dashboard.panels) {
      if (type === 'row') continue;
      assert.equal(datasource?.uid, '${datasource}', title);
      assert.ok(targets && targets.length > 0, title);
    }
  });

  test('names metrics that there are, and leaves out none of those that this system has', () => {
    const text = expressions.map(({ expr }) => expr).join('\n');
    const named = new Set(
      [...text.matchAll(/\b(?:ohp|process|nodejs)_\w+/g)].map(([name]) =>
        name in catalog ? name : name.replace(/_(?:bucket|sum|count)$/, ''),
      ),
    );
    assert.deepEqual(
      [...named].filter((name) => !(name in catalog)),
      [],
    );
    const unused = Object.keys(catalog).filter((name) => name.startsWith('ohp_') && !named.has(name));
    // It marks the changes.
    assert.deepEqual(unused, ['ohp_snapshot_generation']);
  });
});

test("what is at /metrics of a served hostname is its target's, and the listener is no target", async () => {
  await using upstream = await startUpstream();
  await using product = await startProduct({ env: { OHP_METRICS_LISTEN: '127.0.0.1:0' } });
  await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url });
  assert.equal((await product.get(HOST, '/metrics')).body, 'upstream saw GET /metrics');
  assert.equal((await product.get('localhost', '/metrics')).status, 401);
  const target_url = new URL(metricsUrlOf(product)).origin;
  const { status, body } = await product.api('POST', '/v1/proxies', {
    hostname: 'loop.example.com',
    target_url,
  });
  assert.equal(status, 400);
  assert.match(body.error.message, /served by this system itself/);
});

const metricsUrlOf = (product: Product): string =>
  /Metrics +(\S+)/.exec(product.output())?.[1] ?? assert.fail('no URL of metrics is printed');

describe('with a real Prometheus', { skip }, () => {
  let folder: string;
  let upstream: Upstream;
  let tools: McpUpstream;
  let product: Product;
  let prometheus: Program;
  let metricsUrl: string;
  let query: (expr: string) => Promise<{ metric: Record<string, string>; value: [number, string] }[]>;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ohp-prometheus-'));
    upstream = await startUpstream((request, response) => {
      response.statusCode = request.url === '/fails' ? 500 : 200;
      response.end('hello');
    });
    tools = await startModernServer();
    const acme = {
      email: 'ops@example.com',
      issuers: [{ name: 'away', directory: 'https://localhost:1/directory' }],
    };
    const settings = { ...generous, acme, metrics: { listen: '127.0.0.1:0' } };
    product = await startProduct({ env: { OHP_CONFIG: configFile(settings) } });
    metricsUrl = metricsUrlOf(product);
    await product.api('POST', '/v1/proxies', { hostname: HOST, target_url: upstream.url });
    await traffic();
    await rareTraffic();
    await tokenByTheGuide();
    const port = await freePort();
    prometheus = startPrometheus(port);
    query = (expr) => ask(port, expr);
    await prometheus.until(
      async () => ((await query('sum(up)'))[0]?.value[1] === '2' ? true : undefined),
      'two jobs',
    );
    await traffic();
    // A rate needs two scrapes.
    await eventually(
      async () =>
        Number((await query('count_over_time(up{job="ohp"}[1m])'))[0]?.value[1]) >= 3 ? true : undefined,
      'three scrapes',
    );
  });

  after(async () => {
    await prometheus?.[Symbol.asyncDispose]();
    await Promise.all([
      product?.[Symbol.asyncDispose](),
      upstream?.[Symbol.asyncDispose](),
      tools?.[Symbol.asyncDispose](),
    ]);
    rmSync(folder, { recursive: true, force: true });
  });

  const env = () => ({
    ...asAdministrator(product),
    METRICS_URL: metricsUrl,
    TOKEN_FILE: join(folder, 'token'),
  });

  async function traffic() {
    for (let i = 0; i < 3; i++) assert.equal((await product.get(HOST, '/x')).status, 200);
    assert.equal((await product.get(HOST, '/fails', { method: 'POST', body: 'abc' })).status, 500);
    const stranger = await product.api('GET', '/v1/proxies', undefined, {
      authorization: 'Bearer nobody',
      accept: 'application/json',
    });
    assert.equal(stranger.status, 401);
    await callTool(product, product.adminToken, { name: 'list_proxies', args: {}, era: 'legacy' });
    await callTool(product, product.adminToken, { name: 'list_proxies', args: {}, era: 'modern' });
  }

  /** Tools behind a proxy, the sign-in, an order at a CA that is away, handshakes that fail; with what strangers make up. */
  async function rareTraffic() {
    const made = await product.api('POST', '/v1/proxies', {
      hostname: TOOLS_HOST,
      target_url: tools.url,
      serve_mcp: false,
    });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    const mcp = { default: 'allow', tools: [{ name: 'delete_archive', deny: true }] };
    const protectedBy = await product.api('PUT', `/v1/proxies/${TOOLS_HOST}/protection`, {
      mode: 'bearer',
      allow: { everyone: true },
      mcp,
    });
    assert.equal(protectedBy.status, 200, JSON.stringify(protectedBy.body));
    const { token } = await accessTo(product, `https://${TOOLS_HOST}:${product.httpsPort}/mcp`);
    const strange = Array.from({ length: STRANGERS }, (_, i) => `${CHOSEN}-${i}`);
    for (const name of ['read_ticket', 'delete_archive', ...strange]) {
      const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: {} } };
      await product.get(TOOLS_HOST, '/mcp', {
        method: 'POST',
        body: JSON.stringify(message),
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
      });
    }
    for (const name of strange) {
      await product.get('localhost', '/oauth/token', {
        method: 'POST',
        body: new URLSearchParams({ grant_type: name, client_id: name, code: name }).toString(),
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      });
      await assert.rejects(handshake(product, `${name}.example.org`));
    }
    const ordered = await product.api('POST', '/v1/certificate-orders', { names: [HOST], issuer: 'away' });
    assert.ok(ordered.status < 300, JSON.stringify(ordered.body));
  }

  async function tokenByTheGuide() {
    const ran = await runShell(guide.block('bash', 'npx ohp create token'), { env: env() });
    assert.equal(ran.code, 0, ran.err);
    assert.match(ran.out, /^ohp_build_info\{version="[^"]+"\} 1$/m);
  }

  /** The guide's own file, but for what differs here: ports, paths, and how often it looks. */
  function startPrometheus(port: number): Program {
    const { pathname, host } = { pathname: join(product.dataDir, 'ca.pem'), host: new URL(metricsUrl).host };
    const config = guide
      .block('yaml', 'scrape_configs')
      .replace('15s', '200ms')
      .replace('127.0.0.1:9464', host)
      .replace('localhost:8443', `localhost:${product.httpsPort}`)
      .replace('/etc/prometheus/ohp-token', join(folder, 'token'))
      .replace('/path/to/data/ca.pem', pathname);
    writeFileSync(join(folder, 'prometheus.yml'), config);
    return startProgram(
      [
        'prometheus',
        '--config.file=prometheus.yml',
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--enable-feature=exemplar-storage',
        '--log.level=warn',
      ],
      { cwd: folder },
    );
  }

  async function ask(port: number, expr: string, path = 'query') {
    const answer = await fetch(
      `http://127.0.0.1:${port}/api/v1/${path}?query=${encodeURIComponent(expr)}`,
    ).catch(() => undefined);
    // It does not listen yet, or is not ready.
    if (!answer?.headers.get('content-type')?.includes('json')) return [];
    const body = (await answer.json()) as { status: string; error?: string; data: { result: never[] } };
    assert.equal(body.status, 'success', `${expr}: ${body.error}`);
    return body.data.result;
  }

  test('promtool has nothing to say about the names and the text', async () => {
    const text = await (await fetch(metricsUrl)).text();
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    assert.deepEqual([checked.status, checked.stdout, checked.stderr], [0, '', '']);
  });

  test("promtool takes the guide's file for a configuration", () => {
    const checked = spawnSync('promtool', ['check', 'config', join(folder, 'prometheus.yml')], {
      encoding: 'utf8',
    });
    assert.equal(checked.status, 0, checked.stdout + checked.stderr);
  });

  test('tools, sign-ins, orders and failed handshakes are counted by names of ours, whatever strangers call them', async () => {
    const text = await (await fetch(metricsUrl)).text();
    const linesOf = (name: string) => text.split('\n').filter((line) => line.startsWith(`${name}{`));
    const calls = 'ohp_mcp_upstream_tool_calls_total';
    const host = `host="${TOOLS_HOST}"`;
    assert.ok(
      linesOf(calls).includes(`${calls}{${host},tool="read_ticket",outcome="OK"} 1`),
      linesOf(calls).join(),
    );
    assert.match(linesOf(calls).join(), /tool="other",outcome="FORBIDDEN"\} 1\b/);
    const counted = linesOf('ohp_mcp_upstream_tool_duration_seconds_count');
    assert.ok(
      counted.includes(`ohp_mcp_upstream_tool_duration_seconds_count{${host},tool="read_ticket"} 1`),
      counted.join(),
    );
    assert.deepEqual(linesOf('ohp_oauth_tokens_granted_total'), [
      'ohp_oauth_tokens_granted_total{grant_type="authorization_code"} 1',
    ]);
    assert.match(linesOf('ohp_oauth_refusals_total').join(), /endpoint="token"/);
    assert.match(linesOf('ohp_acme_orders').join(), /state="\w+"\} [1-9]/);
    assert.match(text, /^ohp_acme_failures_total [1-9]/m);
    assert.match(linesOf('ohp_tls_handshake_failures_total').join(), /\{code="\w+"\} \d+/);
    for (const name of [calls, 'ohp_oauth_refusals_total', 'ohp_tls_handshake_failures_total'])
      assert.ok(linesOf(name).length < STRANGERS / 2, linesOf(name).join('\n'));
    assert.ok(!text.includes(CHOSEN));
  });

  for (const job of ['ohp', 'ohp-by-token'])
    test(`what was asked of the product is what Prometheus counts, as ${job}`, async () => {
      const counted = async () => {
        const rows = await query(`ohp_http_requests_total{job="${job}", host="${HOST}"}`);
        return rows
          .map(({ metric, value }) => `${metric.kind} ${metric.method} ${metric.status} ${value[1]}`)
          .sort();
      };
      const wanted = ['proxied GET 2xx 6', 'proxied POST 5xx 2'];
      const found = await eventually(
        async () => {
          const rows = await counted();
          return rows.join() === wanted.join() ? rows : undefined;
        },
        `${wanted.join()} instead of ${(await counted()).join()}`,
      );
      assert.deepEqual(found, wanted);
    });

  test('the duration of a request has its trace id, which is that of its record', async () => {
    const url = new URL(`http://${new URL(metricsUrl).host}/metrics`);
    const text = await (await fetch(url, { headers: { accept: 'application/openmetrics-text' } })).text();
    const [, trace = ''] =
      new RegExp(`_bucket\\{host="${HOST}".*# \\{trace_id="([0-9a-f]{32})"\\}`).exec(text) ?? [];
    const found = await eventually(async () => {
      const { body } = await product.api('GET', `/v1/logs?trace_id=${trace}&kind=access`);
      return body.records?.[0];
    }, `a record of ${trace}`);
    assert.equal(found.hostname, HOST);
  });

  test('every panel of the dashboard shows what happened', async () => {
    const empty: string[] = [];
    for (const { title, expr } of expressions)
      if ((await query(filledIn(expr))).length === 0 && !quiet.test(expr)) empty.push(`${title}: ${expr}`);
    assert.ok(expressions.length > 50);
    assert.deepEqual(empty, []);
  });

  test('each expression of the guide for alerts can be asked', async () => {
    const lines = guide.block('promql', 'rate(').trim().split('\n');
    assert.equal(lines.length, 5);
    for (const line of lines) await query(line);
  });

  test('the commands of the guide do what it says', async () => {
    const open = await runShell(guide.block('bash', '"$METRICS_URL"'), { env: env() });
    assert.match(open.out, /^ohp_build_info\{/m, open.err);
    const probes = await runShell(guide.block('bash', '/readyz'), { env: env() });
    assert.equal(probes.out, 'ok\nok\n', probes.err);
    assert.equal(statSync(join(folder, 'token')).mode & 0o777, 0o600);
  });
});
